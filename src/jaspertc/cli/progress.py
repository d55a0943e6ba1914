"""What commands say on the way, on standard error: lines, and a bar for work on many texts."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import typer

SECONDS_BETWEEN_UPDATES = 0.1


def say(line: str) -> None:
    """A line on standard error."""
    typer.echo(line, err=True)


@contextmanager
def progress(name: str, total: int | None, *, percent: bool = False) -> Iterator[Callable[[int], None]]:
    """A bar on standard error, if that is a terminal, with the time left; gives what to tell of work done.

    Args:
        total: of what is told; ``None`` if it is not known.
        percent: show that share, in place of numbers.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    done = TaskProgressColumn() if percent else MofNCompleteColumn()
    columns = (TextColumn("{task.description}", markup=False), BarColumn(), done, TimeRemainingColumn())
    # The time left is estimated from updates, and a step can take minutes.
    bar = Progress(*columns, console=console, disable=not console.is_terminal, speed_estimate_period=600)
    with bar:
        task = bar.add_task(name, total=total)
        waiting, shown = 0, time.monotonic()

        def advance(count: int) -> None:
            nonlocal waiting, shown
            waiting += count
            if time.monotonic() - shown >= SECONDS_BETWEEN_UPDATES:
                bar.update(task, advance=waiting)
                waiting, shown = 0, time.monotonic()

        yield advance
        bar.update(task, advance=waiting)
