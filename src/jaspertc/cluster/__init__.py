"""Work on many processes and machines, over Ray Data: ``embed`` and ``teach``."""
