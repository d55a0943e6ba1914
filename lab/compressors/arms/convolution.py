"""Local context before the means: a convolution beside the tokens, whose last matrix is zero at the start.

Shape legend: T tokens, D width, M width in the middle.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jaspertc.config import CompressorConfig
from jaspertc.model.compressors.disjoint import DisjointAverageConfig
from jaspertc.model.compressors.lookup import TokenRows
from jaspertc.model.compressors.windows import Windows
from jaspertc.text.packing import PackedBatch
from lab.compressors.arms.base import Arm

MIDDLE, REACH = 128, 2  # five tokens are read for each


@dataclass(frozen=True, kw_only=True)
class ConvolutionConfig(DisjointAverageConfig):
    kind: str = "convolution-average"


class Convolution(Arm):
    """h + U gelu(conv(D h)), then means."""

    Config = ConvolutionConfig
    starts: ClassVar[Mapping[str, Mapping[str, Any]]] = {"convolution-average": {"mlp": "none"}}

    def __init__(self, config: CompressorConfig, width: int) -> None:
        super().__init__(config, width)
        self.down = nn.Linear(width, MIDDLE, bias=False)
        self.convolution = nn.Conv1d(MIDDLE, MIDDLE, 2 * REACH + 1)
        self.up = nn.Linear(MIDDLE, width, bias=False)
        nn.init.zeros_(self.up.weight)

    @classmethod
    def flops(cls, config: CompressorConfig, width: int, tokens: int) -> int:
        return 2 * tokens * MIDDLE * (2 * width + MIDDLE * (2 * REACH + 1))

    def combined(self, x: Tensor, batch: PackedBatch, windows: Windows) -> Tensor:
        low = self.down(F.layer_norm(x, x.shape[1:]))
        gap = low.new_zeros(REACH, MIDDLE)  # between texts, so that none reads another
        parts = [part for text in low.split(batch.lengths.tolist()) for part in (gap, text)]
        read = self.convolution(torch.cat([*parts, gap]).T[None])[0].T
        starts = batch.offsets[:-1] + REACH * torch.arange(len(batch.lengths)).numpy()
        kept = torch.cat(
            [read[begin : begin + length] for begin, length in zip(starts.tolist(), batch.lengths.tolist())]
        )
        return TokenRows(x + self.up(F.gelu(kept))).pooled(windows)
