"""The whole forward pass: folding, training, poolers and heads."""

import numpy as np
import pytest
import torch

from jaspertc.config import CompressorConfig, HeadConfig
from jaspertc.errors import InputError, RatioError
from jaspertc.model.compressors.adaptive_average import AdaptiveAverageConfig, ResidualSwiGLU
from jaspertc.text.packing import pack

COMPRESSORS = {
    mlp: AdaptiveAverageConfig(mlp=mlp, mlp_size=0 if mlp == "none" else 40, threshold=4)
    for mlp in ("swiglu", "residual-swiglu", "none")
}
BERT = {"kind": "bert", "num_kv_heads": 4, "causal": False}


def batch_of(*lengths, seed=0):
    random = np.random.default_rng(seed)
    return pack([random.integers(0, 320, size=length) for length in lengths])


def vectors(encoder, batch, ratio):
    targets = encoder.compressor.target_lengths(batch.lengths, ratio=ratio, threshold=4, max_compressed=None)
    return encoder(batch, targets)


@pytest.mark.parametrize("ratio", [1, 0.9, 0.3])
@pytest.mark.parametrize("backbone", [{}, BERT], ids=["qwen3", "bert"])
@pytest.mark.parametrize("mlp", COMPRESSORS)
def test_folding_changes_nothing(make_encoder, mlp, backbone, ratio):
    encoder = make_encoder(backbone=backbone, compressor=COMPRESSORS[mlp], head=HeadConfig(dims=24))
    batch = batch_of(3, 50, 4, 5, 61)
    with torch.no_grad():
        live = vectors(encoder, batch, ratio)
        encoder.fold()
        for _ in range(2):  # the second time every row is there already
            torch.testing.assert_close(vectors(encoder, batch, ratio), live, rtol=1e-5, atol=1e-5)
    assert live.dtype == torch.float32


def test_a_folded_table_fills_with_new_ids(make_encoder):
    encoder, batches = make_encoder(), [batch_of(20, seed=1), batch_of(30, 9, seed=2)]
    with torch.no_grad():
        live = [vectors(encoder, batch, 0.5) for batch in batches]
        encoder.fold()
        for batch, expected in zip(batches, live):
            torch.testing.assert_close(vectors(encoder, batch, 0.5), expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("ratio", [1, 0.4])
@pytest.mark.parametrize("backbone", [{}, BERT], ids=["qwen3", "bert"])
@pytest.mark.parametrize("mlp", ["swiglu", "residual-swiglu"])
def test_gradients_reach_every_weight(make_encoder, mlp, backbone, ratio):
    encoder = make_encoder(backbone=backbone, compressor=COMPRESSORS[mlp], head=HeadConfig(dims=24)).train()
    batch = batch_of(3, 50, 9)
    vectors(encoder, batch, ratio).square().sum().backward()
    for name, weight in encoder.named_parameters():
        assert weight.grad is not None, name
        assert weight.grad.isfinite().all(), name
        # A key bias adds the same to every score of a query, so softmax cancels it.
        assert weight.grad.abs().max() > (0 if name.endswith("key.bias") else 1e-6), name
    used = encoder.backbone.token_table.weight.grad.abs().sum(1) > 0
    assert set(used.nonzero().flatten().tolist()) == set(batch.ids.tolist())


def test_gradient_through_the_windows_is_the_derivative(make_encoder):
    """Against finite differences in float64, for the token table and the compressor's MLP."""
    encoder = make_encoder(compressor=COMPRESSORS["swiglu"]).double()
    batch = batch_of(23, 6)
    weight = torch.randn(2, 32, dtype=torch.float64, generator=torch.Generator().manual_seed(0))

    def loss():
        x = encoder.compress(batch, np.array([7, 5]))
        return (x.tanh()[[0, 9]] * weight).sum()

    loss().backward()
    for name in ("backbone.embed_tokens.weight", "compressor.mlp.down_proj.weight"):
        parameter = encoder.get_parameter(name)
        place = (int(batch.ids[0]), 3) if "embed" in name else (2, 3)
        with torch.no_grad():
            parameter[place] += 1e-6
            up = loss()
            parameter[place] -= 2e-6
            down = loss()
            parameter[place] += 1e-6
        slope = float(up - down) / 2e-6
        assert abs(slope) > 1e-4
        assert float(parameter.grad[place]) == pytest.approx(slope, rel=1e-4)


def test_training_after_folding_uses_the_live_weights(make_encoder):
    encoder, batch = make_encoder(), batch_of(30, 7)
    encoder.fold()
    with torch.no_grad():
        before = vectors(encoder, batch, 0.5)
        encoder.train()
        encoder.compressor.mlp.down_proj.weight.mul_(2)
        encoder.eval()
        changed = vectors(encoder, batch, 0.5)
        assert not torch.allclose(before, changed, atol=1e-2)
        encoder.fold()
        torch.testing.assert_close(vectors(encoder, batch, 0.5), changed, rtol=1e-5, atol=1e-5)
    encoder.train()
    vectors(encoder, batch, 0.5).sum().backward()
    assert encoder.backbone.token_table.weight.grad.abs().max() > 0


def test_residual_swiglu_starts_as_the_identity():
    torch.manual_seed(0)
    x = torch.randn(5, 16)
    mlp = ResidualSwiGLU(16, 24)
    assert torch.equal(mlp(x), x)
    mlp(x).sum().backward()
    assert mlp.down_proj.weight.grad.abs().max() > 0  # it can leave the identity
    with torch.no_grad():
        mlp.down_proj.weight.fill_(0.1)
    assert not torch.allclose(mlp(x), x, atol=1e-3)


@pytest.mark.parametrize(
    ("pooler", "expected"),
    [("mean", lambda x: x.mean(0)), ("last", lambda x: x[-1]), ("first", lambda x: x[0])],
)
def test_poolers(pooler, expected):
    from jaspertc.model.attention import PackedLayout
    from jaspertc.model.poolers import POOLERS

    lengths = np.array([1, 4, 2, 33])
    x = torch.randn(40, 8, generator=torch.Generator().manual_seed(0)).to(torch.bfloat16)
    found = POOLERS[pooler](x, PackedLayout.of(lengths, x.device))
    assert found.dtype == torch.float32
    parts = torch.stack([expected(part.float()) for part in x.split(lengths.tolist())])
    torch.testing.assert_close(found, parts, rtol=0, atol=1e-6)


@pytest.mark.parametrize("bias", [True, False])
def test_head_is_a_linear_layer_in_float32(make_encoder, bias):
    encoder = make_encoder(head=HeadConfig(dims=24, bias=bias))
    plain = make_encoder(head=HeadConfig())  # same seed, so the same weights below the head
    plain.load_state_dict({k: v for k, v in encoder.state_dict().items() if not k.startswith("head.")})
    batch = batch_of(9, 30)
    with torch.no_grad():
        below = vectors(plain, batch, 0.5)
        expected = below @ encoder.head.linear.weight.T + (encoder.head.linear.bias if bias else 0)
        torch.testing.assert_close(vectors(encoder, batch, 0.5), expected, rtol=1e-5, atol=1e-5)
        assert vectors(encoder.bfloat16(), batch, 0.5).dtype == torch.float32


@pytest.mark.parametrize("folded", [True, False])
@pytest.mark.parametrize("wrong", [-1, 320, 2**40])
def test_ids_outside_the_vocabulary(make_encoder, wrong, folded):
    encoder = make_encoder()
    if folded:
        encoder.fold()
    with pytest.raises(InputError, match=rf"token id {wrong} is outside this model's vocabulary of 320"):
        vectors(encoder, pack([[3, 4], [5, wrong]]), 0.5)


def test_without_a_compressor(make_encoder):
    encoder = make_encoder(compressor=CompressorConfig())
    batch = batch_of(50, 7)
    with torch.no_grad():
        assert vectors(encoder, batch, 1).shape == (2, 32)
    with pytest.raises(RatioError, match="no compressor"):
        vectors(encoder, batch, 0.5)
    with pytest.raises(RatioError, match="no compressor"):
        vectors(encoder, batch, [1, 0.5])
