"""``jaspertc matryoshka``: turn a model's vectors so that their first values are vectors of their own."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jaspertc.cli.options import ModelArgument, check_out
from jaspertc.cli.progress import progress, say

if TYPE_CHECKING:
    from collections.abc import Sequence

    from jaspertc.reports.content import Table
    from jaspertc.train.matryoshka import Sides
    from jaspertc.types import FloatArray

BLOCK = 256  # texts a call


def matryoshka(
    model: ModelArgument,
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
    pairs: Annotated[
        list[Path],
        typer.Argument(help="Files of pairs, .jsonl, .csv or .parquet: rows with a query and its answer."),
    ],
    dims: Annotated[list[int], typer.Option(help="A width that vectors may be cut to; may be repeated.")],
    query_field: Annotated[str, typer.Option(help="Field of the queries.")] = "query",
    positive_field: Annotated[str, typer.Option(help="Field of what answers them.")] = "positive",
    count: Annotated[int, typer.Option(min=100, help="Pairs used of each file, drawn by their ids.")] = 4000,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT if it is there.")] = False,
) -> None:
    """Turn MODEL's vectors so that their first values are vectors of their own, without training MODEL.

    Whole vectors keep their cosines. A tenth of the pairs is not learned from and tells what each width finds
    before and after. Indexes made with MODEL must be made anew with OUT.
    """
    import numpy as np

    from jaspertc.checkpoint import load_checkpoint
    from jaspertc.cli.tables import show
    from jaspertc.engine.embedder import Embedder
    from jaspertc.recipe.texts import PairTexts
    from jaspertc.train.matryoshka import (
        STEPS,
        Sides,
        check_widths,
        learned_turn,
        read_pairs,
        turn_checkpoint,
    )

    check_out(out, overwrite=overwrite)
    texts = [  # before the model, which is slow
        read_pairs(PairTexts(path=path, query_field=query_field, positive_field=positive_field), count)
        for path in pairs
    ]
    checkpoint = load_checkpoint(model)
    widths = check_widths(checkpoint, dims)
    embedder = Embedder.load(model)
    files = []
    with progress("embedding", 2 * sum(len(queries) for queries, _ in texts)) as advance:
        for queries, answers in texts:
            sides = []
            for side, encode in ((queries, embedder.encode_query), (answers, embedder.encode_document)):
                blocks = [side[begin : begin + BLOCK] for begin in range(0, len(side), BLOCK)]
                vectors = []
                for block in blocks:
                    vectors.append(encode(block, normalize=True))
                    advance(len(block))
                sides.append(np.concatenate(vectors))
            files.append(Sides(queries=sides[0], documents=sides[1]))
    with progress("turning", STEPS) as advance:
        turn = learned_turn(files, widths, advance=advance)
    turn_checkpoint(checkpoint, turn, widths, out, overwrite=overwrite)
    show(_table(files, pairs, turn, [*widths, len(turn)]))
    say(f"written: {out}")


def _table(
    files: "Sequence[Sides]", pairs: "Sequence[Path]", turn: "FloatArray", widths: "Sequence[int]"
) -> "Table":
    """What each width finds, before and after."""
    from jaspertc.reports.content import Table

    rows = [
        [
            path.name,
            str(width),
            f"{100 * file.score(None, width):.1f}",
            f"{100 * file.score(turn, width):.1f}",
        ]
        for path, file in zip(pairs, files)
        for width in widths
    ]
    columns = ["held-out pairs", "dims", "nDCG@10 before", "after"]
    return Table(title="", columns=columns, rows=rows)
