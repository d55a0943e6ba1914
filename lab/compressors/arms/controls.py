"""What any gain has to be measured against: tokens left out in place of averaged, and a wider MLP.

Shape legend: T tokens, C compressed tokens, D width, M width in the middle.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch.nn.functional as F
from torch import Tensor, nn

from jaspertc.config import CompressorConfig
from jaspertc.model.compressors.base import Compressor
from jaspertc.model.compressors.disjoint import DisjointAverage, DisjointAverageConfig
from jaspertc.model.compressors.lookup import TokenRows
from jaspertc.model.compressors.windows import Windows
from jaspertc.text.packing import PackedBatch
from lab.compressors.arms.base import Arm

MIDDLE = 192  # as many parameters as the arms with a matrix have


@dataclass(frozen=True, kw_only=True)
class FirstConfig(DisjointAverageConfig):
    kind: str = "first-tokens"


class First(DisjointAverage):
    """The first C tokens, the others left out."""

    Config = FirstConfig
    starts: ClassVar[Mapping[str, Mapping[str, Any]]] = {"first-tokens": {"mlp": "none"}}

    window_edges = staticmethod(Compressor.window_edges)


@dataclass(frozen=True, kw_only=True)
class EveryConfig(DisjointAverageConfig):
    kind: str = "every-nth-token"


class Every(DisjointAverage):
    """The first token of each window, the others left out."""

    Config = EveryConfig
    starts: ClassVar[Mapping[str, Mapping[str, Any]]] = {"every-nth-token": {"mlp": "none"}}

    @staticmethod
    def window_edges(index: Any, length: Any, target: Any) -> tuple[Any, Any]:
        first, _ = DisjointAverage.window_edges(index, length, target)
        return first, first + 1


@dataclass(frozen=True, kw_only=True)
class WiderConfig(DisjointAverageConfig):
    kind: str = "wider-mlp"


class Wider(Arm):
    """h + U gelu(D h) of each token alone, U = 0 at the start, then means."""

    Config = WiderConfig
    starts: ClassVar[Mapping[str, Mapping[str, Any]]] = {"wider-mlp": {"mlp": "none"}}

    def __init__(self, config: CompressorConfig, width: int) -> None:
        super().__init__(config, width)
        self.down = nn.Linear(width, MIDDLE)
        self.up = nn.Linear(MIDDLE, width, bias=False)
        nn.init.zeros_(self.up.weight)

    def combined(self, x: Tensor, batch: PackedBatch, windows: Windows) -> Tensor:
        return TokenRows(x + self.up(F.gelu(self.down(F.layer_norm(x, x.shape[1:]))))).pooled(windows)
