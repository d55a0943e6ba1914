"""The runtime 'onnxruntime' against PyTorch in float32."""

import os
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from engine_shapes import BERT

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

import onnxruntime
import torch
from onnx import TensorProto, helper

from jaspertc import Embedder
from jaspertc.checkpoint import load_checkpoint
from jaspertc.engine.runtimes import onnx_layers
from jaspertc.engine.runtimes.choosing import candidates
from jaspertc.engine.runtimes.cpu_engine import EngineBackbone
from jaspertc.errors import InputError, MissingExtraError
from jaspertc.export.graph import Graph, Value, model_of
from jaspertc.model.compressors.adaptive_average import AdaptiveAverageConfig

LENGTHS = (1, 3, 17, 30, 31, 64, 150, 40, 300, 2)
ROWS = [np.random.default_rng(0).integers(1, 250, length) for length in LENGTHS]
TEXTS = ["A river flows to the sea.", "面包会发起来。", "bread", "One line. " * 60]


@pytest.fixture(scope="module", params=["qwen3", "bert"])
def folder(request: pytest.FixtureRequest, make_model: Callable[..., Path]) -> Path:
    backbone = BERT if request.param == "bert" else {"max_positions": 600}
    return make_model(backbone=backbone, compressor=AdaptiveAverageConfig(threshold=30))


@pytest.mark.parametrize("ratio", [1.0, 0.3])
def test_equals_torch_in_float32(folder: Path, ratio: float) -> None:
    expected = Embedder.load(folder, device="cpu", dtype="float32").encode_ids(ROWS, ratio=ratio)
    model = Embedder.load(folder, runtime="onnxruntime", dtype="float32")
    assert (model.runtime.name, model.runtime.precision) == ("onnxruntime", "float32")
    assert np.abs(model.encode_ids(ROWS, ratio=ratio) - expected).max() <= 2e-5


@pytest.mark.parametrize("vnni", [True, False])
def test_int8_is_near_and_a_text_has_no_neighbours(
    folder: Path, monkeypatch: pytest.MonkeyPatch, vnni: bool
) -> None:
    if vnni and not onnx_layers.cpu_has_vnni():
        pytest.skip("signed weights overflow on this processor")
    monkeypatch.setattr(onnx_layers, "cpu_has_vnni", lambda: vnni)
    exact = Embedder.load(folder, device="cpu", dtype="float32").encode_ids(ROWS)
    model = Embedder.load(folder, runtime="onnxruntime", dtype="int8")
    found = model.encode_ids(ROWS)
    assert 0.98 < (found * exact).sum(1).min() < 0.999999
    alone = np.concatenate([model.encode_ids([row]) for row in ROWS])
    assert (alone * found).sum(1).min() > 0.9995


def test_mini_in_int8() -> None:
    exact = np.asarray(Embedder.load("mini", device="cpu", runtime="torch", dtype="float32").encode(TEXTS))
    model = Embedder.load("mini", runtime="onnxruntime")
    assert model.runtime.precision == "int8"
    assert 0.995 <= (np.asarray(model.encode(TEXTS)) * exact).sum(1).min() < 0.999999
    assert ("onnxruntime", "int8") in candidates(load_checkpoint(model.checkpoint.folder, keep_int8=True))


def test_what_it_has_not(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="has 'cpu' only"):
        Embedder.load(model_folder, runtime="onnxruntime", device="cuda")
    with pytest.raises(InputError, match="has auto, int8, float32"):
        Embedder.load(model_folder, runtime="onnxruntime", dtype="bfloat16")
    monkeypatch.setattr(onnx_layers, "INLINE_BYTES", 1000)
    with pytest.raises(InputError, match="too large for the runtime"):
        Embedder.load(model_folder, runtime="onnxruntime")
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingExtraError, match=r"jaspertc\[onnx\]"):
        Embedder.load(model_folder, runtime="onnxruntime")


def test_a_forked_process_says_what_it_lacks(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = Embedder.load(model_folder, runtime="onnxruntime")
    model.encode_ids([ROWS[0]])
    backbone = model.runtime.encoder.backbone
    assert isinstance(backbone, EngineBackbone)
    monkeypatch.setattr(backbone.layers, "_own_threads", 2)
    monkeypatch.setattr(backbone.layers, "_process", os.getpid() + 1)
    with pytest.raises(InputError, match="forked"):
        model.encode_ids([ROWS[0]])


@pytest.mark.parametrize("signed", [True, False])
def test_a_row_of_zeros_stays_one(signed: bool) -> None:
    if signed and not onnx_layers.cpu_has_vnni():
        pytest.skip("signed weights overflow on this processor")
    torch.manual_seed(0)
    graph, layer = Graph(), torch.nn.Linear(64, 32)
    products = onnx_layers.RuntimeProducts(graph, int8=True, every=True)
    products._signed = signed
    out = products.linear("layer", Value(graph, "x"), layer)
    graph.nodes.append(helper.make_node("Identity", [out.name], ["out"]))
    ends = [
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, ["rows", width])]
        for name, width in (("x", 64), ("out", 32))
    ]
    model = model_of(graph, inputs=ends[0], outputs=ends[1]).SerializeToString()
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    x = np.zeros((3, 64), np.float32)
    x[1], x[2] = np.random.default_rng(0).standard_normal(64), 1e-30
    (found,) = session.run(None, {"x": x})
    bias = layer.bias.detach().numpy()
    assert np.array_equal(found[[0, 2]], np.stack([bias, bias]))
    exact = layer(torch.from_numpy(x)).detach().numpy()[1]
    assert np.corrcoef(found[1], exact)[0, 1] > 0.999
