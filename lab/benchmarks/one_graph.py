"""Could one graph serve both? Our own layers in OpenVINO against those of the exported graph, put in their
place, and against the whole exported graph; weights int8 in the same form, the same options, one thread.
Times are CPU seconds of this process, so that other processes matter little.

python -m lab.benchmarks.one_graph mini --rounds 15
python -m lab.benchmarks.one_graph 600m --layers 4 --rounds 7
"""

import argparse
import json
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import openvino as ov
import torch
from onnx import TensorProto, helper

from jaspertc import Embedder
from jaspertc.checkpoint import load_checkpoint
from jaspertc.engine.runtimes import RUNTIMES
from jaspertc.engine.runtimes.openvino.layers import GROUP, WIDE_GROUP
from jaspertc.engine.runtimes.openvino.runtime import OpenVINORuntime
from jaspertc.engine.runtimes.rows import plan_rows
from jaspertc.export import encoder as exported
from jaspertc.export.backbones import layers_graph
from jaspertc.export.compression import Layout
from jaspertc.export.graph import Graph, Value, save
from jaspertc.export.products import Products
from jaspertc.machine import cpu_has_bfloat16
from jaspertc.model.backbones import Backbone
from jaspertc.model.weights import int8_rows
from jaspertc.reports.origin import processor
from lab.compare.random_model import released_shape, write_random_model

KEPT = 2000  # rows of the token table, of which ids are drawn
CASES = {  # lengths of the texts of a call, ratio
    "1 x 16": ([16], 1.0),
    "1 x 128": ([128], 1.0),
    "1 x 512": ([512], 1.0),
    "1 x 1024, ratio .33": ([1024], 0.33),
    "8 of 20 to 480": ([20, 35, 60, 90, 130, 190, 300, 480], 1.0),
}
Run = Callable[[list[np.ndarray], float], np.ndarray]


class CompressedProducts(Products):
    """Products as OpenVINO wants them: int8 weights with their scales, and activations left to it. With
    MatMulInteger, as in files for ONNX Runtime, OpenVINO 2026.4 computes something else."""

    def _int8_product(self, name: str, x: Value, layers: Any, bias: Any) -> Value:
        pairs = [int8_rows(layer) for layer in layers]
        whole, scales = (np.concatenate(parts) for parts in zip(*pairs))
        stored = (
            self.graph.weight(f"{name}.weight", whole),
            self.graph.weight(f"{name}.scale", scales[:, 0]),
        )
        matrix = self.graph.op("DequantizeLinear", *stored, axis=0)
        rest = [] if bias is None else [self.graph.weight(f"{name}.bias", bias)]
        return self.graph.op("Gemm", x, matrix, *rest, transB=1)


def options(width: int) -> dict[str, Any]:
    """As ``OpenVINOLayers`` has them."""
    return {
        "PERFORMANCE_HINT": "LATENCY",
        "ENABLE_CPU_PINNING": False,
        "INFERENCE_NUM_THREADS": 1,
        "INFERENCE_PRECISION_HINT": "bf16" if cpu_has_bfloat16() else "f32",
        "DYNAMIC_QUANTIZATION_GROUP_SIZE": WIDE_GROUP if width % WIDE_GROUP == 0 else GROUP,
    }


def compiled(graph: Graph, inputs: list[Any], outputs: list[Any], width: int) -> Any:
    with TemporaryDirectory() as folder:
        path = Path(folder) / "graph.onnx"
        save(graph, path, inputs=inputs, outputs=outputs, metadata={"jaspertc.version": version("jaspertc")})
        return ov.Core().compile_model(str(path), "CPU", options(width)).create_infer_request()


class ExportedLayers(Backbone):
    """``OpenVINOLayers`` with those of the exported graph; rectangles are planned as there."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone.config)
        self._table, width = backbone.token_table, backbone.config.hidden_size
        graph = Graph()
        names = ("states", "positions", "cells", "places", "real")
        states, positions, cells, places, real = (Value(graph, name) for name in names)
        layout = Layout(
            lengths=positions, text=positions, positions=positions, cells=cells, places=places, real=real
        )
        out = layers_graph(CompressedProducts(graph, "int8"), backbone.config, backbone, layout, states)
        graph.nodes.append(helper.make_node("Identity", [out.name], ["out"]))
        kinds = [(TensorProto.FLOAT, ["tokens", width]), (TensorProto.INT64, ["tokens"])]
        kinds += [(TensorProto.INT64, ["rows", "cells"]), (TensorProto.INT64, ["tokens"])]
        kinds += [(TensorProto.BOOL, ["rows", "cells"])]
        inputs = [helper.make_tensor_value_info(name, *kind) for name, kind in zip(names, kinds)]
        outputs = [helper.make_tensor_value_info("out", TensorProto.FLOAT, ["tokens", width])]
        self._request = compiled(graph, inputs, outputs, width)

    @property
    def token_table(self) -> torch.nn.Embedding:
        return self._table

    def forward(self, x: torch.Tensor, layout: Any) -> torch.Tensor:
        out = torch.empty_like(x)
        for rows in plan_rows(layout.lengths):
            tokens = torch.from_numpy(rows.tokens)
            states = torch.zeros(len(rows.places), x.shape[1])
            states[: len(tokens)] = x[tokens]
            real = np.arange(rows.cells.shape[1]) < rows.lengths[:, None]
            inputs = [states.numpy(), rows.positions, rows.cells, rows.places]
            inputs = [inputs[0], *(part.astype(np.int64) for part in inputs[1:]), real]
            result = self._request.infer(inputs, share_inputs=True, share_outputs=True)[0]
            out[tokens] = torch.from_numpy(result)[: len(tokens)]
        return out


class ExportedRuntime(OpenVINORuntime):
    def _prepare_layers(self) -> None:
        self.encoder.backbone = ExportedLayers(self.encoder.backbone)


def whole_graph(model: Path | str) -> Run:
    """The exported graph from ids to vectors, in OpenVINO."""
    products, exported.Products = exported.Products, CompressedProducts
    try:
        checkpoint = load_checkpoint(model, keep_int8=True)
        config = checkpoint.info.config.compressor
        built = exported.build(
            checkpoint,
            weights="int8",
            ratio=config.ratio,
            threshold=config.threshold,
            keep=np.arange(KEPT),
            defaults=False,
        )
    finally:
        exported.Products = products
    width = checkpoint.info.config.backbone.hidden_size
    request = compiled(built.graph, built.inputs, built.outputs, width)

    def run(rows: list[np.ndarray], ratio: float) -> np.ndarray:
        ids = np.zeros((len(rows), max(map(len, rows))), np.int64)
        mask = np.zeros_like(ids)
        for place, row in enumerate(rows):
            ids[place, : len(row)], mask[place, : len(row)] = row, 1
        feeds = {"input_ids": ids, "attention_mask": mask}
        feeds |= {"ratio": np.array([ratio]), "threshold": np.array([config.threshold])}
        found: np.ndarray = request.infer(feeds)[0].copy()
        return found

    return run


def embedding(embedder: Embedder) -> Run:
    return lambda rows, ratio: embedder.encode_ids(rows, ratio=ratio)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", help="a checkpoint, or 600m: the released shape, random weights")
    parser.add_argument("--layers", type=int, default=0, help="of the shape 600m; 0: all")
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    torch.set_num_threads(1)
    RUNTIMES["exported"] = ExportedRuntime
    with TemporaryDirectory() as folder:
        model: Path | str = given.model
        if model == "600m":
            model = write_random_model(Path(folder) / "600m", released_shape(model, given.layers))
        runs: dict[str, Run] = {}
        for name, runtime in (("ours", "openvino"), ("exported layers", "exported")):
            started = time.process_time()
            runs[name] = embedding(Embedder.load(model, device="cpu", runtime=runtime))
            print(f"{name}: loaded in {time.process_time() - started:.1f} s", flush=True)
        started = time.process_time()
        runs["whole exported graph"] = whole_graph(model)
        print(f"whole exported graph: loaded in {time.process_time() - started:.1f} s", flush=True)
        exact = embedding(Embedder.load(model, device="cpu", runtime="torch", dtype="float32"))
        results = [measured(label, *case, runs, exact, given.rounds) for label, case in CASES.items()]
    facts = {"model": given.model, "layers": given.layers, "cpu": processor(), "rounds": given.rounds}
    facts |= {name: version(name) for name in ("openvino", "onnx", "torch")}
    if given.output:
        given.output.write_text(json.dumps({**facts, "results": results}, indent=1) + "\n")


def measured(
    label: str, lengths: list[int], ratio: float, runs: dict[str, Run], exact: Run, rounds: int
) -> dict[str, Any]:
    """Milliseconds of ours; of the others, medians and quartiles of the quotient with ours in each round;
    of all, the lowest cosine to float32."""
    random = np.random.default_rng(0)
    rows = [random.integers(5, KEPT, length) for length in lengths]
    expected = exact(rows, ratio)
    lowest = {name: float((run(rows, ratio) * expected).sum(1).min()) for name, run in runs.items()}
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds):
        for name, run in list(runs.items())[:: (-1) ** number]:
            started = time.process_time()
            run(rows, ratio)
            seconds[name].append(time.process_time() - started)
    ours = seconds.pop("ours")
    result: dict[str, Any] = {"texts": label, "our ms": round(1000 * statistics.median(ours), 2)}
    for name, times in seconds.items():
        quotients = [mine / our for mine, our in zip(times, ours)]
        low, median, high = statistics.quantiles(quotients, n=4)
        result[f"{name} / ours"] = [round(value, 3) for value in (median, low, high)]
    result["lowest cosine to float32"] = {name: round(value, 5) for name, value in lowest.items()}
    print(json.dumps(result), flush=True)
    return result


if __name__ == "__main__":
    main()
