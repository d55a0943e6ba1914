"""From hidden states to one vector per text.

Shape legend: C compressed tokens, N texts, D width.
"""

from collections.abc import Callable

from jaspertc.model.attention import PackedLayout
from jaspertc.pytorch import Tensor, torch
from jaspertc.pytorch import functional as F


def in_float32(x: Tensor) -> Tensor:
    """``x`` in float32, or in float64 if it is."""
    return x.to(torch.promote_types(x.dtype, torch.float32))


def mean_pool(x: Tensor, layout: PackedLayout) -> Tensor:
    """Mean over each text's tokens in float32: (C, D) -> (N, D)."""
    every = torch.arange(len(x), device=x.device)
    return F.embedding_bag(every, in_float32(x), layout.cu_seqlens[:-1].long(), mode="mean")


def last_pool(x: Tensor, layout: PackedLayout) -> Tensor:
    """Each text's last token in float32: (C, D) -> (N, D)."""
    return in_float32(x[layout.cu_seqlens[1:].long() - 1])


def first_pool(x: Tensor, layout: PackedLayout) -> Tensor:
    """Each text's first token in float32: (C, D) -> (N, D)."""
    return in_float32(x[layout.cu_seqlens[:-1].long()])


POOLERS: dict[str, Callable[[Tensor, PackedLayout], Tensor]] = {
    "mean": mean_pool,
    "last": last_pool,
    "first": first_pool,
}
