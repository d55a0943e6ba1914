"""Fast inference: the public ``Embedder`` and what it runs on."""
