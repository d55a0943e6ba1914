"""How near the vectors of exported graphs are to the Embedder's.

float32: the largest difference before normalisation, over token ids of 14 lengths (those of the golden
vectors) and 8 ratios, each alone and in mixed batches of five. int8: the lowest and mean cosine, on texts.

python -m lab.benchmarks.export_accuracy mini tests/golden/tiny-a GRAFT
python -m lab.benchmarks.export_accuracy mini --texts TEXTS.jsonl.gz --texts MORE.jsonl.gz --count 1000
"""

import argparse
import json
import warnings
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnxruntime as ort

from jaspertc import Embedder
from jaspertc.engine.options import LongTextWarning
from jaspertc.export.write import export
from jaspertc.reports.origin import processor
from lab.benchmarks.int8_accuracy import draw

LENGTHS = (1, 2, 17, 79, 80, 81, 82, 83, 100, 137, 256, 511, 1030, 2100)
RATIOS = (1.0, 0.9, 0.66, 0.5, 1 / 3, 0.2, 0.1, 0.05)
BATCH = 5  # texts; attention over the longest takes as much for each
ORDERS = 3  # in which the lengths are divided into batches


class Exported:
    """An exported graph in ONNX Runtime, one thread."""

    def __init__(self, model: str, folder: Path, weights: str) -> None:
        path = folder / weights / "model.onnx"
        export(model, path, weights=weights, raw=True)
        options = ort.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = 1, 3
        options.enable_cpu_mem_arena = False
        self.session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])

    def __call__(self, rows: list[np.ndarray], ratio: float, output: str) -> np.ndarray:
        ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
        mask = np.zeros_like(ids)
        for place, row in enumerate(rows):
            ids[place, : len(row)], mask[place, : len(row)] = row, 1
        feeds = {"input_ids": ids, "attention_mask": mask, "ratio": np.array([ratio])}
        found: np.ndarray = self.session.run([output], feeds)[0]
        return found


def differences(embedder: Embedder, graph: Exported) -> dict[str, Any]:
    """The largest differences before normalisation, and the largest value."""
    random = np.random.default_rng(0)
    rows = [random.integers(0, embedder.config.backbone.vocab_size, length) for length in LENGTHS]
    alone, mixed, largest = 0.0, 0.0, 0.0
    for ratio in RATIOS:
        expected = np.concatenate([embedder.encode_ids([r], ratio=ratio, normalize=False) for r in rows])
        largest = max(largest, float(np.abs(expected).max()))
        found = np.concatenate([graph([row], ratio, "raw") for row in rows])
        alone = max(alone, float(np.abs(found - expected).max()))
        for _ in range(ORDERS):
            order = random.permutation(len(rows))
            for batch in np.split(order, range(BATCH, len(order), BATCH)):
                found = graph([rows[place] for place in batch], ratio, "raw")
                mixed = max(mixed, float(np.abs(found - expected[batch]).max()))
    return {"alone": f"{alone:.1e}", "mixed batches": f"{mixed:.1e}", "largest value": round(largest, 2)}


def cosines(embedder: Embedder, graph: Exported, texts: list[str]) -> dict[str, Any]:
    """Lowest and mean cosine of unit vectors, by ratio; texts beyond the positions are compressed to them."""
    prompt, result = embedder.prompts.get("document", ""), {}
    rows = embedder.tokenize(texts, prompt=prompt)
    for ratio in (1.0, 0.33):
        expected = embedder.encode_ids(rows, ratio=ratio)
        found = np.concatenate([graph([row], ratio, "embedding") for row in rows])
        cosine = (found.astype(np.float64) * expected).sum(1)
        result[f"{ratio:g}"] = [round(float(cosine.min()), 5), round(float(cosine.mean()), 5)]
    return {"texts": len(texts), "tokens": sum(map(len, rows)), "lowest and mean cosine by ratio": result}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("models", nargs="+", help="mini or checkpoint folders")
    parser.add_argument("--texts", type=Path, action="append", help="int8 on these; repeat for more files")
    parser.add_argument("--count", type=int, default=1000)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    warnings.simplefilter("ignore", LongTextWarning)
    facts: dict[str, Any] = {"cpu": processor()}
    facts |= {name: version(name) for name in ("onnxruntime", "onnx", "torch")}
    weights = "int8" if given.texts else "float32"
    results = []
    for model in given.models:
        embedder = Embedder.load(model, device="cpu", runtime="torch", dtype="float32")
        with TemporaryDirectory() as folder:
            graph = Exported(model, Path(folder), weights)
            texts = draw(given.texts, given.count) if given.texts else []
            found = cosines(embedder, graph, texts) if texts else differences(embedder, graph)
        results.append({"model": Path(model).name, "weights": weights, **found})
        print(json.dumps(results[-1]), flush=True)
    if given.output:
        given.output.write_text(json.dumps({**facts, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
