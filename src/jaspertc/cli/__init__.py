"""The ``jaspertc`` command: one module a subcommand, one line each here."""

import os
import sys
import warnings

import typer

from jaspertc.cli.demo import demo as demo_command
from jaspertc.cli.embed import embed as embed_command
from jaspertc.cli.graft import graft as graft_command
from jaspertc.cli.index import index as index_command
from jaspertc.cli.inspect import inspect as inspect_command
from jaspertc.cli.search import search as search_command
from jaspertc.cli.teach import teach as teach_command
from jaspertc.errors import JasperError

app = typer.Typer(
    name="jaspertc",
    help="Jasper token-compression text embeddings: embed, search, graft, teach; the ratio is a dial.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command(name="embed")(embed_command)
app.command(name="inspect")(inspect_command)
app.command(name="index")(index_command)
app.command(name="search")(search_command)
app.command(name="graft")(graft_command)
app.command(name="teach")(teach_command)
app.command(name="demo")(demo_command)


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    print(f"jaspertc: warning: {message}", file=sys.stderr)


def main() -> None:
    """Run the command; a mistake is one line on standard error and exit status 1, never a traceback."""
    warnings.showwarning = _show_warning
    try:
        app()
    except JasperError as error:
        print(f"jaspertc: error: {error}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("jaspertc: interrupted", file=sys.stderr)
        sys.exit(130)
    except BrokenPipeError:  # the reader of our output left (| head)
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(141)
