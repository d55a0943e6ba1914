"""From hidden states to one vector per text.

Shape legend: C compressed tokens, N texts, D width.
"""

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from jaspertc.model.attention import PackedLayout


def mean_pool(x: Tensor, layout: PackedLayout) -> Tensor:
    """Mean over each text's tokens in float32: (C, D) -> (N, D)."""
    every = torch.arange(len(x), device=x.device)
    return F.embedding_bag(every, x.float(), layout.cu_seqlens[:-1].long(), mode="mean")


def last_pool(x: Tensor, layout: PackedLayout) -> Tensor:
    """Each text's last token in float32: (C, D) -> (N, D)."""
    return x[layout.cu_seqlens[1:].long() - 1].float()


def first_pool(x: Tensor, layout: PackedLayout) -> Tensor:
    """Each text's first token in float32: (C, D) -> (N, D)."""
    return x[layout.cu_seqlens[:-1].long()].float()


POOLERS: dict[str, Callable[[Tensor, PackedLayout], Tensor]] = {
    "mean": mean_pool,
    "last": last_pool,
    "first": first_pool,
}
