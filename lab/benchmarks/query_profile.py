"""Where the time of one query goes, and how much of it the matrix products alone take.

    python lab/benchmarks/query_profile.py mini --runtime onnxruntime --threads 2

First the query's parts, medians; then the shorter way of a text alone beside the longer way of many, in
turns, and (OpenVINO) the layers alone in graphs of one shape and of any. Then the matrices of the model's
layers as products of ONNX Runtime, nothing between them, for as many rows as the query has tokens: unsigned
int8 by unsigned int8 (exact everywhere), by signed int8 (overflows in 16 bits on processors without VNNI),
and float32, in turns. Run it with nothing beside it.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import torch
from onnx import TensorProto, helper

from jaspertc import Embedder
from jaspertc.checkpoint import load_checkpoint
from jaspertc.engine.runtimes.cpu_engine import CpuEngineRuntime
from jaspertc.engine.runtimes.onnx_layers import CONTRIBUTED
from jaspertc.engine.texts import TextSide
from jaspertc.export.graph import Graph, model_of
from jaspertc.export.products import MIDDLE, unsigned
from jaspertc.model.int8 import Int8Linear
from jaspertc.model.weights import int8_rows
from jaspertc.reports.origin import processor, versions

QUERY = "which of the rivers of the north is the longest, and where does it end?"


def milliseconds(seconds: list[float]) -> dict[str, float]:
    low, middle, high = np.quantile(seconds, [0.05, 0.5, 0.95]) * 1000
    return {"p50": round(middle, 3), "p5": round(low, 3), "p95": round(high, 3)}


def in_turns(calls: dict[str, Callable[[], Any]], rounds: int) -> dict[str, dict[str, float]]:
    """Milliseconds of each; the first fifth of the rounds warms up."""
    seconds: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(rounds):
        for name, call in calls.items():
            begin = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - begin)
    return {name: milliseconds(found[rounds // 5 :]) for name, found in seconds.items()}


def parts(model: Embedder, rounds: int) -> dict[str, dict[str, float]]:
    """Of a query: what is before its tokens are there, tokenizer, before, in and after the layers."""
    runtime = model.runtime
    assert isinstance(runtime, CpuEngineRuntime), "a runtime with an engine's layers"
    marks: list[float] = []

    def marked(call: Callable[..., Any]) -> Callable[..., Any]:
        def timed(*given: Any, **named: Any) -> Any:
            marks.append(time.perf_counter())
            found = call(*given, **named)
            marks.append(time.perf_counter())
            return found

        return timed

    class Marked:
        threads = 0

        def __call__(self, *given: Any) -> Any:
            return timed_layers(*given)

    backbone: Any = runtime.encoder.backbone
    layers, tokenize = backbone.layers, model.texts.tokenize
    timed_layers = marked(layers)
    backbone.layers, model.texts.tokenize = Marked(), marked(tokenize)  # type: ignore[method-assign]
    names = ("checks", "tokenizer", "lookup", "layers", "pooling, head and vector", "whole call")
    found: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(rounds):
        marks.clear()
        begin = time.perf_counter()
        model.encode_query([QUERY])
        times = [begin, *marks, time.perf_counter()]
        for name, seconds in zip(names, [*np.diff(times), times[-1] - begin]):
            found[name].append(float(seconds))
    backbone.layers, model.texts.tokenize = layers, tokenize  # type: ignore[method-assign]
    return {name: milliseconds(seconds[rounds // 5 :]) for name, seconds in found.items()}


def ways(model: Embedder, rounds: int) -> dict[str, dict[str, float]]:
    """A query by the way of a text alone, and by that of many texts."""
    alone = TextSide._alone

    def longer() -> None:
        TextSide._alone = lambda *_: None  # type: ignore[method-assign]
        try:
            model.encode_query([QUERY])
        finally:
            TextSide._alone = alone  # type: ignore[method-assign]

    return in_turns({"shorter": lambda: model.encode_query([QUERY]), "longer": longer}, rounds)


def shapes(model: Embedder, tokens: int, rounds: int) -> dict[str, dict[str, float]]:
    """The layers alone, of one text: in OpenVINO's graph for rows of its width, and in that for any shape."""
    backbone = model.runtime.encoder.backbone  # type: ignore[attr-defined]
    layers, lengths = backbone.layers, np.array([tokens], dtype=np.int64)
    x = np.random.default_rng(0).normal(size=(tokens, model.config.backbone.hidden_size)).astype(np.float32)

    def any_shape() -> None:
        layers.has_shapes = False
        try:
            layers(x, lengths)
        finally:
            layers.has_shapes = True

    return in_turns({"own": lambda: layers(x, lengths), "any": any_shape}, rounds)


def products(layers: list[Int8Linear], rows: int, kind: str, threads: int) -> Callable[[], Any]:
    """All matrices, each multiplied by the same rows: ``uu``, ``us`` or ``float32``."""
    graph = Graph()
    inputs, feed = {}, {}
    outputs = []
    for number, layer in enumerate(layers):
        whole, scale = int8_rows(layer)
        width = whole.shape[1]
        name, dtype = f"x{width}", np.float32 if kind == "float32" else np.uint8
        feed[name] = np.random.default_rng(0).integers(0, 256, (rows, width)).astype(dtype)
        data_type = helper.np_dtype_to_tensor_dtype(np.dtype(dtype))
        inputs[name] = helper.make_tensor_value_info(name, data_type, ["rows", width])
        out = f"out{number}"
        weight = f"w{number}"
        if kind == "float32":
            graph.weight(weight, np.ascontiguousarray((whole * scale).T.astype(np.float32)))
            graph.nodes.append(helper.make_node("MatMul", [name, weight], [out]))
        else:
            graph.weight(weight, unsigned(whole.T) if kind == "uu" else np.ascontiguousarray(whole.T))
            graph.weight(f"s{number}", scale[:, 0])
            middle = MIDDLE if kind == "uu" else np.array(0, np.int8)
            rest = [graph.value(x).name for x in (np.array(1, np.float32), MIDDLE, middle)]
            names = [name, weight, rest[0], f"s{number}", rest[1], rest[2]]
            graph.nodes.append(helper.make_node("MatMulIntegerToFloat", names, [out], domain=CONTRIBUTED))
        outputs.append(helper.make_tensor_value_info(out, TensorProto.FLOAT, ["rows", len(whole)]))
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.log_severity_level = threads, 3
    options.add_session_config_entry("session.force_spinning_stop", "1")
    content = model_of(graph, inputs=list(inputs.values()), outputs=outputs).SerializeToString()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return lambda: session.run(None, feed)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", nargs="?", default="mini", help="a model with int8 weights")
    parser.add_argument("--runtime", default="onnxruntime", help="openvino or onnxruntime")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--rounds", type=int, default=300)
    parser.add_argument("--output", type=Path, help="JSON file for the result")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    model = Embedder.load(options.model, runtime=options.runtime)
    (row,) = model.tokenize([QUERY], prompt=model.prompts.get("query", ""))
    stored = load_checkpoint(options.model, keep_int8=True).encoder.backbone
    matrices = [part for part in stored.modules() if isinstance(part, Int8Linear)]
    kinds = ("uu", "us", "float32")
    calls = {kind: products(matrices, len(row), kind, options.threads) for kind in kinds}
    report = {
        "processor": processor(),
        "threads": options.threads,
        "versions": versions("torch", "openvino", "onnxruntime", "tokenizers"),
        "model": Path(options.model).name,
        "runtime": f"{model.runtime.name}, {model.runtime.precision}",
        "tokens": len(row),
        "parts, ms": parts(model, options.rounds),
        "ways, ms": ways(model, options.rounds),
        f"{len(matrices)} products, ms": in_turns(calls, options.rounds),
    }
    if getattr(model.runtime.encoder.backbone.layers, "has_shapes", False):  # type: ignore[attr-defined]
        report["layers by shape, ms"] = {
            f"{count} tokens": shapes(model, count, options.rounds) for count in (16, 24, 32)
        }
    print(json.dumps(report, indent=1))
    if options.output:
        options.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
