"""What every command has: ``--quiet``, a line at the end of long work, and an end without a traceback."""

import functools
import inspect
import os
import sys
import time
from collections.abc import Callable
from typing import Annotated, Any

import typer

from jaspertc.cli.progress import quiet as quiet_command
from jaspertc.cli.progress import say
from jaspertc.errors import torch_needed_for

INTERRUPTED, READER_LEFT = 130, 141  # as a shell counts SIGINT and SIGPIPE
LONG_SECONDS = 10.0

Quiet = Annotated[bool, typer.Option("--quiet", help="Nothing on standard error but warnings and errors.")]


def as_command(function: Callable[..., None]) -> Callable[..., None]:
    """``function`` with an option ``--quiet``, if it has none of its own."""
    signature = inspect.signature(function)
    takes_quiet = "quiet" in signature.parameters

    @functools.wraps(function)
    def command(**options: Any) -> None:
        token = quiet_command.set(options["quiet"] if takes_quiet else options.pop("quiet"))
        started = time.monotonic()
        try:
            with torch_needed_for(f"jaspertc {function.__name__}"):
                function(**options)
            sys.stdout.flush()
        except BrokenPipeError:  # the reader of our output left (| head)
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise typer.Exit(READER_LEFT) from None
        else:
            _say_time(function.__name__, time.monotonic() - started)
        finally:
            quiet_command.reset(token)

    if not takes_quiet:
        quiet = inspect.Parameter("quiet", inspect.Parameter.KEYWORD_ONLY, default=False, annotation=Quiet)
        given = signature.parameters.values()
        command.__signature__ = signature.replace(parameters=[*given, quiet])  # type: ignore[attr-defined]
        command.__annotations__ = {**function.__annotations__, "quiet": Quiet}
    return command


def _say_time(name: str, seconds: float) -> None:
    if seconds >= LONG_SECONDS:
        from jaspertc.reports.numbers import duration

        say(f"jaspertc {name}: done in {duration(seconds / 3600)}")


def print_version(wanted: bool) -> None:
    """The callback of ``--version``."""
    if wanted:
        from jaspertc import __version__

        typer.echo(f"jaspertc {__version__}")
        raise typer.Exit
