"""From texts to teachers' vectors, kept in a cache, and from those to the targets of training."""
