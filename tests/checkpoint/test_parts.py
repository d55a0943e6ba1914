"""New heads and compressors: what stays, what a fitted head learns, what turning a head keeps."""

from collections.abc import Callable

import numpy as np
import pytest
import torch

from jaspertc.checkpoint.parts import fit_head, scaled_head, turned_head, with_compressor, with_head
from jaspertc.checkpoint.surgery import graft
from jaspertc.config import CompressorConfig, HeadConfig
from jaspertc.errors import InputError
from jaspertc.model.encoder import Encoder
from jaspertc.text.packing import pack

ROWS = [np.arange(3, 30), np.arange(10, 16), np.arange(1, 50)]


def vectors(encoder: Encoder, ratio: float = 1.0) -> torch.Tensor:
    lengths = np.array([len(row) for row in ROWS])
    targets = encoder.compressor.target_lengths(lengths, ratio=ratio, threshold=8, max_compressed=None)
    with torch.inference_mode():
        return encoder(pack(ROWS), targets)


def test_the_compressor_alone_changes(make_encoder: Callable[..., Encoder]) -> None:
    encoder = make_encoder(compressor=CompressorConfig())
    plain = vectors(encoder)
    average = with_compressor(encoder, "average")
    assert torch.equal(vectors(average), plain)
    residual = with_compressor(encoder, "residual-swiglu", keys={"mlp_size": 12})
    assert residual.config.compressor.mlp_size == 12
    assert torch.allclose(vectors(residual), plain, atol=1e-6)
    assert torch.allclose(vectors(residual, 0.5), vectors(average, 0.5), atol=1e-6)
    swiglu = with_compressor(encoder, "swiglu", seed=1)
    assert not torch.allclose(vectors(swiglu), plain, atol=1e-3)
    assert torch.equal(vectors(with_compressor(encoder, "swiglu", seed=1)), vectors(swiglu))
    assert with_compressor(swiglu, "swiglu") is swiglu
    assert torch.equal(vectors(with_compressor(swiglu, "none")), plain)


def test_a_fitted_head_is_the_ridge_regression(make_encoder: Callable[..., Encoder]) -> None:
    encoder = with_head(make_encoder(head=HeadConfig()), 5)
    pooled = torch.randn(400, encoder.config.backbone.hidden_size, dtype=torch.float64)
    weight, bias = torch.randn(5, pooled.shape[1], dtype=torch.float64), torch.randn(5, dtype=torch.float64)
    targets = pooled @ weight.T + bias
    fit_head(encoder, pooled, targets, ridge=0.0)
    linear = encoder.head.linear
    assert isinstance(linear, torch.nn.Linear)
    assert torch.allclose(linear.weight.double(), weight, atol=1e-5)
    assert torch.allclose(linear.bias.double(), bias, atol=1e-5)
    free = linear.weight.norm()
    fit_head(encoder, pooled, targets, ridge=10.0)
    assert linear.weight.norm() < free / 2
    assert torch.allclose(linear(pooled.float()).mean(0).double(), targets.mean(0), atol=1e-4)


def test_a_scaled_head_multiplies_each_dimension(make_encoder: Callable[..., Encoder]) -> None:
    encoder = with_head(make_encoder(head=HeadConfig()), 4)
    before, factors = vectors(encoder), torch.tensor([2.0, 2.0, 1.0, 0.5])
    assert torch.allclose(vectors(scaled_head(encoder, factors)), before * factors, atol=1e-5)


def test_turning_a_head_keeps_dot_products_and_orders_dimensions(
    make_encoder: Callable[..., Encoder],
) -> None:
    encoder = with_head(make_encoder(head=HeadConfig()), 80)
    width = encoder.config.backbone.hidden_size
    with torch.no_grad():
        sample = torch.randn(3000, width) @ encoder.head.linear.weight.T + encoder.head.linear.bias
    sample = torch.nn.functional.normalize(sample, dim=-1)
    turned = turned_head(encoder, sample, width + 1)
    old, new = vectors(encoder), vectors(turned)
    assert new.shape == (3, width + 1)
    assert torch.allclose(new @ new.T, old @ old.T, rtol=1e-4, atol=1e-4)
    strength = torch.nn.functional.normalize(torch.randn(3000, width) @ turned.head.linear.weight.T, dim=-1)
    power = strength.square().mean(0)
    assert power[:8].mean() > power[-8:].mean()
    for dims in (0, 81):
        with pytest.raises(InputError, match=f"dims is {dims}"):
            turned_head(encoder, sample, dims)


def test_chosen_layers(make_encoder: Callable[..., Encoder]) -> None:
    encoder = make_encoder()
    total = encoder.config.backbone.num_layers
    kept = graft(encoder, layers=[0, total - 1])
    assert kept.config.backbone.num_layers == 2
    names = [name for name in encoder.state_dict() if f".{total - 1}." in name]
    for name in names:
        other = name.replace(f".{total - 1}.", ".1.")
        assert torch.equal(kept.state_dict()[other], encoder.state_dict()[name])
    for wrong in ([], [1, 0], [0, 0], [0, total]):
        with pytest.raises(InputError, match="layers is"):
            graft(encoder, layers=wrong)
