"""Means of windows that share no token: the report's compressor with another partition.

AdaptiveAvgPool1d's windows overlap wherever the length is no multiple of the target, so a token at a border
counts twice and every window is blurred; near ratio 1 neighbours become almost equal. Here each token is in
one window. docs/reports/compressors.md has what that is worth.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from jaspertc.model.compressors.adaptive_average import AdaptiveAverage, AdaptiveAverageConfig


@dataclass(frozen=True, kw_only=True)
class DisjointAverageConfig(AdaptiveAverageConfig):
    """Keys of ``disjoint-average``: those of ``adaptive-average``."""

    kind: str = "disjoint-average"


class DisjointAverage(AdaptiveAverage):
    """The mean of each of T windows of nearly equal length, tokens transformed by the MLP."""

    Config = DisjointAverageConfig
    starts: ClassVar[Mapping[str, Mapping[str, Any]]] = {
        "disjoint": {"mlp": "residual-swiglu"},
        "disjoint-swiglu": {"mlp": "swiglu"},
        "disjoint-average": {"mlp": "none"},
    }

    @staticmethod
    def window_edges(index: Any, length: Any, target: Any) -> tuple[Any, Any]:
        """Output i averages tokens floor(i L / T) ... floor((i+1) L / T) - 1.

        >>> [DisjointAverage.window_edges(i, 5, 3) for i in range(3)]
        [(0, 1), (1, 3), (3, 5)]
        """
        return (index * length) // target, ((index + 1) * length) // target
