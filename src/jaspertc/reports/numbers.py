"""Numbers of a page: medians with their lowest and highest, percentiles, and how they are written."""

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

NONE = "–"


@dataclass(frozen=True, kw_only=True)
class Spread:
    """Median, lowest and highest of some rounds."""

    median: float
    low: float
    high: float

    @classmethod
    def of(cls, values: Sequence[float]) -> "Spread":
        """Of one value or more."""
        return cls(median=statistics.median(values), low=min(values), high=max(values))

    def __mul__(self, factor: float) -> "Spread":
        return Spread(median=self.median * factor, low=self.low * factor, high=self.high * factor)


def percentile(values: Sequence[float], share: float) -> float:
    """The smallest value that this share of the values does not exceed (nearest rank).

    >>> percentile([4, 1, 3, 2], 0.5), percentile([4, 1, 3, 2], 0.95)
    (2, 4)
    """
    return sorted(values)[max(1, math.ceil(share * len(values))) - 1]


def number(value: float) -> str:
    """Three digits, and no more after the point than they need.

    >>> number(0.1234), number(12.34), number(1234.5)
    ('0.123', '12.3', '1,234')
    """
    if value >= 100:
        return f"{value:,.0f}"
    digits = 1 if value >= 10 else 2 if value >= 1 else 3
    return f"{value:.{digits}f}"


def spread(value: Spread | None) -> str:
    """Median (lowest–highest).

    >>> spread(Spread(median=1.234, low=1.1, high=12.0))
    '1.23 (1.10–12.0)'
    """
    if value is None:
        return NONE
    return f"{number(value.median)} ({number(value.low)}–{number(value.high)})"


def count(value: float) -> str:
    """A number with three digits and a letter.

    >>> count(63_400), count(1_200_000), count(999.7), count(2.84e4)
    ('63.4k', '1.2M', '1k', '28.4k')
    """
    for size, letter in ((1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * size:
            return f"{float(f'{value / size:.3g}'):g}{letter}"
    return f"{value:.3g}"
