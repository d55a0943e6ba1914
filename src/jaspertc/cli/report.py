"""``jaspertc report``: results as one HTML page and a Markdown file."""

from pathlib import Path
from typing import Annotated

import typer

from jaspertc.cli.progress import write


def report(
    results: Annotated[
        Path, typer.Argument(metavar="RESULTS", help="The output folder of `jaspertc evaluate`.")
    ],
    output: Annotated[
        Path,
        typer.Option(help="Where to write, without an ending: .html, .md and a folder of pictures are made."),
    ],
    title: Annotated[str | None, typer.Option(help="The heading; default: the model's name.")] = None,
    table: Annotated[
        list[Path] | None,
        typer.Option(help="A JSON file with title, columns and rows, shown as a further table. Repeatable."),
    ] = None,
    texts: Annotated[
        bool, typer.Option(help="Show the similarity map's sentences; they are under their task's licence.")
    ] = True,
) -> None:
    """Make a page of results: tables, quality-latency curves, a similarity map, and how to reproduce them.

    The HTML needs no other file and no network.
    """
    from jaspertc.evaluation.report import write_report

    for path in write_report(results, output, title=title, more=table or (), texts=texts):
        write(path)
