"""``jaspertc optimize``: a checkpoint with int8 layers, for CPUs."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jaspertc.cli.options import check_out
from jaspertc.cli.progress import say

if TYPE_CHECKING:
    from jaspertc.engine.optimize import Optimized


def optimize(
    checkpoint: Annotated[str, typer.Argument(help="mini, a checkpoint folder or a hub name.")],
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
    calibration: Annotated[
        Path | None,
        typer.Option(
            help="Texts to measure accuracy on (any kind that `jaspertc embed` reads), like those to be "
            "embedded; default: the package's samples."
        ),
    ] = None,
    text_field: Annotated[str, typer.Option(help="Field of the texts in that file.")] = "text",
    count: Annotated[
        int, typer.Option(min=1, help="Texts used, drawn from the file with a fixed seed.")
    ] = 100,
    max_length: Annotated[int, typer.Option(min=1, help="Tokens used of each.")] = 256,
    least: Annotated[
        float, typer.Option(help="Lowest cosine to float32 allowed for any of these texts, in (0, 1).")
    ] = 0.997,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT if it is there.")] = False,
    runtimes: Annotated[
        bool, typer.Option(help="Also measure what computes OUT fastest here, for --runtime auto to take.")
    ] = True,
) -> None:
    """Write CHECKPOINT with int8 layers: a quarter of float32's size, quick to load, fast on CPUs.

    Accuracy is measured against float32. Layers whose rounding is felt too much stay in bfloat16, as few as
    are needed. The weights are final: OUT is for inference. Needs OpenVINO: pip install 'jaspertc[cpu]'.
    """
    from jaspertc.engine.optimize import optimize as optimized

    check_out(out, overwrite=overwrite)
    texts = _samples() if calibration is None else _drawn(calibration, text_field, count)
    _print(
        optimized(checkpoint, out, texts, least=least, max_length=max_length, overwrite=overwrite, say=say)
    )
    if runtimes:
        from jaspertc.cli.inspect import show_runtimes

        show_runtimes(out)


def _samples() -> list[str]:
    from jaspertc.samples import load_samples

    return [passage["text"] for passage in load_samples("passages")]


def _drawn(path: Path, text_field: str, count: int) -> list[str]:
    """``count`` texts, each of the file's as likely as any other; one pass, in little memory."""
    import random

    from jaspertc.files.texts import read_texts

    rng = random.Random(0)
    drawn: list[str] = []
    for number, row in enumerate(read_texts(path, text_field)):
        if number < count:
            drawn.append(row.text)
        elif (chosen := rng.randrange(number + 1)) < count:
            drawn[chosen] = row.text
    return drawn


def _print(result: "Optimized") -> None:
    from jaspertc.cli.tables import show
    from jaspertc.reports.content import Table

    saved = f"{result.after / 1e6:.1f} MB ({result.after / result.before:.0%})"
    rows = [
        ["weights", f"{result.before / 1e6:.1f} MB", saved],
        ["lowest cosine to float32", "1", f"{result.accuracy.worst:.5f}"],
        ["mean cosine", "1", f"{result.accuracy.mean:.5f}"],
        ["left in bfloat16", "", ", ".join(result.exact) or "nothing"],
    ]
    show(Table(title=str(result.folder), columns=["", "before", "after"], rows=rows))
