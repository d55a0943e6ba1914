"""``jaspertc inspect``: what compression does to a text, drawn in the terminal."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jaspertc.cli.options import ModelOption, Runtime, Threshold
from jaspertc.cli.terminal import visible

if TYPE_CHECKING:
    from rich.text import Text

    from jaspertc.engine.embedder import Embedder
    from jaspertc.engine.pieces import TextRows
    from jaspertc.reports.content import Table
    from jaspertc.types import IntArray

RATIOS = (1.0, 0.8, 0.66, 0.5, 0.33, 0.2, 0.1, 0.05)
COLOURS = ("on #1d4ed8", "on #047857", "on #b45309", "on #7e22ce", "on #be123c", "on #0e7490")


def inspect(
    text: Annotated[str | None, typer.Argument(help="The text, or '-' to read standard input.")] = None,
    model: ModelOption = "mini",
    ratio: Annotated[float | None, typer.Option(help="Ratio to draw. Default: the model's.")] = None,
    threshold: Threshold = None,
    prompt: Annotated[str | None, typer.Option(help="Text put before it. Default: the model's.")] = None,
    svg: Annotated[Path | None, typer.Option(help="Also save the drawing as this .svg file.")] = None,
    runtime: Runtime = "auto",
    runtimes: Annotated[
        bool,
        typer.Option(
            "--runtimes", help="Measure what computes MODEL fastest here; --runtime auto then does."
        ),
    ] = False,
) -> None:
    """Show TEXT's tokens, the windows that compression averages, and length and cost at several ratios."""
    import re
    import sys

    from rich.console import Console

    from jaspertc.cli.tables import show
    from jaspertc.engine.embedder import Embedder
    from jaspertc.files.aside import unique_part, writing, written_aside
    from jaspertc.files.lines import check_new_file

    if svg is not None:
        check_new_file(svg, "--svg", (".svg",), overwrite=True)
    if runtimes:
        show_runtimes(model)
    if text is None:
        if runtimes:
            return
        raise typer.BadParameter("give a text, '-' for standard input, or --runtimes")
    if text == "-":
        text = sys.stdin.read().rstrip("\n")
    embedder = Embedder.load(model, runtime=runtime)
    console = Console(record=svg is not None, width=100 if svg is not None else None)
    console.print(drawing(embedder, text, ratio=ratio, threshold=threshold, prompt=prompt))
    show(ratio_table(embedder, text, threshold=threshold, prompt=prompt), console)
    if svg is not None:
        picture = console.export_svg(title="jaspertc inspect")
        # rich links a font on the web; the picture must not fetch anything
        picture = re.sub(r"@font-face \{.*?\}", "", picture, flags=re.DOTALL)
        with writing(svg), written_aside(svg, unique=unique_part()) as file:
            file.write(picture.encode())


def show_runtimes(model: str | Path) -> None:
    """Measure what may compute a model here, and print the times."""
    from jaspertc.cli.progress import say
    from jaspertc.cli.tables import show
    from jaspertc.engine.measuring import measure_runtimes
    from jaspertc.engine.runtimes.choosing import LEAST
    from jaspertc.reports.content import Table

    say("measuring what computes the model fastest")
    measured = measure_runtimes(model, again=True)
    rows = [
        [
            f"{item.runtime} {item.dtype}",
            f"{item.query_ms:.2f}",
            f"{item.text_ms:.2f}",
            f"{item.cosine:.5f}",
            "auto takes this" if item == measured.fastest else "" if item.good else f"below {LEAST}",
        ]
        for item in measured.candidates
    ]
    columns = ["", "ms, one query", "ms a text", "lowest cosine to float32", ""]
    note = f"{measured.made_of['processor']}, threads: {measured.made_of['threads']}"
    show(Table(title=f"what may compute {model}", columns=columns, rows=rows, note=note))


def drawing(
    embedder: "Embedder", text: str, *, ratio: float | None, threshold: int | None, prompt: str | None
) -> "Text":
    """Every token of ``text``; each run of one colour becomes one compressed token.

    A token that two neighbouring windows share is underlined and has the colour of the first. Each piece of a
    long text stands under a line with its tokens.
    """
    from rich.text import Text

    texts, targets = _rows(embedder, text, ratio=ratio, threshold=threshold, prompt=prompt)
    tokens, count = int(texts.lengths[0]), len(texts.rows)
    pieces = f" in {count} pieces" if count > 1 else ""
    drawn = Text(f"{tokens} tokens{pieces} -> {targets.sum()} compressed tokens\n", style="bold")
    for number, (row, target) in enumerate(zip(texts.rows, targets.tolist()), 1):
        if count > 1:
            title = f"piece {number}: {len(row)} tokens -> {target} compressed tokens"
            drawn.append(f"{'' if number == 1 else chr(10)}{title}\n", "bold")
        _draw_row(drawn, embedder, row, target)
    if targets.sum() == sum(len(row) for row in texts.rows):
        drawn.append("\nnothing is compressed: the text is not above the threshold, or the ratio is 1", "dim")
    drawn.append("\n")
    return drawn


def _rows(
    embedder: "Embedder", text: str, *, ratio: float | None, threshold: int | None, prompt: str | None
) -> "tuple[TextRows, IntArray]":
    """The rows of a text, several if it is long, and the compressed tokens of each."""
    prefix = embedder.prompt_text(prompt)
    texts = embedder.fitting.text_rows(embedder.tokenize([text], prompt=prefix), [text], prefix)
    ratio = embedder.default_ratio if ratio is None else ratio
    return texts, embedder.fitting.row_targets(texts, ratio=ratio, threshold=threshold)


def _draw_row(drawn: "Text", embedder: "Embedder", row: "IntArray", target: int) -> None:
    owner: dict[int, int] = {}
    shared: set[int] = set()
    for window, (first, end) in enumerate(embedder.checkpoint.compressor.window_bounds(row, target)):
        for token in range(first, end):
            if token in owner:
                shared.add(token)
            owner.setdefault(token, window)
    for token, piece in enumerate(embedder.checkpoint.tokenizer.pieces(row)):
        style = f"white {COLOURS[owner[token] % len(COLOURS)]}"
        drawn.append(visible(piece, keep="\n"), f"{style} underline" if token in shared else style)


def ratio_table(embedder: "Embedder", text: str, *, threshold: int | None, prompt: str | None) -> "Table":
    """Compressed length, cost and agreement with ratio 1, for several ratios."""
    from jaspertc.model.cost import encoder_flops
    from jaspertc.reports.content import Table

    ratios = RATIOS if embedder.checkpoint.compressor.can_compress else (1.0,)
    prefix = embedder.prompt_text(prompt)
    whole = embedder.encode(text, prompt=prefix, ratio=1.0, threshold=threshold, normalize=True)
    targets, costs = [], []
    for ratio in ratios:
        texts, each = _rows(embedder, text, ratio=ratio, threshold=threshold, prompt=prompt)
        targets.append(int(each.sum()))
        sizes = zip(texts.rows, each.tolist())
        costs.append(sum(encoder_flops(embedder.config, len(row), target) for row, target in sizes))
    rows = []
    for ratio, target, cost in zip(ratios, targets, costs):
        vector = embedder.encode(text, prompt=prefix, ratio=ratio, threshold=threshold, normalize=True)
        share, cosine = cost / costs[0], float(whole @ vector)
        rows.append([f"{ratio:g}", f"{target}", f"{cost / 1e9:.3f}", f"{share:.0%}", f"{cosine:.4f}"])
    columns = ["ratio", "compressed tokens", "GFLOP", "of ratio 1", "cosine to ratio 1"]
    return Table(title="the dial", columns=columns, rows=rows)
