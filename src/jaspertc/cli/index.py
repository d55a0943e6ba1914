"""``jaspertc index``: put texts of files into a search index."""

from pathlib import Path
from typing import Annotated

import typer

from jaspertc.cli.options import ModelOption, Runtime


def index(
    files: Annotated[list[Path], typer.Argument(help=".txt (one document a line) or .jsonl files.")],
    output: Annotated[Path, typer.Option(help="The index; created if it is missing, else added to.")],
    model: ModelOption = "mini",
    ratio: Annotated[
        float | None,
        typer.Option(help="Compression ratio in (0, 1]; default: the index's, or the model's for a new one."),
    ] = None,
    text_field: Annotated[str, typer.Option(help="JSON field with the text.")] = "text",
    id_field: Annotated[str, typer.Option(help="JSON field with the id.")] = "id",
    runtime: Runtime = "auto",
) -> None:
    """Add documents to a search index; those that are in it and have not changed are not embedded again.

    Other JSON fields with a string, number, boolean or null become metadata to filter searches by.
    """
    from jaspertc.search.documents import read_documents

    documents = read_documents(
        files, text_field=text_field, id_field=id_field
    )  # before the model: it is slow

    from jaspertc.engine.embedder import Embedder
    from jaspertc.search.index import SearchIndex

    embedder = Embedder.load(model, runtime=runtime)
    with SearchIndex.create_or_open(output, embedder, ratio=ratio) as opened:
        report = opened.add(documents, show_progress=True)
        typer.echo(
            f"{output}: {report.added} added, {report.updated} updated, {report.unchanged} unchanged; "
            f"{len(opened)} documents in the index (model {opened.info.model}, ratio {opened.info.ratio:g})"
        )
