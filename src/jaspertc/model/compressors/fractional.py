"""Means of T equal shares of a text's length: a token at a border is divided between its two windows."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from jaspertc.model.compressors.adaptive_average import AdaptiveAverage, AdaptiveAverageConfig


@dataclass(frozen=True, kw_only=True)
class FractionalAverageConfig(AdaptiveAverageConfig):
    """Keys of ``fractional-average``: those of ``adaptive-average``."""

    kind: str = "fractional-average"


class FractionalAverage(AdaptiveAverage):
    """AdaptiveAvgPool1d's windows, each token weighted with the share of it that lies in the window."""

    Config = FractionalAverageConfig
    starts: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "fractional": {"mlp": "residual-swiglu"},
        "fractional-swiglu": {"mlp": "swiglu"},
        "fractional-average": {"mlp": "none"},
    }

    @staticmethod
    def token_shares(token: Any, index: Any, length: Any, target: Any) -> Any:
        """What is common to both, in units of 1 / T of a token: window i is [i L, (i + 1) L), token j is
        [j T, (j + 1) T).

        >>> windows = [range(0, 2), range(1, 4), range(3, 5)]
        >>> [[FractionalAverage.token_shares(j, i, 5, 3) for j in windows[i]] for i in range(3)]
        [[3, 2], [1, 3, 1], [2, 3]]
        """
        late, early = abs(token * target - index * length), abs((token + 1) * target - (index + 1) * length)
        return (target + length - late - early) // 2
