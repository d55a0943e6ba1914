"""``jaspertc bench``: what each ratio costs and keeps with your model, on your texts and your machine."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jaspertc.cli.options import TEXT_FILES, Device, Dtype, ModelArgument, Runtime, TextField, Threshold
from jaspertc.cli.progress import progress, say, write

if TYPE_CHECKING:
    import numpy.typing as npt

    from jaspertc.engine.embedder import Embedder
    from jaspertc.evaluation.dial import Setting
    from jaspertc.reports.content import Table

RATIOS = (1.0, 0.66, 0.5, 0.33, 0.2, 0.1)
MOST_THREADS = 8  # a core; the libraries that compute crash where the system has no more
SINGLES = 25  # texts of a round that are embedded one a call
SEED = 0


def bench(
    model: ModelArgument = "mini",
    texts: Annotated[
        list[str] | None,
        typer.Option(
            metavar="FILE",
            help=f"{TEXT_FILES}; -: stdin. Repeatable. Default: the sample passages.",
        ),
    ] = None,
    text_field: TextField = "text",
    count: Annotated[int, typer.Option(min=1, help="Texts at most, drawn with a fixed seed.")] = 200,
    ratio: Annotated[
        list[float] | None,
        typer.Option(help="Compression ratio in (0, 1]; repeat for more. 1 is always measured."),
    ] = None,
    threshold: Threshold = None,
    prompt_name: Annotated[str | None, typer.Option(help="One of the model's prompts.")] = None,
    rounds: Annotated[int, typer.Option(min=1, help="Timed rounds; one more warms up.")] = 5,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Of the CPU. Default: as PyTorch chooses.")
    ] = None,
    device: Device = "auto",
    dtype: Dtype = "auto",
    runtime: Runtime = "auto",
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", help="Folder for results.json and a picture (dial.svg, dial.png)."),
    ] = None,
) -> None:
    """Measure time, latency of single texts, tokens and agreement with ratio 1, at each compression ratio.

    Ratios take turns on the same texts, round by round. docs/benchmarks.md says what each number means, and
    how models are compared with others.
    """
    from jaspertc.cli.tables import show
    from jaspertc.engine.embedder import Embedder
    from jaspertc.errors import InputError
    from jaspertc.evaluation.dial import turn_dial
    from jaspertc.files.aside import writing
    from jaspertc.machine import set_threads

    most = MOST_THREADS * (os.cpu_count() or 1)
    if threads is not None and threads > most:
        raise InputError(f"--threads is {threads}, it must be 1 to {most}: {MOST_THREADS} a core")
    if threads is not None:
        set_threads(threads)
    if output is not None:
        with writing(output):
            output.mkdir(parents=True, exist_ok=True)
    chosen = _texts(texts, text_field, count)
    embedder = Embedder.load(model, device=device, dtype=dtype, runtime=runtime)
    options = {"threshold": threshold, "prompt_name": prompt_name}
    ratios = list(dict.fromkeys([1.0, *(ratio or _ratios(embedder))]))
    tokens = _tokens(embedder, chosen, ratios, options)
    with progress("measuring", rounds * len(ratios)) as advance:
        settings = turn_dial(
            lambda rows, at: _encode(embedder, rows, at, options),
            chosen,
            ratios,
            rounds=rounds,
            singles=chosen[:SINGLES],
            advance=advance,
        )
    show(table(embedder, settings, tokens, rounds))
    if output is not None:
        _write(output, embedder, settings, tokens)


def _ratios(embedder: "Embedder") -> Sequence[float]:
    return RATIOS if embedder.checkpoint.compressor.can_compress else (1.0,)


def _texts(paths: list[str] | None, text_field: str, count: int) -> list[str]:
    import random

    from jaspertc.errors import InputError
    from jaspertc.files.texts import kind_of, read_texts
    from jaspertc.samples import load_samples

    if not paths:
        texts = [row["text"] for row in load_samples("passages")]
    else:
        for path in paths:
            kind_of(path)  # a wrong one is found before any is read
        texts = [row.text for path in paths for row in read_texts(path, text_field)]
    if not texts:
        raise InputError(f"{', '.join(paths or [])} holds no texts; give a file with some")
    return random.Random(SEED).sample(texts, min(count, len(texts)))


def _encode(
    embedder: "Embedder", texts: Sequence[str], ratio: float, options: dict[str, Any]
) -> "npt.NDArray[Any]":
    import warnings

    from jaspertc.engine.options import LongTextWarning

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", LongTextWarning)  # the table's note says it
        return embedder.encode(texts, ratio=ratio, **options)


def _tokens(
    embedder: "Embedder", texts: Sequence[str], ratios: Sequence[float], options: dict[str, Any]
) -> dict[str, Any]:
    """What the texts have, and what the layers see of them at each ratio."""
    import numpy as np

    prompt = embedder.prompt_text(None, options["prompt_name"])
    rows = embedder.tokenize(texts, prompt=prompt, max_length=embedder.max_length)
    lengths = np.array([len(row) for row in rows])
    seen = {
        ratio: int(embedder.target_lengths(lengths, ratio=ratio, threshold=options["threshold"]).sum())
        for ratio in ratios
    }
    most = (
        embedder.piece_length if embedder.long_texts == "pieces" else embedder.config.backbone.max_positions
    )
    over = int((lengths > most).sum())
    return {"read": int(lengths.sum()), "median": int(np.median(lengths)), "seen": seen, "over": over}


def table(
    embedder: "Embedder", settings: "Sequence[Setting]", tokens: dict[str, Any], rounds: int
) -> "Table":
    """A row for each ratio."""
    from jaspertc.reports.content import Table
    from jaspertc.reports.numbers import number, spread

    texts, whole = len(settings[0].vectors), settings[0]
    rows = [
        [
            f"{setting.ratio:g}",
            f"{tokens['seen'][setting.ratio]:,}",
            spread(setting.ms),
            number(1000 / setting.ms.median),
            f"{tokens['read'] / texts * 1000 / setting.ms.median:,.0f}",
            f"{whole.ms.median / setting.ms.median:.2f}×",
            number(setting.percentile(0.5)),
            number(setting.percentile(0.95)),
            f"{setting.cosines(whole).mean():.4f}",
            f"{setting.cosines(whole).min():.4f}",
        ]
        for setting in settings
    ]
    columns = ["ratio", "tokens computed", "ms per text", "texts/s", "tokens/s", "speed-up"]
    columns += ["p50 ms", "p95 ms", "cosine", "lowest"]
    note = (
        f"Medians of {rounds} interleaved rounds (lowest to highest); p50 and p95: one text a call; cosine "
        "to ratio 1: mean and lowest."
    )
    if tokens["over"]:
        positions = embedder.config.backbone.max_positions
        note += (
            f" {tokens['over']} texts are read in pieces of up to {embedder.piece_length} tokens."
            if embedder.long_texts == "pieces"
            else f" {tokens['over']} texts exceed {positions} positions and are compressed even at ratio 1."
        )
    title = (
        f"{Path(embedder.checkpoint.name).name}, {texts} texts of {tokens['read']:,} tokens "
        f"(median {tokens['median']:,}), {embedder.runtime.name} {embedder.runtime.precision}"
    )
    return Table(title=title, columns=columns, rows=rows, note=note)


def _write(folder: Path, embedder: "Embedder", settings: "Sequence[Setting]", tokens: dict[str, Any]) -> None:
    import json
    from datetime import UTC, datetime

    from jaspertc.errors import MissingExtraError
    from jaspertc.evaluation.dial import picture
    from jaspertc.files.aside import writing, written_aside
    from jaspertc.reports.origin import command_line, machine, versions

    facts = {
        "command": command_line(),
        "date": datetime.now(UTC).date().isoformat(),
        "machine": machine(),
        "versions": versions("jaspertc", "torch", "numpy", "openvino"),
        "model": {"name": Path(embedder.checkpoint.name).name, "fingerprint": embedder.fingerprint},
        "runtime": {"name": embedder.runtime.name, "precision": embedder.runtime.precision},
        "texts": len(settings[0].vectors),
        "tokens": tokens["read"],
        "ratios": [
            {
                "ratio": setting.ratio,
                "tokens computed": tokens["seen"][setting.ratio],
                "seconds": setting.seconds,
                "seconds of single texts": setting.singles,
                "mean cosine": float(setting.cosines(settings[0]).mean()),
                "lowest cosine": float(setting.cosines(settings[0]).min()),
            }
            for setting in settings
        ],
    }
    contents = {"results.json": json.dumps(facts, ensure_ascii=False, indent=1).encode()}
    try:
        drawn = picture(settings, settings[0])
        contents |= {"dial.svg": drawn.svg.encode(), "dial.png": drawn.png}
    except MissingExtraError as error:
        say(f"no picture: {error}")
    for name, content in contents.items():
        with writing(folder / name), written_aside(folder / name) as file:
            file.write(content)
        write(folder / name)
