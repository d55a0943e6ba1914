"""Prepared layers against the trained modules, and that a vector depends on its text alone."""

import numpy as np
import pytest
import torch

from jaspertc.config import HeadConfig
from jaspertc.engine.precision import normalized
from jaspertc.engine.runtimes.torch_runtime import TorchRuntime
from jaspertc.model import products as products_module
from jaspertc.model.compressors import lookup
from jaspertc.model.compressors.adaptive_average import AdaptiveAverageConfig
from jaspertc.model.products import ACTIVATIONS, Product, can_pack
from jaspertc.text.packing import pack

BACKBONES = {
    "qwen3": {"max_positions": 600},
    "qwen3-both-ways": {"causal": False, "num_kv_heads": 1, "max_positions": 600},
    "bert": {"kind": "bert", "num_kv_heads": 4, "causal": False, "max_positions": 600},
    "bert-tanh": {"kind": "bert", "num_kv_heads": 4, "causal": False, "max_positions": 600, "gelu": "tanh"},
    "roberta": {
        "kind": "bert",
        "num_kv_heads": 4,
        "causal": False,
        "max_positions": 600,
        "position_offset": 2,
    },
}
LENGTHS = (40, 40, 1, 300, 17, 129, 40, 2, 500)
# Largest difference of unit vectors, by what products are computed in.
TOLERANCE = {"float32": 1e-5, "bfloat16": 0.03}


def random_rows(lengths=LENGTHS, seed=0):
    random = np.random.default_rng(seed)
    return [random.integers(0, 320, size=length) for length in lengths]


def targets_of(rows, ratio=0.4):
    return np.array([len(row) if len(row) <= 8 else int(8 + (len(row) - 8) * ratio) for row in rows])


def trained_vectors(encoder, rows, targets):
    with torch.inference_mode():
        return encoder(pack(rows), targets).numpy()


@pytest.fixture(params=["packed", "plain"])
def products(request, monkeypatch):
    """Both ways of computing a product, whatever this machine has."""
    if request.param == "plain":
        monkeypatch.setattr(products_module, "can_pack", lambda dtype: False)
    return request.param


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", BACKBONES)
def test_prepared_layers_compute_what_was_trained(make_encoder, products, kind, dtype):
    options = {"backbone": BACKBONES[kind], "head": HeadConfig(dims=24)}
    rows = random_rows()
    targets = targets_of(rows)
    exact = normalized(trained_vectors(make_encoder(**options), rows, targets))
    runtime = TorchRuntime(make_encoder(**options), device="cpu", dtype=dtype)
    found = normalized(runtime.embed(pack(rows), targets))
    assert np.abs(found - exact).max() < TOLERANCE[dtype]
    assert np.abs(exact[0] - exact[1]).max() > 0.06  # two texts of one length: the bounds are tight


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("kind", ["qwen3", "bert"])
def test_vectors_do_not_depend_on_batch_order_or_threads(make_encoder, kind, dtype):
    runtime = TorchRuntime(make_encoder(backbone=BACKBONES[kind]), device="cpu", dtype=dtype)
    rows = random_rows() + random_rows(seed=1)
    targets = targets_of(rows)
    alone = np.concatenate([runtime.embed(pack([row]), targets[[i]]) for i, row in enumerate(rows)])
    random = np.random.default_rng(2)
    for threads in (1, 2, 3):
        torch.set_num_threads(threads)
        try:
            for size in (1, 2, 7, len(rows)):
                order = random.permutation(len(rows))
                pieces = [order[begin : begin + size] for begin in range(0, len(rows), size)]
                batches = [(pack([rows[i] for i in piece]), targets[piece]) for piece in pieces]
                found = np.concatenate(list(runtime.embed_all(iter(batches))))
                assert np.abs(normalized(found) - normalized(alone)[order]).max() < TOLERANCE[dtype], (
                    threads,
                    size,
                )
        finally:
            torch.set_num_threads(1)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize("mlp", ["swiglu", "residual-swiglu"])
def test_earlier_calls_change_no_bit(make_encoder, mlp, dtype):
    """The folded table is filled as tokens occur, each row as if it were the only one."""
    compressor = AdaptiveAverageConfig(mlp=mlp, mlp_size=40, threshold=8)
    text = pack([np.arange(90, 130)])
    targets = np.array([20])
    seen = []
    for before in ([], [100], [91, 123, 300], list(range(95, 120)), list(range(320))):
        runtime = TorchRuntime(make_encoder(compressor=compressor), device="cpu", dtype=dtype)
        for token in before[:3]:
            runtime.embed(pack([[token]]), np.array([1]))
        if before:
            runtime.embed(pack([before]), np.array([len(before)])[:1].clip(max=60))
        seen.append(runtime.embed(text, targets))
    for found in seen[1:]:
        np.testing.assert_array_equal(found, seen[0])


@pytest.mark.parametrize("size", [1, 5, 32])
def test_every_id_has_its_place(size):
    ids = np.unique(np.random.default_rng(0).integers(0, 1000, size=150))
    asked = []
    for rows, places in lookup.fixed_places(ids, size):
        assert rows.shape == (size,)
        assert (rows[places] % size == places).all()
        asked += rows[places].tolist()
    assert sorted(asked) == ids.tolist()


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_fused_steps_of_a_product(products, dtype):
    generator = torch.Generator().manual_seed(0)
    layers = [torch.nn.Linear(48, width, bias=True) for width in (16, 40)]
    x, other = (torch.randn(7, width, generator=generator).to(dtype) for width in (48, 56))
    weight = torch.cat([layer.weight for layer in layers]).detach().to(dtype)
    bias = torch.cat([layer.bias for layer in layers]).detach().to(dtype)
    product = Product.of(*(layer.to(dtype) for layer in layers))
    assert product.packed == (products == "packed" and can_pack(dtype))
    exact = x.double() @ weight.double().T + bias.double()
    bound = {"rtol": 0, "atol": 5e-6 if dtype == torch.float32 else 0.03}
    for name in ACTIVATIONS:
        expected = products_module.activate(exact, name)
        torch.testing.assert_close(product(x, name).double(), expected, **bound)
    torch.testing.assert_close(product.plus(x, other).double(), exact + other.double(), **bound)
    torch.testing.assert_close(product.times(x, other).double(), exact * other.double(), **bound)


def test_without_onednns_operators(monkeypatch, make_encoder):
    """Another PyTorch may lack them or compute something else: the plain products are taken then."""
    can_pack.cache_clear()
    monkeypatch.setattr(products_module, "_packed_equals_plain", lambda dtype: torch.ops.mkldnn.no_such_thing)
    try:
        assert not can_pack(torch.float32)
        assert not Product(torch.ones(3, 3), None).packed
        runtime = TorchRuntime(make_encoder(), device="cpu", dtype="float32")
        assert np.isfinite(runtime.embed(pack([[1, 2, 3]]), np.array([3]))).all()
    finally:
        can_pack.cache_clear()


def test_the_checkpoints_encoder_stays_as_it_was(make_encoder):
    """It can still be saved, grafted and trained after a runtime was made of it."""
    encoder, untouched = make_encoder(), make_encoder()
    TorchRuntime(encoder, device="cpu", dtype="float32").embed(pack([[1, 2, 3]]), np.array([3]))
    state = untouched.state_dict()
    assert encoder.state_dict().keys() == state.keys()
    assert all(torch.equal(value, state[name]) for name, value in encoder.state_dict().items())


def test_the_next_batch_is_made_before_a_result_is_given(model):
    """On a GPU that is the time in which the batch before is computed."""
    log = []

    def batches():
        for number in range(3):
            log.append(f"made {number}")
            yield pack([[number, 5, 6]]), np.array([3])

    for number, vectors in enumerate(model.runtime.embed_all(batches())):
        log.append(f"given {number}")
        np.testing.assert_array_equal(vectors, model.runtime.embed(pack([[number, 5, 6]]), np.array([3])))
    assert log == ["made 0", "made 1", "given 0", "made 2", "given 1", "given 2"]
    assert list(model.runtime.embed_all([])) == []
