"""Placeholder until the subcommand is written."""


def inspect() -> None:
    """Not written yet."""
    raise NotImplementedError
