"""Weighted means: each token's weight in its window, for each group of dimensions, from its own embedding.

Shape legend: T tokens, C compressed tokens, D width, G groups of dimensions.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from jaspertc.config import CompressorConfig
from jaspertc.model.compressors.disjoint import DisjointAverageConfig
from jaspertc.model.compressors.windows import Windows
from jaspertc.text.packing import PackedBatch
from lab.compressors.arms.base import Arm, summed, window_of

GROUPS = 8


@dataclass(frozen=True, kw_only=True)
class WeightedConfig(DisjointAverageConfig):
    kind: str = "weighted-average"


class Weighted(Arm):
    """The sum of e^s h over that of e^s, s = a . h / |h|: with a = 0 the mean, times (window's size)^n."""

    Config = WeightedConfig
    starts: ClassVar[Mapping[str, Mapping[str, Any]]] = {"weighted-average": {"mlp": "none"}}

    def __init__(self, config: CompressorConfig, width: int) -> None:
        super().__init__(config, width)
        self.score = nn.Parameter(torch.zeros(width, GROUPS))
        self.power = nn.Parameter(torch.zeros(()))

    def combined(self, x: Tensor, batch: PackedBatch, windows: Windows) -> Tensor:
        window = window_of(windows, x.device)
        weight = (torch.nn.functional.normalize(x, dim=1) @ self.score).exp()
        by_group = (x.unflatten(1, (GROUPS, -1)) * weight[:, :, None]).flatten(1)
        mean = summed(by_group, window).unflatten(1, (GROUPS, -1)) / summed(weight, window)[:, :, None]
        size = summed(torch.ones_like(x[:, :1]), window)
        return mean.flatten(1) * size**self.power
