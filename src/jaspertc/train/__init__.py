"""Training: one loop for all stages of the report."""
