"""The ``jaspertc`` command: one module a subcommand, one line each here."""

import os
import sys
import warnings

import typer

from jaspertc.cli.bench import bench as bench_command
from jaspertc.cli.clean import clean as clean_command
from jaspertc.cli.demo import demo as demo_command
from jaspertc.cli.distil import distil as distil_command
from jaspertc.cli.embed import embed as embed_command
from jaspertc.cli.evaluate import evaluate as evaluate_command
from jaspertc.cli.export import export as export_command
from jaspertc.cli.graft import graft as graft_command
from jaspertc.cli.index import index as index_command
from jaspertc.cli.inspect import inspect as inspect_command
from jaspertc.cli.lengths import lengths as lengths_command
from jaspertc.cli.mine import mine as mine_command
from jaspertc.cli.optimize import optimize as optimize_command
from jaspertc.cli.plan import plan as plan_command
from jaspertc.cli.report import report as report_command
from jaspertc.cli.search import search as search_command
from jaspertc.cli.serve import serve as serve_command
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
app.command(name="serve")(serve_command)
app.command(name="graft")(graft_command)
app.command(name="export")(export_command)
app.command(name="optimize")(optimize_command)
app.command(name="clean")(clean_command)
app.command(name="lengths")(lengths_command)
app.command(name="teach")(teach_command)
app.command(name="mine")(mine_command)
app.command(name="plan")(plan_command)
app.command(name="distil")(distil_command)
app.command(name="evaluate")(evaluate_command)
app.command(name="report")(report_command)
app.command(name="bench")(bench_command)
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
