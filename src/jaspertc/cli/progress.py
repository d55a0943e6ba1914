"""What commands say on the way, on standard error: lines, and bars for work on many texts."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Literal

import typer

from jaspertc.cli.terminal import visible

if TYPE_CHECKING:
    from rich.progress import Progress

SECONDS_BETWEEN_UPDATES = 0.1


quiet: ContextVar[bool] = ContextVar("quiet", default=False)  # set by the option --quiet


def say(line: str) -> None:
    """A line on standard error, unless the command is to be quiet."""
    if not quiet.get():
        typer.echo(visible(line), err=True)


def warn(line: str) -> None:
    """A warning on standard error, also of a quiet command."""
    typer.echo(f"warning: {visible(line)}", err=True)


def write(line: object) -> None:
    """A line of the result, on standard output."""
    typer.echo(visible(line))


def bars(
    *, percent: bool = False, note: bool = False, clock: Literal["left", "elapsed"] | None = "left"
) -> "Progress":
    """Rich's bars on standard error, if that is a terminal; a context manager.

    Args:
        percent: show the share that is done, in place of numbers.
        note: each task has a field of this name, which is shown behind the numbers.
        clock: the time to show.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    columns: list[ProgressColumn] = [TextColumn("{task.description}", markup=False), BarColumn()]
    columns.append(TaskProgressColumn() if percent else MofNCompleteColumn())
    if note:
        columns.append(TextColumn("{task.fields[note]}", markup=False))
    if clock is not None:
        columns.append(TimeRemainingColumn() if clock == "left" else TimeElapsedColumn())
    console = Console(stderr=True)
    # The time left is estimated from updates, and a step can take minutes.
    disable = quiet.get() or not console.is_terminal
    return Progress(*columns, console=console, disable=disable, speed_estimate_period=600)


@contextmanager
def progress(
    name: str, total: int | None, *, done: int = 0, unit: str | None = None, percent: bool = False
) -> Iterator[Callable[[int], None]]:
    """A bar on standard error, if that is a terminal, with the time left; gives what to tell of work done.

    Args:
        total: of what is told; ``None`` if it is not known.
        done: of the total, before.
        unit: of what is told, such as texts; also shows how many a second.
        percent: show the share that is done, in place of numbers.
    """
    with bars(percent=percent, note=unit is not None) as shown:
        task = shown.add_task(visible(name), total=total, completed=done, note="")
        started = updated = time.monotonic()
        here = waiting = 0

        def update() -> None:
            note = f"{here / max(time.monotonic() - started, 1e-9):.4g} {unit}/s"
            shown.update(task, advance=waiting, note=note)

        def advance(count: int) -> None:
            nonlocal here, waiting, updated
            here, waiting = here + count, waiting + count
            if time.monotonic() - updated >= SECONDS_BETWEEN_UPDATES:
                update()
                waiting, updated = 0, time.monotonic()

        yield advance
        update()
