"""Placeholder until the subcommand is written."""


def embed() -> None:
    """Not written yet."""
    raise NotImplementedError
