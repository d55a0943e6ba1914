"""How long texts are, and what compression leaves of them; memory for the longest text, not for all.

Shape legend: N texts, L the largest length.
"""

import numpy as np

from jaspertc.errors import InputError
from jaspertc.model.lengths import Ratio, target_lengths
from jaspertc.types import IntArray


class LengthCounts:
    """How many texts there are of each length, in tokens."""

    def __init__(self) -> None:
        self._counts: IntArray = np.zeros(1, np.int64)

    def add(self, lengths: IntArray) -> None:
        """Count N texts; lengths >= 0, shape (N,)."""
        self._merge(np.bincount(lengths))

    def update(self, other: "LengthCounts") -> None:
        """Count the texts of another, too."""
        self._merge(other._counts)

    def _merge(self, counts: IntArray) -> None:
        merged = np.zeros(max(len(counts), len(self._counts)), np.int64)
        merged[: len(counts)] += counts
        merged[: len(self._counts)] += self._counts
        self._counts = merged

    @property
    def texts(self) -> int:
        """N."""
        return int(self._counts.sum())

    @property
    def tokens(self) -> int:
        """The sum of all lengths."""
        return int(self._counts @ np.arange(len(self._counts)))

    @property
    def mean(self) -> float:
        """Tokens a text; 0 without texts."""
        return self.tokens / max(self.texts, 1)

    @property
    def largest(self) -> int:
        """L; 0 without texts."""
        return int(np.flatnonzero(self._counts)[-1]) if self.texts else 0

    def percentile(self, share: float) -> int:
        """The smallest length that at least ``share`` percent of the texts do not exceed.

        Args:
            share: in [0, 100].

        Raises:
            InputError: there are no texts, or ``share`` is out of range.

        >>> counts = LengthCounts()
        >>> counts.add(np.array([3, 5, 9]))
        >>> [counts.percentile(share) for share in (0, 50, 67, 100)]
        [3, 5, 9, 9]
        """
        if not 0 <= share <= 100:
            raise InputError(f"share is {share}, it must be from 0 to 100")
        if not self.texts:
            raise InputError("there are no texts; give a file that has some")
        sums = np.cumsum(self._counts)
        return int(np.searchsorted(sums, max(1, np.ceil(round(share / 100 * self.texts, 6)))))

    def share_above(self, length: int) -> float:
        """Share of the texts that are longer; 0 without texts."""
        return int(self._counts[length + 1 :].sum()) / max(self.texts, 1)

    def remaining(self, ratio: Ratio, threshold: int) -> float:
        """Compressed tokens as a share of all tokens; 1 without texts.

        Args:
            ratio: compression ratio in (0, 1].
            threshold: texts up to so many tokens stay whole, >= 1.

        Raises:
            RatioError: a value is out of range.
        """
        lengths = np.flatnonzero(self._counts)
        targets = target_lengths(lengths, ratio=ratio, threshold=threshold)
        return int(targets @ self._counts[lengths]) / self.tokens if self.tokens else 1.0
