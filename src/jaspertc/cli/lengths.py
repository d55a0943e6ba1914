"""``jaspertc lengths``: how many tokens texts have, and what compression leaves of them."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jaspertc.cli.options import TEXT_FILES, TextField, Threshold

if TYPE_CHECKING:
    from jaspertc.corpus.lengths import LengthCounts
    from jaspertc.engine.embedder import Embedder

RATIOS = (0.5, 0.33, 0.1)
PERCENTILES = (50, 90, 95, 99)


def lengths(
    inputs: Annotated[
        list[str],
        typer.Argument(metavar="INPUT...", help=f"{TEXT_FILES}; -: stdin."),
    ],
    model: Annotated[str, typer.Option(help="Whose tokens: mini, a folder or a hub name.")] = "mini",
    threshold: Threshold = None,
    ratio: Annotated[
        list[float] | None, typer.Option(help="Compression ratio to report; may be repeated.")
    ] = None,
    prompt_name: Annotated[
        str | None, typer.Option(help="One of the model's prompts, counted with each text.")
    ] = None,
    text_field: TextField = "text",
) -> None:
    """Count tokens: mean, percentiles, texts above the threshold, and tokens left at several ratios.

    Lengths include the prompt and the tokens that the model adds, as in the report.
    """
    from jaspertc.corpus.lengths import LengthCounts
    from jaspertc.engine.embedder import Embedder
    from jaspertc.errors import InputError
    from jaspertc.files.texts import kind_of

    for path in inputs:
        kind_of(path)
    ratios = tuple(ratio or RATIOS)
    for value in ratios:  # wrong ones are found before any work
        LengthCounts().remaining(value, 1 if threshold is None else threshold)
    embedder = Embedder.load(model, device="cpu")
    least = embedder.default_threshold if threshold is None else threshold
    prompt = embedder.prompt_text(None, prompt_name)
    columns = [(path, _count(embedder, path, text_field, prompt)) for path in inputs]
    if len(columns) > 1:
        total = LengthCounts()
        for _, counts in columns:
            total.update(counts)
        columns.append(("all", total))
    empty = [path for path, counts in columns if not counts.texts]
    if empty:
        raise InputError(f"{empty[0]} holds no texts; leave it out")
    _print(columns, ratios, least)


def _count(embedder: "Embedder", path: str, text_field: str, prompt: str) -> "LengthCounts":
    import numpy as np

    from jaspertc.cli.progress import progress
    from jaspertc.corpus.lengths import LengthCounts
    from jaspertc.files.texts import blocks, count_rows, read_texts

    counts = LengthCounts()
    with progress(Path(path).name, count_rows(path)) as advance:
        for block in blocks(read_texts(path, text_field), 1024):
            rows = embedder.tokenize([row.text for row in block], prompt=prompt)
            counts.add(np.array([len(row) for row in rows]))
            advance(len(block))
    return counts


def _print(columns: "list[tuple[str, LengthCounts]]", ratios: tuple[float, ...], threshold: int) -> None:
    from jaspertc.cli.tables import show
    from jaspertc.reports.content import Table

    every = [counts for _, counts in columns]
    rows = [
        ["texts", *(f"{counts.texts:,}" for counts in every)],
        ["tokens", *(f"{counts.tokens:,}" for counts in every)],
        ["mean", *(f"{counts.mean:.1f}" for counts in every)],
        *(
            [f"{share} % have at most", *(f"{counts.percentile(share):,}" for counts in every)]
            for share in PERCENTILES
        ),
        ["longest", *(f"{counts.largest:,}" for counts in every)],
        [f"texts over {threshold}", *(f"{counts.share_above(threshold):.1%}" for counts in every)],
        *(
            [f"tokens left at {ratio:g}", *(f"{counts.remaining(ratio, threshold):.1%}" for counts in every)]
            for ratio in ratios
        ),
    ]
    show(Table(title="tokens", columns=["", *(Path(path).name for path, _ in columns)], rows=rows))
