"""Order within a window: each token is scaled, dimension by dimension, by its place in the window.

Shape legend: T tokens, D width.
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
from lab.compressors.arms.base import Arm, averaged, window_of

SLOTS = 8


@dataclass(frozen=True, kw_only=True)
class SlotsConfig(DisjointAverageConfig):
    kind: str = "slot-average"


class Slots(Arm):
    """The mean of (1 + g[slot]) h; a window of n tokens has its k-th in slot floor(k SLOTS / n)."""

    Config = SlotsConfig
    starts: ClassVar[Mapping[str, Mapping[str, Any]]] = {"slot-average": {"mlp": "none"}}

    def __init__(self, config: CompressorConfig, width: int) -> None:
        super().__init__(config, width)
        self.gates = nn.Parameter(torch.zeros(SLOTS, width))

    def combined(self, x: Tensor, batch: PackedBatch, windows: Windows) -> Tensor:
        window = window_of(windows, x.device)
        starts = torch.from_numpy(windows.starts).to(x.device)
        place = torch.arange(len(x), device=x.device) - starts[window]
        slot = place * SLOTS // torch.bincount(window)[window]
        return averaged((1 + self.gates[slot]) * x, window)
