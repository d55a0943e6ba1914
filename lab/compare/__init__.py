"""Speed of a model against other ways of computing it, and the limits of the machine."""
