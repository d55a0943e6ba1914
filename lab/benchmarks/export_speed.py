"""An exported int8 graph in ONNX Runtime against our OpenVINO runtime, and OpenVINO reading that same graph:
time and agreement by ratio, texts one at a time, in interleaved rounds. One thread; times are CPU seconds of
this process, so that other processes matter little.

python lab/benchmarks/export_speed.py mini --count 12 --rounds 3 --agreement 96 --output RESULT.json
"""

import argparse
import json
import statistics
import time
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnxruntime as ort
import openvino as ov
import torch

from jaspertc import Embedder
from jaspertc.engine.options import LongTextWarning
from jaspertc.export.write import export
from jaspertc.files.texts import read_texts
from jaspertc.reports.origin import processor
from jaspertc.samples import load_samples

RATIOS = (1.0, 0.66, 0.5, 0.33, 0.2, 0.1)
Run = Callable[[np.ndarray, float], np.ndarray]


def feeds(row: np.ndarray, ratio: float) -> dict[str, np.ndarray]:
    return {
        "input_ids": row[None],
        "attention_mask": np.ones((1, len(row)), np.int64),
        "ratio": np.array([ratio]),
        "threshold": np.array([80]),
    }


def contenders(name: str, folder: Path, embedder: Embedder) -> dict[str, Run]:
    """What computes a text's vector from its ids, by name; OpenVINO where it takes the graph."""
    path = folder / "model.onnx"
    export(name, path, weights="int8", defaults=False)
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    found: dict[str, Run] = {
        "our OpenVINO runtime, int8": lambda row, ratio: embedder.encode_ids([row], ratio=ratio)[0],
        "ONNX Runtime, int8 graph": lambda row, ratio: session.run(["embedding"], feeds(row, ratio))[0][0],
    }
    limits = {"INFERENCE_NUM_THREADS": 1, "PERFORMANCE_HINT": "LATENCY"}
    request = ov.Core().compile_model(str(path), "CPU", limits).create_infer_request()
    row = np.arange(5, 95)
    output = request.infer(feeds(row, 0.5))[0]
    if output.shape[0] == 1 and np.allclose(
        output[0], found["ONNX Runtime, int8 graph"](row, 0.5), atol=0.02
    ):
        found["OpenVINO, int8 graph"] = lambda row, ratio: request.infer(feeds(row, ratio))[0][0]
    else:
        print(f"OpenVINO {version('openvino')} computes something else from this graph: shape {output.shape}")
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("model", nargs="?", default="mini")
    parser.add_argument("--texts", type=Path, help="a file of texts; default: the package's passages")
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--agreement", type=int, default=0, help="texts for int8 against float32")
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    warnings.simplefilter("ignore", LongTextWarning)
    torch.set_num_threads(1)
    texts = (
        [row.text for row in read_texts(given.texts)]
        if given.texts
        else [passage["text"] for passage in load_samples("passages")]
    )
    embedder = Embedder.load(given.model, device="cpu", runtime="openvino")
    prompt = embedder.prompts.get("document", "")
    step = max(1, len(texts) // given.count)
    rows = embedder.tokenize(texts[::step][: given.count], prompt=prompt)
    with TemporaryDirectory() as folder:
        runs = contenders(given.model, Path(folder), embedder)
        seconds: dict[str, dict[float, list[float]]] = {name: {r: [] for r in RATIOS} for name in runs}
        for run in runs.values():
            for row in rows:
                run(row, 0.33)
        for _ in range(given.rounds):
            for ratio in RATIOS:
                for name, run in runs.items():
                    started = time.process_time()
                    for row in rows:
                        run(row, ratio)
                    seconds[name][ratio].append(time.process_time() - started)
        results = [_summary(name, ratio, rows, seconds, embedder) for name in runs for ratio in RATIOS]
        if given.agreement:
            results.append(_agreement(given.model, runs, texts[: given.agreement], prompt))
    facts: dict[str, Any] = {
        "cpu": processor(),
        **{name: version(name) for name in ("onnxruntime", "openvino", "torch")},
        "texts": len(rows),
        "tokens": int(sum(map(len, rows))),
        "rounds": given.rounds,
        "results": results,
    }
    for result in results:
        print(json.dumps(result))
    if given.output:
        given.output.write_text(json.dumps(facts, indent=1) + "\n")


def _summary(
    name: str,
    ratio: float,
    rows: list[np.ndarray],
    seconds: dict[str, dict[float, list[float]]],
    embedder: Any,
) -> dict[str, Any]:
    """Ratios of one round's times: what else the machine does changes less within a round."""
    ours = next(iter(seconds.values()))
    spent, lengths = seconds[name], np.array([len(row) for row in rows])
    against = [mine / theirs for mine, theirs in zip(spent[ratio], ours[ratio])]
    speedups = [whole / mine for whole, mine in zip(spent[1.0], spent[ratio])]
    return {
        "contender": name,
        "ratio": ratio,
        "compressed tokens": int(embedder.target_lengths(lengths, ratio=ratio).sum()),
        "ms per text": round(1000 * statistics.median(spent[ratio]) / len(rows), 2),
        "time / our OpenVINO": _spread(against),
        "speed-up over ratio 1": _spread(speedups),
    }


def _agreement(model: str, runs: dict[str, Run], texts: list[str], prompt: str) -> dict[str, Any]:
    """Cosines of each contender's vectors to float32 ones, lowest and mean, at ratio .33."""
    exact = Embedder.load(model, device="cpu", dtype="float32", runtime="torch")
    rows = exact.tokenize(texts, prompt=prompt)
    expected = exact.encode_ids(rows, ratio=0.33)
    found: dict[str, Any] = {"texts": len(rows)}
    for name, run in runs.items():
        cosines = (np.stack([run(row, 0.33) for row in rows]) * expected).sum(1)
        found[name] = [round(float(cosines.min()), 5), round(float(cosines.mean()), 5)]
    return found


def _spread(values: list[float]) -> list[float]:
    """Median, lowest, highest."""
    return [round(value, 3) for value in (statistics.median(values), min(values), max(values))]


if __name__ == "__main__":
    main()
