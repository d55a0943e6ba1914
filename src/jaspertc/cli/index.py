"""Placeholder until the subcommand is written."""


def index() -> None:
    """Not written yet."""
    raise NotImplementedError
