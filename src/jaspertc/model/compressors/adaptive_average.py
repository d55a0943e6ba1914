"""The report's compressor (section 2.2): an MLP per token, then AdaptiveAvgPool1d's windows.

Shape legend: T tokens, D width.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from jaspertc.config import CompressorConfig, require, require_choice
from jaspertc.model.backbones.qwen3 import SwiGLU
from jaspertc.model.compressors.base import Compressor
from jaspertc.pytorch import Tensor, nn
from jaspertc.types import FloatArray

# In a released checkpoint, the tensor whose first dimension is the width of the MLP's middle layer.
RELEASED_MLP = "jasper_mlp.gate_proj.weight"


class ResidualSwiGLU(SwiGLU):
    """x + SwiGLU(x) with a zero last matrix at the start, so that it begins as the identity."""

    def __init__(self, width: int, middle: int) -> None:
        super().__init__(width, middle)
        nn.init.zeros_(self.down_proj.weight)

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


MLPS: dict[str, type[SwiGLU]] = {"swiglu": SwiGLU, "residual-swiglu": ResidualSwiGLU}


@dataclass(frozen=True, kw_only=True)
class AdaptiveAverageConfig(CompressorConfig):
    """Keys of ``adaptive-average``.

    Args:
        mlp: what each token passes through before pooling: ``swiglu`` (the report's, no residual),
            ``residual-swiglu`` (starts as the identity) or ``none``.
        mlp_size: width of the MLP's middle layer (3072 in the released model); 0 with ``mlp="none"``.
    """

    kind: str = "adaptive-average"
    mlp: str = "none"
    mlp_size: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        require(self.mlp_size >= 0, f"compressor.mlp_size is {self.mlp_size}, it must be >= 0")
        require_choice("compressor.mlp", self.mlp, ("none", *MLPS))
        require(
            (self.mlp == "none") == (self.mlp_size == 0),
            f"compressor.mlp_size is {self.mlp_size}, it must be 0 without an MLP and > 0 with one",
        )


class AdaptiveAverage(Compressor):
    """The mean of each of AdaptiveAvgPool1d's windows, tokens transformed by the MLP."""

    Config = AdaptiveAverageConfig
    starts: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "average": {"mlp": "none"},
        "swiglu": {"mlp": "swiglu"},
        "residual-swiglu": {"mlp": "residual-swiglu"},
    }
    stored_names: ClassVar[Mapping[str, str]] = {"jasper_mlp.": "mlp."}

    def __init__(self, config: CompressorConfig, width: int) -> None:
        super().__init__(config, width)
        assert isinstance(config, AdaptiveAverageConfig)
        mlp = MLPS.get(config.mlp)
        self.mlp: nn.Module = nn.Identity() if mlp is None else mlp(width, config.mlp_size)

    @classmethod
    def start_config(
        cls, keys: Mapping[str, Any], *, width: int, before: CompressorConfig
    ) -> CompressorConfig:
        """The MLP is as wide as the one before it, or three times the model's width."""
        size = getattr(before, "mlp_size", 0) or 3 * width
        usual = {} if keys["mlp"] == "none" else {"mlp_size": size}
        return super().start_config({**usual, **keys}, width=width, before=before)

    @property
    def transforms(self) -> bool:
        return not isinstance(self.mlp, nn.Identity)

    def transform(self, x: Tensor) -> Tensor:
        out: Tensor = self.mlp(x)
        return out

    def transform_rows(self, weights: Mapping[str, FloatArray], x: FloatArray) -> FloatArray:
        assert isinstance(self.config, AdaptiveAverageConfig)
        if self.config.mlp == "none":
            return x
        gate, up, down = (weights[f"mlp.{part}_proj.weight"].T for part in ("gate", "up", "down"))
        gated = x @ gate
        out: FloatArray = (gated / (1 + np.exp(-gated)) * (x @ up)) @ down
        return x + out if self.config.mlp == "residual-swiglu" else out

    @staticmethod
    def window_edges(index: Any, length: Any, target: Any) -> tuple[Any, Any]:
        """Output i averages tokens floor(i L / T) ... ceil((i+1) L / T) - 1.

        >>> [AdaptiveAverage.window_edges(i, 5, 3) for i in range(3)]
        [(0, 2), (1, 4), (3, 5)]
        """
        return (index * length) // target, ((index + 1) * length + target - 1) // target
