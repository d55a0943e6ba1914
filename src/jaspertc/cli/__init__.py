"""The ``jaspertc`` command: one module a subcommand, one line each here."""

import errno
import io
import logging
import sys
import warnings
from typing import Annotated

import typer

from jaspertc.cli.bench import bench as bench_command
from jaspertc.cli.clean import clean as clean_command
from jaspertc.cli.command import INTERRUPTED, as_command, print_version
from jaspertc.cli.demo import demo as demo_command
from jaspertc.cli.distil import distil as distil_command
from jaspertc.cli.embed import embed as embed_command
from jaspertc.cli.evaluate import evaluate as evaluate_command
from jaspertc.cli.export import export as export_command
from jaspertc.cli.graft import graft as graft_command
from jaspertc.cli.index import index as index_command
from jaspertc.cli.inspect import inspect as inspect_command
from jaspertc.cli.lengths import lengths as lengths_command
from jaspertc.cli.matryoshka import matryoshka as matryoshka_command
from jaspertc.cli.mine import mine as mine_command
from jaspertc.cli.optimize import optimize as optimize_command
from jaspertc.cli.plan import plan as plan_command
from jaspertc.cli.report import report as report_command
from jaspertc.cli.search import search as search_command
from jaspertc.cli.serve import serve as serve_command
from jaspertc.cli.teach import teach as teach_command
from jaspertc.cli.terminal import visible
from jaspertc.errors import JasperError

app = typer.Typer(
    name="jaspertc",
    help="Jasper token-compression text embeddings: embed, search, graft, teach; the ratio is a dial.",
    epilog="Exit status: 0 done, 1 a mistake or a failure (one line says which), 2 wrong usage, "
    "130 interrupted, 141 the reader of the output left.",
    no_args_is_help=True,
    rich_markup_mode=None,  # markup would eat what stands in brackets
    pretty_exceptions_enable=False,
)


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option("--version", help="Print the version and exit.", callback=print_version, is_eager=True),
    ] = False,
) -> None:
    pass


app.command(name="embed")(as_command(embed_command))
app.command(name="inspect")(as_command(inspect_command))
app.command(name="index")(as_command(index_command))
app.command(name="search")(as_command(search_command))
app.command(name="serve")(as_command(serve_command))
app.command(name="graft")(as_command(graft_command))
app.command(name="export")(as_command(export_command))
app.command(name="optimize")(as_command(optimize_command))
app.command(name="clean")(as_command(clean_command))
app.command(name="lengths")(as_command(lengths_command))
app.command(name="teach")(as_command(teach_command))
app.command(name="mine")(as_command(mine_command))
app.command(name="plan")(as_command(plan_command))
app.command(name="distil")(as_command(distil_command))
app.command(name="matryoshka")(as_command(matryoshka_command))
app.command(name="evaluate")(as_command(evaluate_command))
app.command(name="report")(as_command(report_command))
app.command(name="bench")(as_command(bench_command))
app.command(name="demo")(as_command(demo_command))


def _show_warning(message: Warning | str, *_: object, **__: object) -> None:
    print(f"jaspertc: warning: {visible(message)}", file=sys.stderr)


class _Visible(logging.Formatter):
    def format(self, record: logging.LogRecord) -> str:
        return visible(super().format(record), keep="\n")


def main() -> None:
    """Run the command; a mistake is one line on standard error and exit status 1, never a traceback."""
    warnings.showwarning = _show_warning
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_Visible("jaspertc: %(message)s"))
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # a terminal that knows few characters
    try:
        sys.exit(app(prog_name="jaspertc", standalone_mode=False))
    except JasperError as error:
        print(f"jaspertc: error: {visible(error)}", file=sys.stderr)
        sys.exit(1)
    except OSError as error:
        if error.errno != errno.ENAMETOOLONG:
            raise
        name = visible(error.filename)
        print(
            f"jaspertc: error: {name}: a file cannot have so long a name; give a shorter one", file=sys.stderr
        )
        sys.exit(1)
    except (KeyboardInterrupt, typer.Abort):
        print("jaspertc: interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except Exception as error:
        if not hasattr(error, "format_message"):
            raise
        shown = io.StringIO()  # click's own, which quotes what was given
        error.show(shown)  # type: ignore[attr-defined]
        print(visible(shown.getvalue(), keep="\n").rstrip(), file=sys.stderr)
        sys.exit(getattr(error, "exit_code", 2))
