"""The blocked CPU attention against scaled_dot_product_attention text by text."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from jaspertc.model.attention import (
    QUERY_BLOCK,
    PackedLayout,
    attention,
    blocked_attention,
    grouped_attention,
    padded_attention,
)

CPU = torch.device("cpu")
HEADS = [(1, 1, 8), (4, 4, 16), (8, 2, 8), (6, 3, 32), (4, 1, 16)]


def reference_attention(q: Tensor, k: Tensor, v: Tensor, layout: PackedLayout, *, causal: bool) -> Tensor:
    """``scaled_dot_product_attention`` text by text: slow, plain, what the others are compared with."""
    outputs = []
    for begin, end in zip(layout.offsets, layout.offsets[1:]):
        rows_q, rows_k, rows_v = (part[begin:end].transpose(0, 1)[None] for part in (q, k, v))
        out = F.scaled_dot_product_attention(rows_q, rows_k, rows_v, is_causal=causal, enable_gqa=True)
        outputs.append(out[0].transpose(0, 1).flatten(1))
    return torch.cat(outputs)


def layout_of(*lengths: int) -> PackedLayout:
    return PackedLayout.of(np.array(lengths, dtype=np.int64), CPU)


def random_qkv(layout, heads, kv_heads, width, dtype=torch.float32, seed=0, grad=False):
    generator = torch.Generator().manual_seed(seed)
    shapes = ((heads, width), (kv_heads, width), (kv_heads, width))
    made = (torch.randn(int(layout.offsets[-1]), *shape, generator=generator) for shape in shapes)
    return [part.to(dtype).requires_grad_(grad) for part in made]


LENGTHS = [
    (1,),
    (1, 1, 1),
    (QUERY_BLOCK - 1, QUERY_BLOCK, QUERY_BLOCK + 1),
    (2 * QUERY_BLOCK,),
    (300, 1, 257),
    (5, 5, 9, 5),
    (140, 140, 3),
    (90, 1, 97, 600, 95, 88, 2, 590),
]


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("heads", HEADS, ids=str)
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
@pytest.mark.parametrize("function", [blocked_attention, padded_attention])
def test_cpu_attention_equals_reference(function, lengths, heads, causal):
    layout = layout_of(*lengths)
    qkv = random_qkv(layout, *heads)
    found = function(*qkv, layout, causal=causal)
    assert found.shape == (sum(lengths), heads[0] * heads[2])
    torch.testing.assert_close(found, reference_attention(*qkv, layout, causal=causal), rtol=0, atol=3e-6)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("lengths", LENGTHS, ids=str)
def test_grouped_equals_reference(lengths, causal):
    """What CUDA falls back to, here on the CPU."""
    layout = layout_of(*lengths)
    qkv = random_qkv(layout, 8, 2, 8)
    found = grouped_attention(*qkv, layout, causal=causal)
    torch.testing.assert_close(found, reference_attention(*qkv, layout, causal=causal), rtol=0, atol=3e-6)


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("lengths", [(128,), (300, 40, 40)], ids=str)
def test_peaked_scores_in_bfloat16_are_as_exact_as_sdpas(lengths, causal):
    """Scores of tens, rounded to bfloat16, would be wrong by more than 0.1: ten times this error."""
    layout = layout_of(*lengths)
    q, k, v = random_qkv(layout, 4, 2, 64, torch.bfloat16)
    q, k = 3 * q, 3 * k
    exact = reference_attention(q.double(), k.double(), v.double(), layout, causal=causal)
    ours, sdpas = (
        (f(q, k, v, layout, causal=causal).double() - exact).abs()
        for f in (blocked_attention, reference_attention)
    )
    assert sdpas.mean() > 0
    assert ours.mean() < 1.5 * sdpas.mean()
    assert ours.max() < 0.04
    mixed = blocked_attention(q.float(), k.float(), v, layout, causal=causal)
    assert mixed.dtype == torch.bfloat16
    assert torch.equal(mixed, blocked_attention(q, k, v, layout, causal=causal))


@pytest.mark.parametrize("seed", range(12))
def test_random_shapes(seed):
    random = np.random.default_rng(seed)
    lengths = random.integers(1, 301, size=random.integers(1, 7))
    groups = int(random.integers(1, 4))
    heads = (groups * int(random.integers(1, 4)), groups, int(random.choice([8, 16, 24])))
    layout = layout_of(*random.choice(lengths, size=len(lengths)))  # with repeats: shared products
    qkv = random_qkv(layout, *heads, seed=seed)
    for causal in (True, False):
        torch.testing.assert_close(
            blocked_attention(*qkv, layout, causal=causal),
            reference_attention(*qkv, layout, causal=causal),
            rtol=0,
            atol=3e-6,
        )


@pytest.mark.parametrize("causal", [True, False])
def test_bfloat16_is_as_near_as_its_rounding(causal):
    layout = layout_of(1, 129, 300, 17)
    qkv = random_qkv(layout, 4, 2, 16, torch.bfloat16)
    exact = reference_attention(*(part.float() for part in qkv), layout, causal=causal)
    found = blocked_attention(*qkv, layout, causal=causal)
    assert found.dtype == torch.bfloat16
    assert (found.float() - exact).abs().max() < 0.03
    assert (found.float() - exact).abs().mean() < 0.001


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("heads", [(4, 4, 8), (4, 2, 8)], ids=str)
@pytest.mark.parametrize("function", [blocked_attention, padded_attention])
def test_gradients_equal_the_references(function, heads, causal):
    layout = layout_of(1, 130, 128, 31)
    ours, theirs = (random_qkv(layout, *heads, torch.float64, grad=True) for _ in range(2))
    weight = torch.randn(290, heads[0] * heads[2], generator=torch.Generator().manual_seed(1)).double()
    (function(*ours, layout, causal=causal) * weight).sum().backward()
    (reference_attention(*theirs, layout, causal=causal) * weight).sum().backward()
    for mine, other in zip(ours, theirs):
        assert other.grad.abs().max() > 0.1
        torch.testing.assert_close(mine.grad, other.grad, rtol=1e-9, atol=1e-9)


def test_rectangles_hold_little_padding():
    lengths = np.random.default_rng(0).integers(1, 513, size=200)
    boxes = layout_of(*lengths).rectangles
    assert len(boxes.shapes) < 25
    padded = sum(texts * tokens for texts, tokens in boxes.shapes)
    assert len(boxes.rows) == padded < 1.2 * lengths.sum()
    assert torch.equal(boxes.rows[boxes.places], torch.arange(int(lengths.sum())))


@pytest.mark.parametrize("causal", [True, False])
def test_training_pads(causal):
    """Where gradients are wanted, products run over rectangles; the backward pass has no slices."""
    layout = layout_of(7, 60, 61)
    q, k, v = random_qkv(layout, 2, 1, 8, grad=True)
    found = attention(q, k, v, layout, causal=causal)
    assert torch.equal(found, padded_attention(q, k, v, layout, causal=causal))
    with torch.no_grad():
        plain = attention(q, k, v, layout, causal=causal)
    assert torch.equal(plain, blocked_attention(q, k, v, layout, causal=causal))


def test_extreme_scores_stay_finite():
    layout = layout_of(140, 3)
    qkv = [part * 300 for part in random_qkv(layout, 2, 1, 8)]
    for causal in (True, False):
        out = attention(*qkv, layout, causal=causal)
        assert out.isfinite().all()
        assert torch.allclose(out, reference_attention(*qkv, layout, causal=causal), atol=1e-2)


def test_layout():
    layout = layout_of(3, 3, 1, 3, 1, 1)
    assert layout.runs == ((0, 2, 3), (2, 1, 1), (3, 1, 3), (4, 2, 1))
    assert layout.cu_seqlens.tolist() == [0, 3, 6, 7, 10, 11, 12]
    assert layout.cu_seqlens.dtype == torch.int32
    assert layout.positions.tolist() == [0, 1, 2, 0, 1, 2, 0, 0, 1, 2, 0, 0]
    assert layout.max_length == 3
