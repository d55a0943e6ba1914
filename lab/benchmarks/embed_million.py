"""How much of ``jaspertc embed`` on short lines is not the model: reading, tokenising, batching, writing.

    python lab/benchmarks/embed_million.py [--texts 1000000] [--model-texts N] [--model mini] [--runtime auto]
        [--kind npy] [--rounds 1] [--output FILE.json]

Writes a JSON-lines file of made-up lines and runs the command's own function on it in this process, the
model already loaded: with the model on the first N lines, and with its runtime replaced by one that gives
zeros on all of them. The share is of the wall time: that in which the runtime was not at work. What is done
in the background meanwhile does not count. Rounds are interleaved; medians. The last line is JSON.
"""

import argparse
import copy
import json
import os
import platform
import random
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import redirect_stderr
from datetime import UTC, datetime
from io import StringIO
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import tokenizers
import torch

from jaspertc import Embedder
from jaspertc.cli.embed import embed
from jaspertc.reports.origin import processor
from jaspertc.text.packing import PackedBatch
from jaspertc.types import FloatArray, IntArray

WORDS = """
the a of and to in is was for on with as by at from that this it not one all new old first last small large
long short early late river bread moon city people water light house music time train school garden market
winter summer bridge paper stone window letter story number engine field cloud harbour silver mountain doctor
teacher question answer morning evening carries brings makes finds opens closes reads writes builds
"""
SHORTEST, LONGEST = 3, 20  # words a line

Batches = Iterable[tuple[PackedBatch, IntArray]]
Compute = Callable[[Batches], Iterator[FloatArray]]


def write_lines(path: Path, count: int) -> None:
    """Lines of 3 to 20 words, always the same."""
    generator, words = random.Random(0), WORDS.split()
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            text = " ".join(generator.choices(words, k=generator.randint(SHORTEST, LONGEST)))
            file.write(json.dumps({"id": f"line-{number}", "text": text}) + "\n")


class Clock:
    """What computes batches, timed; the time that making the batches takes is not counted."""

    def __init__(self, compute: Compute) -> None:
        self.compute, self.seconds = compute, 0.0

    def __call__(self, batches: Batches) -> Iterator[FloatArray]:
        return self._timed(self.compute(self._timed(iter(batches), -1)), 1)

    def _timed(self, items: Iterator[Any], sign: int) -> Iterator[Any]:
        while True:
            started = time.perf_counter()
            item = next(items, None)
            self.seconds += sign * (time.perf_counter() - started)
            if item is None:
                return
            yield item


def timed(embedder: Embedder, compute: Compute, source: Path, output: Path) -> tuple[float, float]:
    """Seconds of a run of the command, and of its runtime in it."""
    clock = Clock(compute)
    runtime: Any = copy.copy(embedder.runtime)
    runtime.embed_all = clock
    with (
        mock.patch.object(Embedder, "load", return_value=Embedder(embedder.checkpoint, runtime)),
        redirect_stderr(StringIO()),
    ):
        started = time.perf_counter()
        embed(output=str(output), source=str(source), overwrite=True)
        seconds = time.perf_counter() - started
    return seconds, clock.seconds


def machine() -> dict[str, object]:
    """What the numbers depend on."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit.stdout.strip(),
        "cpu": processor(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "tokenizers": tokenizers.__version__,
    }


def measure(arguments: argparse.Namespace) -> dict[str, Any]:
    """All rounds: seconds of the command with the model and without, and of the runtime alone."""
    embedder = Embedder.load(arguments.model, device=arguments.device, runtime=arguments.runtime)
    few = arguments.texts if arguments.model_texts is None else arguments.model_texts
    dims = embedder.dims

    def nothing(batches: Batches) -> Iterator[FloatArray]:
        return (np.zeros((len(batch), dims), np.float32) for batch, _ in batches)

    rounds = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_lines(folder / "few.jsonl", few)
        write_lines(folder / "all.jsonl", arguments.texts)
        write_lines(folder / "warm-up.jsonl", 8)
        output = folder / f"vectors.{arguments.kind}"
        timed(embedder, embedder.runtime.embed_all, folder / "warm-up.jsonl", output)
        for _ in range(arguments.rounds):
            without, _ = timed(embedder, nothing, folder / "all.jsonl", output)
            whole, inside = timed(embedder, embedder.runtime.embed_all, folder / "few.jsonl", output)
            rounds.append({"without": without, "whole": whole, "runtime": inside})
    middle = {key: statistics.median(row[key] for row in rounds) for key in rounds[0]}
    return {
        **machine(),
        "model": arguments.model,
        "dims": dims,
        "device": embedder.runtime.device.type,
        "runtime": embedder.runtime.name,
        "precision": embedder.runtime.precision,
        "kind": arguments.kind,
        "texts": {"with": few, "without": arguments.texts},
        "seconds": rounds,
        "us_per_text": {
            "with": 1e6 * middle["whole"] / few,
            "runtime": 1e6 * middle["runtime"] / few,
            "without": 1e6 * middle["without"] / arguments.texts,
        },
        "share_not_model": statistics.median(1 - row["runtime"] / row["whole"] for row in rounds),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--texts", type=int, default=1_000_000)
    parser.add_argument("--model-texts", type=int, help="lines for the runs with the model; default: all")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--runtime", default="auto")
    parser.add_argument("--kind", choices=("npy", "jsonl", "parquet"), default="npy")
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()

    report = measure(arguments)
    names = {"with": "with the model", "runtime": "  of it the runtime", "without": "without the model"}
    for key, name in names.items():
        cost = report["us_per_text"][key]
        print(f"{name:<22} {cost:>10.1f} us/text {1e6 / cost:>12,.0f} texts/s")
    print(f"not the model: {100 * report['share_not_model']:.1f} % of the time")
    if arguments.output:
        arguments.output.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report))


if __name__ == "__main__":
    main()
