"""``jaspertc demo``: embed, search across languages and turn the compression dial, on the sample texts."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jaspertc.cli.options import ModelOption, Runtime
from jaspertc.cli.terminal import visible

if TYPE_CHECKING:
    import numpy.typing as npt
    from rich.console import Console

    from jaspertc.engine.embedder import Embedder

RATIOS = (1.0, 0.66, 0.5, 0.33, 0.2, 0.1)
SHOWN = 6
ROUNDS = 3


def demo(
    model: ModelOption = "mini",
    runtime: Runtime = "auto",
    web: Annotated[
        Path | None,
        typer.Option(
            help="Write a page for any static host into this folder instead: the model runs in the browser. "
            "MODEL may then be a file that jaspertc export wrote. Needs npm, or --node-modules."
        ),
    ] = None,
    node_modules: Annotated[
        Path | None,
        typer.Option(help="For --web: a folder with onnxruntime-web and @huggingface/tokenizers."),
    ] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Write into a --web that has files.")
    ] = False,
) -> None:
    """Embed the sample texts, search them across languages, and turn the compression dial."""
    if web is not None:
        from jaspertc.cli.progress import say
        from jaspertc.export.site import write_site

        write_site(web, model, node_modules=node_modules, overwrite=overwrite)
        size = sum(path.stat().st_size for path in web.rglob("*") if path.is_file())
        say(f"{web}: {size / 1e6:.0f} MB; try it: python -m http.server --directory {web}")
        return
    import time
    import warnings

    from rich.console import Console

    from jaspertc.engine.embedder import Embedder
    from jaspertc.engine.options import LongTextWarning
    from jaspertc.samples import load_samples

    console = Console()
    started = time.perf_counter()
    embedder = Embedder.load(model, runtime=runtime)
    console.print(visible(f"loaded {embedder} in {time.perf_counter() - started:.1f} s"), markup=False)
    passages, questions = load_samples("passages"), load_samples("questions")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LongTextWarning)  # the dial's last line says it
        show_search(console, embedder, passages, questions)
        show_dial(console, embedder, passages, questions)


def show_search(
    console: "Console", embedder: "Embedder", passages: list[dict[str, Any]], questions: list[dict[str, Any]]
) -> None:
    """Print the best passage in the other language for some questions, and how often it is right."""
    from jaspertc.cli.tables import show
    from jaspertc.reports.content import Table

    vectors = embedder.encode_document([passage["text"] for passage in passages])
    crossing = _crossing(passages, questions)
    best = _best_in_other_language(embedder, passages, crossing, vectors)
    by_id = {passage["id"]: passage for passage in passages}
    step = max(1, len(crossing) // SHOWN)
    rows = [
        [
            question["question"],
            _excerpt(by_id[answer]["text"]),
            f"{score:.3f}",
            "yes" if answer == question["passage"] else "no",
        ]
        for question, (answer, score) in list(zip(crossing, best))[::step][:SHOWN]
    ]
    title = f"questions answered in the other language (best of {len(passages)} passages)"
    show(Table(title=title, columns=["question", "passage found", "cosine", "right"], rows=rows))
    right = sum(answer == question["passage"] for question, (answer, _) in zip(crossing, best))
    console.print(f"first result right for {right} of {len(crossing)} questions across languages\n")


def show_dial(
    console: "Console", embedder: "Embedder", passages: list[dict[str, Any]], questions: list[dict[str, Any]]
) -> None:
    """Print compressed tokens, time, agreement with ratio 1 and search quality for several ratios."""
    import numpy as np

    from jaspertc.cli.tables import show
    from jaspertc.evaluation.dial import turn_dial
    from jaspertc.reports.content import Table

    lengths = np.array([len(row) for row in embedder.tokenize([passage["text"] for passage in passages])])
    long = [passage for passage, length in zip(passages, lengths) if length > embedder.default_threshold]
    texts = [passage["text"] for passage in long]
    ids = {passage["id"] for passage in long}
    asked = [question for question in _crossing(passages, questions) if question["passage"] in ids]
    prefix = embedder.prompt_text(prompt_name="document") if "document" in embedder.prompts else ""
    tokens = np.array([len(row) for row in embedder.tokenize(texts, prompt=prefix)])
    ratios = RATIOS if embedder.checkpoint.compressor.can_compress else (1.0,)

    settings = turn_dial(
        lambda rows, ratio: embedder.encode_document(rows, ratio=ratio), texts, ratios, rounds=ROUNDS
    )
    whole, rows = settings[0], []
    for setting in settings:
        best = _best_in_other_language(embedder, long, asked, setting.vectors)
        right = sum(answer == question["passage"] for question, (answer, _) in zip(asked, best))
        rows.append(
            [
                f"{setting.ratio:g}",
                f"{embedder.target_lengths(tokens, ratio=setting.ratio).sum():,}",
                f"{setting.ms.median:.1f}",
                f"{whole.ms.median / setting.ms.median:.2f}×",
                f"{setting.cosines(whole).mean():.4f}",
                f"{right} of {len(asked)}",
            ]
        )
    title = f"the dial, on the {len(texts)} samples above the threshold ({tokens.sum():,} tokens)"
    columns = ["ratio", "compressed tokens", "ms per text", "speed-up", "cosine to ratio 1", "found first"]
    show(Table(title=title, columns=columns, rows=rows))
    positions = embedder.config.backbone.max_positions
    in_pieces = embedder.long_texts == "pieces"
    console.print(
        f"medians of {ROUNDS} interleaved rounds; 'found first' asks across languages; "
        f"{(tokens > positions).sum()} texts exceed {positions} positions and are "
        + ("read in pieces" if in_pieces else "compressed even at ratio 1")
    )


def _excerpt(text: str) -> str:
    text = text.replace("\n", " ")
    return text if len(text) <= 110 else text[:110] + "…"


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
