"""Placeholder until the subcommand is written."""


def graft() -> None:
    """Not written yet."""
    raise NotImplementedError
