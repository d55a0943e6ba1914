"""``jaspertc demo``: embed, search across languages and turn the compression dial, on the sample texts."""

from typing import TYPE_CHECKING, Annotated, Any

import typer

from jaspertc.cli.loading import Runtime

if TYPE_CHECKING:
    import numpy.typing as npt
    from rich.console import Console

    from jaspertc.engine.embedder import Embedder

RATIOS = (1.0, 0.66, 0.5, 0.33, 0.2, 0.1)
SHOWN = 6
ROUNDS = 3


def demo(
    model: Annotated[str, typer.Option(help="mini, a checkpoint folder or a hub name.")] = "mini",
    runtime: Runtime = "auto",
) -> None:
    """Embed the sample texts, search them across languages, and turn the compression dial."""
    import time
    import warnings

    from rich.console import Console

    from jaspertc.engine.embedder import Embedder
    from jaspertc.engine.options import LongTextWarning
    from jaspertc.samples import load_samples

    console = Console()
    started = time.perf_counter()
    embedder = Embedder.load(model, runtime=runtime)
    console.print(f"loaded {embedder} in {time.perf_counter() - started:.1f} s")
    passages, questions = load_samples("passages"), load_samples("questions")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LongTextWarning)  # the dial's last line says it
        show_search(console, embedder, passages, questions)
        show_dial(console, embedder, passages, questions)


def show_search(
    console: "Console", embedder: "Embedder", passages: list[dict[str, Any]], questions: list[dict[str, Any]]
) -> None:
    """Print the best passage in the other language for some questions, and how often it is right."""
    from rich.table import Table

    vectors = embedder.encode_document([passage["text"] for passage in passages])
    crossing = _crossing(passages, questions)
    best = _best_in_other_language(embedder, passages, crossing, vectors)
    table = Table(title="questions answered in the other language (best of 48 passages)", show_lines=True)
    table.add_column("question", ratio=2, overflow="fold")
    table.add_column("passage found", ratio=3, overflow="fold")
    table.add_column("cosine", justify="right")
    table.add_column("right")
    by_id = {passage["id"]: passage for passage in passages}
    step = max(1, len(crossing) // SHOWN)
    for question, (found, score) in list(zip(crossing, best))[::step][:SHOWN]:
        excerpt = by_id[found]["text"].replace("\n", " ")
        table.add_row(
            question["question"],
            excerpt if len(excerpt) <= 110 else excerpt[:110] + "…",
            f"{score:.3f}",
            "yes" if found == question["passage"] else "no",
        )
    console.print(table)
    right = sum(found == question["passage"] for question, (found, _) in zip(crossing, best))
    console.print(f"first result right for {right} of {len(crossing)} questions across languages\n")


def show_dial(
    console: "Console", embedder: "Embedder", passages: list[dict[str, Any]], questions: list[dict[str, Any]]
) -> None:
    """Print compressed tokens, time, agreement with ratio 1 and search quality for several ratios."""
    import statistics
    import time

    import numpy as np
    from rich.table import Table

    lengths = np.array([len(row) for row in embedder.tokenize([passage["text"] for passage in passages])])
    long = [passage for passage, length in zip(passages, lengths) if length > embedder.default_threshold]
    texts = [passage["text"] for passage in long]
    ids = {passage["id"] for passage in long}
    asked = [question for question in _crossing(passages, questions) if question["passage"] in ids]
    prefix = embedder.prompt_text(prompt_name="document") if "document" in embedder.prompts else ""
    tokens = np.array([len(row) for row in embedder.tokenize(texts, prompt=prefix)])
    ratios = RATIOS if embedder.checkpoint.encoder.compressor.can_compress else (1.0,)

    seconds: dict[float, list[float]] = {ratio: [] for ratio in ratios}
    vectors = {}
    embedder.encode_document(texts, ratio=ratios[-1])  # warm-up
    for _ in range(ROUNDS):
        for ratio in ratios:
            started = time.perf_counter()
            vectors[ratio] = embedder.encode_document(texts, ratio=ratio)
            seconds[ratio].append(time.perf_counter() - started)
    table = Table(
        title=f"the dial, on the {len(texts)} samples above the threshold ({tokens.sum():,} tokens)"
    )
    for heading in (
        "ratio",
        "compressed tokens",
        "ms per text",
        "speed-up",
        "cosine to ratio 1",
        "found first",
    ):
        table.add_column(heading, justify="right")
    slowest = statistics.median(seconds[ratios[0]])
    for ratio in ratios:
        middle = statistics.median(seconds[ratio])
        best = _best_in_other_language(embedder, long, asked, vectors[ratio])
        right = sum(found == question["passage"] for question, (found, _) in zip(asked, best))
        agreement = (vectors[ratio] * vectors[ratios[0]]).sum(1).mean()
        table.add_row(
            f"{ratio:g}",
            f"{embedder.target_lengths(tokens, ratio=ratio).sum():,}",
            f"{1000 * middle / len(texts):.1f}",
            f"{slowest / middle:.2f} x",
            f"{agreement:.4f}",
            f"{right} of {len(asked)}",
        )
    console.print(table)
    positions = embedder.config.backbone.max_positions
    console.print(
        f"medians of {ROUNDS} interleaved rounds; 'found first' asks across languages; "
        f"{(tokens > positions).sum()} texts exceed {positions} positions and are compressed even at ratio 1"
    )


def _crossing(passages: list[dict[str, Any]], questions: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The questions asked in another language than their passage's."""
    language = {passage["id"]: passage["lang"] for passage in passages}
    return [question for question in questions if question["lang"] != language[question["passage"]]]


def _best_in_other_language(
    embedder: "Embedder",
    passages: list[dict[str, Any]],
    questions: list[dict[str, Any]],
    vectors: "npt.NDArray[Any]",
) -> list[tuple[str, float]]:
    """For each question, the id and cosine of the nearest passage in the other language."""
    import numpy as np

    scores = embedder.encode_query([question["question"] for question in questions]) @ vectors.T
    same = np.array([[q["lang"] == p["lang"] for p in passages] for q in questions])
    scores = np.where(same, -np.inf, scores)
    return [(passages[i]["id"], float(row[i])) for row, i in zip(scores, scores.argmax(1))]
