"""``jaspertc search``: the documents of an index that answer a query."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jaspertc.cli.options import Runtime
from jaspertc.cli.progress import write

if TYPE_CHECKING:
    from jaspertc.search.documents import Scalar
    from jaspertc.search.finding import Hit

SHOWN_CHARACTERS = 120


def search(
    query: Annotated[str, typer.Argument(help="What to look for; with --image, leave it out.")] = "",
    index: Annotated[Path, typer.Option(help="The index, from `jaspertc index`.")] = ...,  # type: ignore[assignment]
    image: Annotated[Path | None, typer.Option(help="Look for what is like this picture.")] = None,
    k: Annotated[int, typer.Option("--k", "-k", help="How many documents at most.")] = 5,
    where: Annotated[
        list[str] | None,
        typer.Option(
            metavar="KEY=VALUE",
            help="Only documents with this metadata; may be given several times. The value is read as JSON "
            "(2024, true, null) and otherwise as a string; a string of digits is written '\"2024\"'.",
        ),
    ] = None,
    mode: Annotated[str, typer.Option(help="vector: by meaning; text: by words; hybrid: both.")] = "hybrid",
    model: Annotated[
        str | None, typer.Option(help="The model, if it is elsewhere than when the index was built.")
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON object a line.")] = False,
    runtime: Runtime = "auto",
) -> None:
    """Print the documents that answer a query best, best first."""
    from jaspertc.errors import InputError
    from jaspertc.search.schema import describe

    if image is not None and (query or mode == "text"):
        raise InputError("--image looks by meaning alone; leave the query and --mode out")
    wanted = parse_where(where or [])
    name = describe(index).model if model is None else model

    from jaspertc.engine.embedder import Embedder
    from jaspertc.search.index import SearchIndex

    embedder = Embedder.load(name, runtime=runtime)
    with SearchIndex.open(index, embedder) as opened:
        if image is None:
            hits = opened.search(query, k=k, where=wanted, mode=mode)
        else:
            vector = embedder.encode_image(image, normalize=True)
            hits = opened.search(str(image), k=k, where=wanted, mode="vector", vector=vector)
    if json:
        _print_json(hits)
    else:
        _print_table(hits)


def parse_where(conditions: list[str]) -> "dict[str, Scalar]":
    """``["lang=en", "year=2024"]`` to ``{"lang": "en", "year": 2024}``.

    Raises:
        InputError: no ``=`` or no key, or a key comes twice.
    """
    import json

    from jaspertc.errors import InputError

    values: dict[str, Scalar] = {}
    for condition in conditions:
        key, equals, text = condition.partition("=")
        if not equals or not key or key in values:
            raise InputError(f"--where is {condition!r}, it must be key=value, each key at most once")
        try:
            value = json.loads(text)
        except (ValueError, RecursionError):
            value = text
        values[key] = text if isinstance(value, (dict, list)) else value
    return values


def _print_json(hits: "list[Hit]") -> None:
    from dataclasses import asdict

    from jaspertc.cli.terminal import json_line

    for hit in hits:
        row = asdict(hit)
        del row["number"]
        typer.echo(json_line(row))


def _print_table(hits: "list[Hit]") -> None:
    from jaspertc.cli.tables import show
    from jaspertc.reports.content import Table

    if not hits:
        write("nothing found")
        return
    rows = []
    for hit in hits:
        excerpt = " ".join(hit.passage_text.split())
        if len(excerpt) > SHOWN_CHARACTERS:
            excerpt = excerpt[:SHOWN_CHARACTERS] + "…"
        rows.append([f"{hit.score:.4f}", hit.id, _place(hit), excerpt])
    columns = ["score", "id", "where", "text"]
    if not any(row[2] for row in rows):
        columns.pop(2)
        rows = [[*row[:2], row[3]] for row in rows]
    show(Table(title="", columns=columns, rows=rows))


def _place(hit: "Hit") -> str:
    """Where in its document a passage stands: how far in, and under which headings."""
    passage = hit.passage
    if passage.stop - passage.start >= len(hit.text):
        return ""
    share = f"{100 * passage.start // len(hit.text)} %"
    return f"{share}, {passage.heading}" if passage.heading else share
