"""What a mean loses: a window's standard deviation beside it, through a matrix that is zero at the start.

Shape legend: T tokens, D width.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor, nn

from jaspertc.config import CompressorConfig
from jaspertc.model.compressors.disjoint import DisjointAverageConfig
from jaspertc.model.compressors.windows import Windows
from jaspertc.text.packing import PackedBatch
from lab.compressors.arms.base import Arm, averaged, window_of

LEAST = 1e-6  # of a variance: windows of one token have none


@dataclass(frozen=True, kw_only=True)
class SpreadConfig(DisjointAverageConfig):
    kind: str = "average-and-spread"


class Spread(Arm):
    """mean + W sqrt(variance), W = 0 at the start."""

    Config = SpreadConfig
    starts: ClassVar[Mapping[str, Mapping[str, Any]]] = {"average-and-spread": {"mlp": "none"}}

    def __init__(self, config: CompressorConfig, width: int) -> None:
        super().__init__(config, width)
        self.beside = nn.Linear(width, width, bias=False)
        nn.init.zeros_(self.beside.weight)

    @classmethod
    def flops(cls, config: CompressorConfig, width: int, tokens: int) -> int:
        return 2 * tokens * width * width

    def combined(self, x: Tensor, batch: PackedBatch, windows: Windows) -> Tensor:
        window = window_of(windows, x.device)
        mean = averaged(x, window)
        variance = averaged((x - mean[window]) ** 2, window)
        return mean + self.beside((variance + LEAST).sqrt())
