"""Placeholder until the subcommand is written."""


def search() -> None:
    """Not written yet."""
    raise NotImplementedError
