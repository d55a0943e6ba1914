"""Optimised checkpoints: small, near float32, and bfloat16 where int8 costs too much."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from jaspertc import Embedder
from jaspertc.checkpoint import load_checkpoint, save_checkpoint
from jaspertc.errors import CheckpointError, InputError, JasperError, MissingExtraError
from jaspertc.model.compressors.adaptive_average import AdaptiveAverageConfig
from jaspertc.model.int8 import Int8Linear

pytest.importorskip("openvino")

from jaspertc.engine.optimize import NOTE, optimize

WIDE: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 128,
    "num_layers": 3,
    "num_heads": 4,
    "head_dim": 16,
    "max_positions": 128,
}
BACKBONES: dict[str, dict[str, Any]] = {
    "qwen3": WIDE,
    "bert": WIDE | {"kind": "bert", "num_kv_heads": 4, "causal": False},
}
COMPRESSOR = AdaptiveAverageConfig(mlp="residual-swiglu", mlp_size=64, threshold=10)


@pytest.fixture(params=BACKBONES)
def source(request: pytest.FixtureRequest, make_model: Callable[..., Path]) -> Path:
    return make_model(backbone=BACKBONES[request.param], compressor=COMPRESSOR)


@pytest.fixture
def fragile(make_encoder: Callable[..., Any], tokenizer_json: Callable[[str], str], tmp_path: Path) -> Path:
    """Layer 1 has a huge column whose input is always 0: per-row scales round everything else away."""
    encoder = make_encoder(backbone=WIDE, compressor=COMPRESSOR)
    mlp = encoder.backbone.layers[1].mlp
    with torch.no_grad():
        mlp.up_proj.weight[0] = 0
        mlp.down_proj.weight[:, 0] = 1000
    return save_checkpoint(tmp_path / "fragile", encoder, tokenizer_json=tokenizer_json("bpe"))


def lowest(source: Path, out: Path, texts: list[str], ratio: float) -> float:
    expected = Embedder.load(source, device="cpu", dtype="float32").encode(texts, ratio=ratio)
    return float((Embedder.load(out).encode(texts, ratio=ratio) * expected).sum(1).min())


def test_int8_everywhere_if_accurate_enough(source: Path, sentences: list[str], tmp_path: Path) -> None:
    told: list[str] = []
    made = optimize(source, tmp_path / "out", sentences, least=0.9, say=told.append)
    assert made.exact == ()
    assert made.gains == {}
    assert len(told) == 2
    stored = load_file(made.folder / "model.safetensors")
    matrices = [
        part for name, part in stored.items() if ".0." in name and part.ndim == 2 and part.shape[1] > 1
    ]
    assert len(matrices) >= 6
    assert all(part.dtype == torch.int8 for part in matrices)
    assert {part.dtype for part in stored.values()} <= {torch.int8, torch.float32, torch.bfloat16}
    assert made.after == (made.folder / "model.safetensors").stat().st_size < 0.45 * made.before
    model = Embedder.load(made.folder)
    assert (model.runtime.name, model.runtime.precision) == ("openvino", "int8")
    assert model.prompts == Embedder.load(source).prompts
    assert model.checkpoint.info.notes[NOTE]["worst cosine"] == pytest.approx(made.accuracy.worst, abs=1e-6)
    for ratio in (1.0, 0.33):
        found = lowest(source, made.folder, sentences, ratio)
        assert made.accuracy.worst - 1e-5 <= found < 1 - 1e-6


def test_the_length_of_pieces_stays(
    make_model: Callable[..., Path], sentences: list[str], tmp_path: Path
) -> None:
    source = make_model(backbone=WIDE, compressor=COMPRESSOR, save={"piece_length": 64})
    made = optimize(source, tmp_path / "out", sentences, least=0.5)
    assert load_checkpoint(made.folder).info.piece_length == 64


def test_what_costs_too_much_stays_in_bfloat16(fragile: Path, sentences: list[str], tmp_path: Path) -> None:
    made = optimize(fragile, tmp_path / "out", sentences, least=0.99)
    assert made.whole.worst < 0.97
    assert made.exact == ("layer 1",)
    assert made.accuracy.worst >= 0.99
    assert max(made.gains, key=lambda part: made.gains[part]) == "layer 1"
    checkpoint = load_checkpoint(made.folder, keep_int8=True)
    assert checkpoint.info.notes[NOTE]["exact"] == ["layer 1"]
    kinds = [
        {isinstance(layer.mlp.down_proj, Int8Linear), isinstance(layer.self_attn.q_proj, Int8Linear)}
        for layer in checkpoint.encoder.backbone.layers  # type: ignore[union-attr]
    ]
    assert kinds == [{True}, {False}, {True}]
    assert lowest(fragile, made.folder, sentences, 1.0) >= 0.99
    torch_vectors = Embedder.load(made.folder, runtime="torch").encode(sentences)
    assert (torch_vectors * Embedder.load(made.folder).encode(sentences)).sum(1).min() >= 0.99


def test_the_same_bytes_again(source: Path, sentences: list[str], tmp_path: Path) -> None:
    out = tmp_path / "out"
    optimize(source, out, sentences, least=0.9)
    first = {path.name: path.read_bytes() for path in out.iterdir()}
    optimize(source, out, sentences, least=0.9, overwrite=True)
    assert {path.name: path.read_bytes() for path in out.iterdir()} == first


def test_int8_weights_are_taken_as_they_are(
    make_model: Callable[..., Path], sentences: list[str], tmp_path: Path
) -> None:
    source = make_model(backbone=WIDE, compressor=COMPRESSOR, save={"weights": "int8"})
    made = optimize(source, tmp_path / "out", sentences, least=0.9)
    before, after = (load_file(folder / "model.safetensors") for folder in (source, made.folder))
    kept = [name for name, part in after.items() if part.dtype == torch.int8]
    assert len(kept) == 1 + 3 * 7
    assert all(torch.equal(after[name], before[name]) for name in kept)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"texts": []}, InputError, "no texts"),
        ({"least": 1.5}, InputError, "least is 1.5"),
        ({"least": float("nan")}, InputError, "least is nan"),
        ({"least": 0.9999999}, InputError, "even with all layers in bfloat16"),
        ({"out": "source"}, CheckpointError, "write to another folder"),
        ({"out": "there"}, CheckpointError, "already exists"),
        ({"source": "missing"}, CheckpointError, "no model"),
    ],
)
def test_refusals(
    model_folder: Path,
    sentences: list[str],
    tmp_path: Path,
    options: dict[str, Any],
    error: type[JasperError],
    message: str,
) -> None:
    (tmp_path / "there").mkdir()
    (tmp_path / "there" / "notes.txt").write_text("mine")
    out = {"source": model_folder, "there": tmp_path / "there"}.get(options.pop("out", ""), tmp_path / "out")
    source, texts = options.pop("source", model_folder), options.pop("texts", sentences)
    with pytest.raises(error, match=message):
        optimize(source, out, texts, **options)
    assert not (tmp_path / "out").exists()
    assert (tmp_path / "there" / "notes.txt").read_text() == "mine"


def test_not_twice(model_folder: Path, sentences: list[str], tmp_path: Path) -> None:
    made = optimize(model_folder, tmp_path / "out", sentences, least=0.5)
    with pytest.raises(CheckpointError, match="optimised already"):
        optimize(made.folder, tmp_path / "again", sentences)


def test_without_openvino(model_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(
        "jaspertc.engine.optimize.find_spec", lambda name: None if name == "openvino" else found(name)
    )
    with pytest.raises(MissingExtraError, match=r"jaspertc\[cpu\]"):
        optimize(model_folder, tmp_path / "out", ["a text"])


def test_a_large_projection_is_not_joined(make_model: Callable[..., Path], sentences: list[str]) -> None:
    """Above ``JOINED_BYTES`` the three projections are three products over the mapped file."""
    folder = make_model(backbone=WIDE, compressor=COMPRESSOR, save={"weights": "int8"})
    joined = Embedder.load(folder, runtime="openvino").encode(sentences)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("jaspertc.engine.runtimes.openvino.graph.JOINED_BYTES", 0)
        apart = Embedder.load(folder, runtime="openvino").encode(sentences)
    np.testing.assert_allclose(apart, joined, rtol=0, atol=1e-5)
