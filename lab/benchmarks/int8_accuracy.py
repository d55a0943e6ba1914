"""How near the int8 vectors of a model are to its float32 ones, on real texts.

python lab/benchmarks/int8_accuracy.py --texts TEXTS.jsonl.gz --texts MORE.jsonl.gz --count 1000
"""

import argparse
import json
import platform
import random
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jaspertc import Embedder
from jaspertc.engine.options import LongTextWarning
from jaspertc.files.texts import read_texts
from jaspertc.reports.origin import processor

BLOCK = 100


def draw(paths: list[Path], count: int, seed: int = 0) -> list[str]:
    """``count`` texts, as many of each file, without regard to their order there."""
    rng = random.Random(seed)
    found: list[str] = []
    for place, path in enumerate(paths):
        texts = [row.text for row in read_texts(path)]
        found += rng.sample(texts, min((count + place) // len(paths), len(texts)))
    return found


def cosines(reference: Embedder, model: Embedder, texts: list[str], ratio: float) -> np.ndarray:
    """Of each text's two vectors, shape (N,)."""
    parts = []
    for begin in range(0, len(texts), BLOCK):
        block = texts[begin : begin + BLOCK]
        pair = [each.encode(block, ratio=ratio, normalize=True) for each in (reference, model)]
        parts.append((pair[0].astype(np.float64) * pair[1]).sum(1))
        print(f"ratio {ratio:g}: {begin + len(block)} of {len(texts)} texts", file=sys.stderr, flush=True)
    return np.concatenate(parts)


def machine() -> dict[str, Any]:
    """What the numbers depend on."""
    import openvino

    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return {
        "commit": commit.stdout.strip(),
        "cpu": processor(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "openvino": openvino.__version__.split("-")[0],
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--model", default="mini", help="what is computed in int8")
    parser.add_argument("--reference", help="what is computed in float32; default: the same model")
    parser.add_argument("--texts", type=Path, action="append", required=True, help="repeat for more files")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--ratio", type=float, action="append", help="default: 1 and 0.33")
    parser.add_argument("--output", type=Path, help="JSON file for the result")
    options = parser.parse_args()
    warnings.simplefilter("ignore", LongTextWarning)
    reference = Embedder.load(options.reference or options.model, runtime="torch", dtype="float32")
    model = Embedder.load(options.model, runtime="openvino", dtype="int8")
    texts = draw(options.texts, options.count)
    lengths = np.array([len(row) for row in model.tokenize(texts)])
    print(f"{len(texts)} texts of {lengths.min()} to {lengths.max()} tokens, median {np.median(lengths):.0f}")
    results = []
    for ratio in options.ratio or [1.0, 0.33]:
        found = cosines(reference, model, texts, ratio)
        worst = int(found.argmin())
        row = {
            "ratio": ratio,
            "worst": round(float(found.min()), 5),
            "0.1 %": round(float(np.quantile(found, 0.001)), 5),
            "1 %": round(float(np.quantile(found, 0.01)), 5),
            "mean": round(float(found.mean()), 5),
            "tokens of the worst": int(lengths[worst]),
        }
        results.append(row)
        print("  ".join(f"{key} {value}" for key, value in row.items()))
    report = {
        **machine(),
        "model": Path(options.model).name,
        "fingerprint": model.fingerprint,
        "texts": len(texts),
        "results": results,
    }
    if options.output:
        options.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report))


if __name__ == "__main__":
    main()
