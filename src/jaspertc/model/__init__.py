"""The forward pass: compress, attend, pool, project. No input or output here."""
