"""Placeholder until the subcommand is written."""


def demo() -> None:
    """Not written yet."""
    raise NotImplementedError
