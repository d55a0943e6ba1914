"""The OpenVINO runtime against PyTorch in float32, and where texts lie in rows."""

import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from engine_shapes import BERT
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from jaspertc import Embedder
from jaspertc.checkpoint import load_checkpoint
from jaspertc.engine.runtimes.cpu_engine import EngineBackbone
from jaspertc.engine.runtimes.openvino import layers
from jaspertc.engine.runtimes.openvino.layers import CompiledGraph
from jaspertc.engine.runtimes.openvino.runtime import OPENVINO
from jaspertc.engine.runtimes.rows import CALL, CELL, STEP, plan_rows
from jaspertc.errors import InputError, MissingExtraError
from jaspertc.model.attention import PackedLayout
from jaspertc.model.compressors.adaptive_average import AdaptiveAverageConfig


@given(st.lists(st.integers(1, 700), min_size=1, max_size=60))
def test_every_token_has_its_cell(lengths: list[int]) -> None:
    plan = plan_rows(np.array(lengths))
    assert sorted(np.concatenate([rows.tokens for rows in plan]).tolist()) == list(range(sum(lengths)))
    texts = np.repeat(np.arange(len(lengths)), lengths)
    within = np.concatenate([np.arange(length) for length in lengths])
    for rows in plan:
        used, (count, width) = len(rows.tokens), rows.cells.shape
        assert used <= len(rows.places) <= max(used + STEP - 1, used * 33 / 32)
        assert (rows.lengths > 0).sum() <= count <= max(1, (rows.lengths > 0).sum() * 9 / 8)
        assert width % STEP == 0
        assert (rows.cells.reshape(-1)[rows.places[:used]] == np.arange(used)).all()
        assert (rows.positions[:used] == within[rows.tokens]).all()
        assert (rows.places[:used] % width == within[rows.tokens]).all()  # a text begins where its row does
        owners = np.full(count, -1)
        owners[rows.places[:used] // width] = texts[rows.tokens]
        assert (owners[rows.places[:used] // width] == texts[rows.tokens]).all()  # one text in a row
        assert (rows.lengths[owners >= 0] == np.array(lengths)[owners[owners >= 0]]).all()
        assert not rows.lengths[owners < 0].any()


@given(st.lists(st.integers(1, 700), min_size=1, max_size=60))
def test_one_rectangle_for_all_costs_no_less(lengths: list[int]) -> None:
    def cost(count: int, longest: int) -> float:
        return CALL + CELL * count * (-(-longest // STEP) * STEP) ** 2

    parts = [rows.lengths[rows.lengths > 0] for rows in plan_rows(np.array(lengths))]
    assert sum(cost(len(part), part.max()) for part in parts) <= cost(len(lengths), max(lengths)) + 1e-6
    assert all(before.min() >= after.max() for before, after in pairwise(parts))


def test_texts_of_one_length_stay_together() -> None:
    (rows,) = plan_rows(np.full(100, 20))
    assert rows.cells.shape == (104, 32)
    (rows,) = plan_rows(np.array([16]))
    assert (rows.cells.shape, len(rows.places)) == ((1, 16), 16)


def test_few_shapes() -> None:
    sizes = {len(plan_rows(np.array([length]))[0].places) for length in range(1, 2049)}
    assert len(sizes) <= 96
    assert len({plan_rows(np.full(count, 3))[0].cells.shape for count in range(1, 513)}) <= 64


@pytest.mark.parametrize("causal", [True, False])
def test_mask(causal: bool) -> None:
    (rows,) = plan_rows(np.array([9, 12]))
    count, width = rows.cells.shape
    seen = np.broadcast_to(rows.mask(causal=causal) == 0, (count, 1, width, width))[:, 0]
    for row, length in enumerate([12, 9]):
        expected = np.tri(length, dtype=bool) if causal else np.ones((length, length), dtype=bool)
        assert (seen[row, :length, :length] == expected).all()
        assert not seen[row, :length, length:].any()


@pytest.fixture(scope="module", params=["qwen3", "bert"])
def folder(request: pytest.FixtureRequest, make_model: Callable[..., Path]) -> Path:
    pytest.importorskip("openvino")
    backbone: dict[str, Any] = BERT if request.param == "bert" else {"max_positions": 600}
    return make_model(backbone=backbone, compressor=AdaptiveAverageConfig(threshold=30))


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


def test_no_rectangle_holds_short_and_long_texts() -> None:
    lengths = np.array([20, 33, 30, 40, 32, 31, 33])
    short = [rows.lengths[rows.lengths > 0] <= 32 for rows in plan_rows(lengths, apart=32)]
    assert [set(part.tolist()) for part in short] == [{False}, {True}]
    assert len(plan_rows(lengths)) == 1
    assert [len(part) for part in short] == [3, 4]
    (alone,) = plan_rows(np.array([7]), apart=32)
    assert alone.cells.shape == (1, 16)


@pytest.fixture
def amx(monkeypatch: pytest.MonkeyPatch) -> None:
    """Any processor is taken for one with AMX."""
    monkeypatch.setattr(layers, "cpu_has_amx", lambda: True)


@pytest.mark.usefixtures("amx")
def test_short_texts_in_int8_and_long_ones_with_expanded_matrices(
    folder: Path, rows: list[np.ndarray]
) -> None:
    expected = vectors(folder, rows, dtype="float32", ratio=0.5)
    model = Embedder.load(folder, runtime="openvino", dtype="int8")
    backbone = model.runtime.encoder.backbone
    assert isinstance(backbone, EngineBackbone)
    assert not backbone.layers._compiled
    first = model.encode_ids(rows[:2], ratio=0.5)
    assert list(backbone.layers._compiled) == [(True, 0)]
    together = model.encode_ids(rows, ratio=0.5)
    assert list(backbone.layers._compiled) == [(True, 0), (False, 0)]
    assert np.abs(together[:2] - first).max() <= 1e-6
    alone = np.concatenate([model.encode_ids([row], ratio=0.5) for row in rows])
    assert np.abs(together - alone).max() <= 1e-6
    cosines = (together * expected).sum(axis=1)
    assert cosines.min() >= 0.99
    short = np.array([len(row) <= 30 for row in rows])
    assert np.abs(together - expected)[short].max() > 1e-5  # they are quantised


@pytest.mark.parametrize("small", [True, False])
def test_a_short_text_alone_has_a_graph_of_its_shape_where_layers_are_small(
    folder: Path, rows: list[np.ndarray], small: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers, "cpu_has_amx", lambda: False)
    if not small:
        monkeypatch.setattr(layers, "SMALL", 0)
    model = Embedder.load(folder, runtime="openvino", dtype="float32")
    backbone = model.runtime.encoder.backbone
    assert isinstance(backbone, EngineBackbone)
    texts = [np.resize(rows[-1], length) for length in (5, 16, 17, 24)]
    alone = np.concatenate([model.encode_ids([text], ratio=1.0) for text in texts])
    widths = {width for _, width in backbone.layers._compiled}
    assert widths == ({8, 16, 24} if small else {0})
    assert len(backbone.layers._models) == small
    assert np.abs(alone - model.encode_ids(texts, ratio=1.0)).max() <= 1e-6
    model.encode_ids([np.resize(rows[-1], 40)], ratio=1.0)  # long: no graph of its own
    assert {width for _, width in backbone.layers._compiled} == widths | {0}


def test_graphs_of_one_shape_are_never_in_bfloat16(
    folder: Path, rows: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(layers, "cpu_has_amx", lambda: False)
    monkeypatch.setattr(layers, "cpu_has_bfloat16", lambda: True)
    for dtype, expected in (("int8", {"f32": True, "bf16": False}), ("bfloat16", {"bf16": False})):
        model = Embedder.load(folder, runtime="openvino", dtype=dtype)
        made: dict[str, bool] = {}

        class Seen(CompiledGraph):
            def __init__(self, model: Any, *, hint: str, group: int, threads: int, made: Any = made) -> None:
                made[hint] = not model.is_dynamic()
                super().__init__(model, hint=hint, group=group, threads=threads)

        monkeypatch.setattr(layers, "CompiledGraph", Seen)
        alone = np.concatenate([model.encode_ids([row], ratio=1.0) for row in rows])
        assert made == expected
        assert np.abs(alone - model.encode_ids(rows, ratio=1.0)).max() <= 1e-6


def test_layers_left_in_bfloat16_beside_int8_ones(
    make_model: Callable[..., Path], rows: list[np.ndarray]
) -> None:
    folder = make_model(
        backbone=BERT, compressor=AdaptiveAverageConfig(threshold=30), save={"weights": "int8"}
    )
    tensors = load_file(folder / "model.safetensors")
    scale = next(name for name in sorted(tensors) if name.endswith("dense.weight.scale"))
    weight = scale.removesuffix(".scale")
    tensors[weight] = (tensors[weight].float() * tensors.pop(scale)).bfloat16()
    save_file(tensors, folder / "model.safetensors")
    expected = vectors(folder, rows, runtime="torch", dtype="float32")
    model = Embedder.load(folder, runtime="openvino", dtype="int8")
    together = model.encode_ids(rows, ratio=1.0)
    assert (together * expected).sum(axis=1).min() >= 0.99
    alone = np.concatenate([model.encode_ids([row], ratio=1.0) for row in rows])
    assert np.abs(together - alone).max() <= 1e-6


@pytest.mark.usefixtures("amx")
def test_what_is_compiled_late_has_all_threads(folder: Path, rows: list[np.ndarray]) -> None:
    torch.set_num_threads(2)
    try:
        model = Embedder.load(folder, runtime="openvino", dtype="int8")
        model.encode_ids(rows)
    finally:
        torch.set_num_threads(1)
    backbone = model.runtime.encoder.backbone
    assert isinstance(backbone, EngineBackbone)
    assert len(backbone.layers._compiled) == 2
    for graph in backbone.layers._compiled.values():
        assert graph._compiled.get_property("INFERENCE_NUM_THREADS") == 2


@pytest.mark.usefixtures("amx")
def test_threads_compile_each_kind_once(
    folder: Path, rows: list[np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[str] = []

    class Counted(CompiledGraph):
        def __init__(self, model: Any, *, hint: str, group: int, threads: int) -> None:
            made.append(hint)
            super().__init__(model, hint=hint, group=group, threads=threads)

    monkeypatch.setattr(layers, "CompiledGraph", Counted)
    model = Embedder.load(folder, runtime="openvino", dtype="int8")
    with ThreadPoolExecutor(4) as pool:
        vectors = list(pool.map(lambda _: model.encode_ids(rows), range(8)))
    assert sorted(made) == ["bf16", "f32"]
    assert all(np.abs(each - vectors[0]).max() <= 1e-6 for each in vectors)


@pytest.mark.parametrize(("dtype", "least"), [("int8", 0.99), ("auto", 0.99), ("bfloat16", 0.99)])
def test_near_torch_in_small_precision(
    folder: Path, rows: list[np.ndarray], dtype: str, least: float
) -> None:
    expected = vectors(folder, rows, dtype="float32", ratio=0.5)
    found = vectors(folder, rows, runtime="openvino", dtype=dtype, ratio=0.5)
    assert (found * expected).sum(axis=1).min() >= least
    if dtype == "int8":
        assert np.abs(found - expected).max() > 1e-5  # it is quantised


@pytest.mark.parametrize("dtype", ["int8", "bfloat16", "float32"])
def test_a_text_does_not_depend_on_its_neighbours(folder: Path, rows: list[np.ndarray], dtype: str) -> None:
    model = Embedder.load(folder, runtime="openvino", dtype=dtype)
    together = model.encode_ids(rows, ratio=0.5)
    alone = np.concatenate([model.encode_ids([row], ratio=0.5) for row in rows])
    assert np.abs(together - alone).max() <= 1e-6
    assert np.abs(together - model.encode_ids(rows[::-1], ratio=0.5)[::-1]).max() <= 1e-6


@pytest.mark.parametrize(("tokens", "expected"), [(20, 1), (9000, 2)])
def test_one_thread_of_pytorch_for_little_work(
    make_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tokens: int, expected: int
) -> None:
    pytest.importorskip("openvino")
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        embedder = Embedder.load(make_model(backbone={"max_positions": 600}), runtime="openvino")
        seen: list[int] = []
        forward = EngineBackbone.forward

        def counted(self: EngineBackbone, *given: Any) -> torch.Tensor:
            seen.append(torch.get_num_threads())
            return forward(self, *given)

        monkeypatch.setattr(EngineBackbone, "forward", counted)
        embedder.encode_ids([np.arange(tokens) % 50], ratio=0.01)
        assert seen == [expected]
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_positions_are_not_rounded(make_model: Callable[..., Path]) -> None:
    """In bfloat16, positions above 256 would fall together."""
    pytest.importorskip("openvino")
    folder = make_model(backbone={"max_positions": 2000})
    backbone = load_checkpoint(folder).encoder.backbone.float()
    for name, weight in backbone.named_parameters():
        weight.requires_grad_(False)
        if name.endswith(("q_norm.weight", "k_norm.weight")):
            weight.fill_(3.0)  # sharp attention: positions matter
    layout = PackedLayout.of(np.array([1500]), torch.device("cpu"))
    x = torch.randn(1500, backbone.config.hidden_size, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        expected = backbone(x, layout)[-100:]
        layers = OPENVINO.layers(backbone.config, backbone, precision="bfloat16", threads=2)
        found = EngineBackbone(backbone, layers)(x, layout)[-100:]
    assert torch.nn.functional.cosine_similarity(expected, found).mean() >= 0.995


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
