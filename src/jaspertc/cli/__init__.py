"""The ``jaspertc`` command: one module a subcommand, one line each here."""

import os
import sys

import typer

from jaspertc.cli import demo, embed, graft, index, inspect, search
from jaspertc.errors import JasperError

app = typer.Typer(
    name="jaspertc",
    help="Jasper token-compression text embeddings: embed, search and graft, with the ratio as a dial.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.command(name="embed")(embed.embed)
app.command(name="inspect")(inspect.inspect)
app.command(name="index")(index.index)
app.command(name="search")(search.search)
app.command(name="graft")(graft.graft)
app.command(name="demo")(demo.demo)


def main() -> None:
    """Run the command; a mistake is one line on standard error and exit status 1, never a traceback."""
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
