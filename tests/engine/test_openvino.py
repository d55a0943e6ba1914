"""The OpenVINO runtime against PyTorch in float32, and where texts lie in rows."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaspertc import Embedder
from jaspertc.config import CompressorConfig
from jaspertc.engine.rows import NARROWEST, STEP, plan_rows
from jaspertc.errors import InputError, MissingExtraError

BERT = {
    "kind": "bert",
    "hidden_size": 64,
    "num_heads": 4,
    "num_kv_heads": 4,
    "head_dim": 16,
    "causal": False,
    "max_positions": 600,
}


@given(st.lists(st.integers(1, 700), min_size=1, max_size=60))
def test_every_token_has_its_cell(lengths: list[int]) -> None:
    rows = plan_rows(np.array(lengths))
    assert len(set(rows.cells.tolist())) == sum(lengths)
    assert rows.width % STEP == 0
    assert rows.width >= max(lengths)
    owners = np.repeat(np.arange(len(lengths)), lengths)
    assert (rows.segments.reshape(-1)[rows.cells] == owners).all()
    assert (rows.segments >= 0).sum() == sum(lengths)
    assert (
        rows.cells // rows.width == np.repeat(rows.cells[np.cumsum(lengths) - 1] // rows.width, lengths)
    ).all()
    within = np.concatenate([np.arange(length) for length in lengths])
    assert (rows.positions.reshape(-1)[rows.cells] == within).all()


def test_short_texts_share_rows() -> None:
    rows = plan_rows(np.full(100, 20))
    assert (rows.width, rows.count) == (NARROWEST, -(-100 // (NARROWEST // 20)))
    assert plan_rows(np.array([20])).segments.shape == (1, 32)


@pytest.fixture(scope="module", params=["qwen3", "bert"])
def folder(request: pytest.FixtureRequest, make_model: Callable[..., Path]) -> Path:
    pytest.importorskip("openvino")
    backbone: dict[str, Any] = BERT if request.param == "bert" else {"max_positions": 600}
    return make_model(backbone=backbone, compressor=CompressorConfig(kind="adaptive-average", threshold=30))


@pytest.fixture(scope="module")
def rows() -> list[np.ndarray]:
    rng = np.random.default_rng(0)
    return [rng.integers(1, 250, length) for length in (1, 3, 17, 30, 31, 64, 150, 40, 300, 2)]


def vectors(folder: Path, rows: list[np.ndarray], **options: Any) -> np.ndarray:
    ratio = options.pop("ratio", 1.0)
    return np.asarray(Embedder.load(folder, **options).encode_ids(rows, ratio=ratio))


@pytest.mark.parametrize("ratio", [1.0, 0.5, 0.1])
def test_equals_torch_in_float32(folder: Path, rows: list[np.ndarray], ratio: float) -> None:
    expected = vectors(folder, rows, dtype="float32", ratio=ratio)
    found = vectors(folder, rows, runtime="openvino", dtype="float32", ratio=ratio)
    assert np.abs(found - expected).max() <= 1e-5


@pytest.mark.parametrize(("dtype", "least"), [("int8", 0.99), ("auto", 0.99), ("bfloat16", 0.99)])
def test_near_torch_in_small_precision(
    folder: Path, rows: list[np.ndarray], dtype: str, least: float
) -> None:
    expected = vectors(folder, rows, dtype="float32", ratio=0.5)
    found = vectors(folder, rows, runtime="openvino", dtype=dtype, ratio=0.5)
    assert (found * expected).sum(axis=1).min() >= least
    if dtype == "int8":
        assert np.abs(found - expected).max() > 1e-5  # it is quantised


def test_a_text_does_not_depend_on_its_neighbours(folder: Path, rows: list[np.ndarray]) -> None:
    model = Embedder.load(folder, runtime="openvino")
    together = model.encode_ids(rows, ratio=0.5)
    alone = np.concatenate([model.encode_ids([row], ratio=0.5) for row in rows])
    assert (together * alone).sum(axis=1).min() >= 0.9999


@pytest.mark.parametrize(
    ("options", "message"), [({"device": "cuda"}, "'cpu' only"), ({"dtype": "float16"}, "float16")]
)
def test_what_it_does_not_have(model_folder: Path, options: dict[str, str], message: str) -> None:
    with pytest.raises(InputError, match=message):
        Embedder.load(model_folder, runtime="openvino", **options)


def test_without_openvino(model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "openvino", None)
    with pytest.raises(MissingExtraError, match=r"jaspertc\[cpu\]"):
        Embedder.load(model_folder, runtime="openvino")
