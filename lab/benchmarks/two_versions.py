"""This version of the project beside another: the same token ids, interleaved rounds, a process each.

git worktree add ../other COMMIT
python lab/benchmarks/two_versions.py ../other mini --output RESULT.json
python lab/benchmarks/two_versions.py ../other FOLDER_OF_THE_600M_SHAPE --long 0 --batch 8

Each version loads its own ``mini``; a folder is loaded by both. Where other / this is above 1, this version
is faster; given are the median, lowest and highest of the rounds.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parents[2]
RATIOS = (1.0, 0.5, 0.33, 0.1)


def work(model: str, dtype: str) -> None:
    """In a process of a version: seconds of each request, a JSON line each."""
    from jaspertc import Embedder

    embedder = Embedder.load(model, device="cpu", dtype=dtype)
    for line in sys.stdin:
        request = json.loads(line)
        rows = [np.array(row, np.int64) for row in request["rows"]]
        started = time.perf_counter()
        embedder.encode_ids(rows, ratio=request["ratio"])
        print(json.dumps(time.perf_counter() - started), flush=True)


class Version:
    """A version's process."""

    def __init__(self, checkout: Path, model: str, dtype: str) -> None:
        command = [sys.executable, __file__, "--worker", "", model, "--dtype", dtype]
        environment = {**os.environ, "PYTHONPATH": str(checkout / "src")}
        self.process = subprocess.Popen(
            command, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=checkout
        )

    def seconds(self, rows: list[list[int]], ratio: float) -> float:
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps({"rows": rows, "ratio": ratio}) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            sys.exit(f"a version's process ended with {self.process.wait()}")
        return float(json.loads(answer))


def batches(arguments: argparse.Namespace) -> dict[str, list[list[int]]]:
    """Random ids: sentences and paragraphs, long texts, and a single query."""
    random = np.random.default_rng(0)
    lengths = {
        "mix": np.clip(random.gamma(2, 80, arguments.batch), 6, 500).astype(int),
        "long": np.full(arguments.long, 500),
        "query": np.array([16]),
    }
    return {
        name: [random.integers(5, 20_000, length).tolist() for length in chosen]
        for name, chosen in lengths.items()
        if len(chosen)
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("other", help="the other version's checkout")
    parser.add_argument("model", help="mini, or a checkpoint folder")
    parser.add_argument("--dtype", default="auto")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--long", type=int, default=4)
    parser.add_argument("--output", type=Path)
    parser.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.worker:
        work(arguments.model, arguments.dtype)
        return
    from jaspertc.reports.origin import processor

    versions = {
        "this": Version(HERE, arguments.model, arguments.dtype),
        "other": Version(Path(arguments.other).resolve(), arguments.model, arguments.dtype),
    }
    table: list[dict[str, Any]] = []
    for name, rows in batches(arguments).items():
        for ratio in RATIOS if name != "query" else RATIOS[:1]:
            times: dict[str, list[float]] = {key: [] for key in versions}
            for number in range(arguments.rounds + 1):  # the first warms up
                for key in list(versions)[:: 1 if number % 2 else -1]:
                    times[key].append(versions[key].seconds(rows, ratio))
            ratios = sorted(b / a for a, b in zip(times["this"][1:], times["other"][1:]))
            row = {
                "texts": f"{name}, {len(rows)}",
                "ratio": ratio,
                "ms this": round(1000 * statistics.median(times["this"][1:]), 2),
                "ms other": round(1000 * statistics.median(times["other"][1:]), 2),
                "other / this": [
                    round(statistics.median(ratios), 3),
                    round(ratios[0], 3),
                    round(ratios[-1], 3),
                ],
            }
            table.append(row)
            print(row, flush=True)
    if arguments.output:
        facts = {
            "processor": processor(),
            "versions": {name: version(name) for name in ("torch", "openvino", "numpy")},
            "rounds": arguments.rounds,
            "model": Path(arguments.model).name,
        }
        arguments.output.write_text(json.dumps({**facts, "rows": table}, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
