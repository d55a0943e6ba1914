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


def count(value: float, unit: str = "") -> str:
    """Three digits, a letter for thousands, millions ..., and a unit.

    >>> count(63_400), count(999.7), count(2.55e19, " FLOP"), count(12)
    ('63.4k', '1k', '25.5 EFLOP', '12')
    """
    for size, letter in ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= 0.9995 * size:
            space, name = unit[: len(unit) - len(unit.lstrip())], unit.lstrip()
            return f"{float(f'{value / size:.3g}'):g}{space}{letter}{name}"
    return f"{value:.3g}{unit}"


def duration(hours: float) -> str:
    """Hours in the unit that suits them.

    >>> duration(0.001), duration(0.5), duration(20.24), duration(122_000)
    ('3.6 s', '30 min', '20.2 h', '5,083 days')
    """
    units = ((72, 24.0, "days"), (1, 1.0, "h"), (1 / 60, 1 / 60, "min"), (0, 1 / 3600, "s"))
    size, unit = next((size, unit) for least, size, unit in units if hours >= least)
    value = hours / size
    return f"{value:,.0f} {unit}" if value >= 100 else f"{value:.3g} {unit}"
