"""Means of T equal shares of a text's length: a token at a border is divided between its two windows.

Shape legend: C compressed tokens, G gathered tokens.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np

from jaspertc.model.compressors.adaptive_average import AdaptiveAverage, AdaptiveAverageConfig
from jaspertc.model.compressors.windows import Windows
from jaspertc.text.packing import PackedBatch
from jaspertc.types import IntArray


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

    def windows(self, batch: PackedBatch, targets: IntArray) -> Windows:
        """The windows with their weights, shape (G,), which add up to 1 in each window.

        In units of 1 / T of a token, window i is [i L, (i + 1) L) and token j is [j T, (j + 1) T).
        """
        windows = super().windows(batch, targets)
        sizes = np.diff(np.append(windows.starts, len(windows.gather)))
        text = np.repeat(np.arange(len(targets)), targets)
        index = np.arange(len(text)) - np.repeat(np.cumsum(targets) - targets, targets)
        length, target, begin = (
            np.repeat(part, sizes)
            for part in (batch.lengths[text], targets[text], index * batch.lengths[text])
        )
        token = (windows.gather - np.repeat(batch.offsets[text], sizes)) * target
        inside = np.minimum(token + target, begin + length) - np.maximum(token, begin)
        return replace(windows, weights=(inside / length).astype(np.float32))
