"""Scores of models on MTEB's tasks and on local ones, the compression sweep, and the report."""
