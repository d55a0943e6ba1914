"""How fast work goes, when it ends and what it costs."""

import time
from collections.abc import Callable

from jaspertc.reports.numbers import duration


class Meter:
    """Counts what is done.

    Args:
        units: how many units of about equal size there are, >= 0.
        done: units that an earlier run has done.
        hourly_cost: of all workers together, in any currency; ``None`` if it does not matter.
        clock: seconds.
    """

    def __init__(
        self,
        units: int,
        done: int = 0,
        *,
        hourly_cost: float | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.units, self.done, self.before = units, done, done
        self.hourly_cost = hourly_cost
        self.texts = self.tokens = 0
        self._clock = clock
        self._started = clock()

    def add(self, texts: int, tokens: int = 0, units: int = 1) -> None:
        """Tell of work that has come in."""
        self.texts += texts
        self.tokens += tokens
        self.done += units

    @property
    def seconds(self) -> float:
        """Since the start."""
        return max(self._clock() - self._started, 1e-9)

    @property
    def seconds_left(self) -> float | None:
        """At the mean speed so far; ``None`` before the first unit has come."""
        here = self.done - self.before
        return self.seconds / here * (self.units - self.done) if here else None

    @property
    def cost_per_million(self) -> float | None:
        """Of texts, in the currency of ``hourly_cost``."""
        if self.hourly_cost is None or not self.texts:
            return None
        return cost_per_million(self.hourly_cost, self.seconds, self.texts)

    def line(self) -> str:
        """All of it in a few words."""
        parts = [f"{self.texts / self.seconds:.4g} texts/s"]
        if self.tokens:
            parts.append(f"{self.tokens / self.seconds:.4g} tokens/s")
        left = self.seconds_left
        if left is not None and self.done < self.units:
            parts.append(f"{duration(left / 3600)} left")
        cost = self.cost_per_million
        if cost is not None:
            parts.append(f"{cost:.4g} per million texts")
        return ", ".join(parts)


def cost_per_million(hourly_cost: float, seconds: float, texts: int) -> float:
    """What a million texts cost.

    >>> cost_per_million(3.6, seconds=10, texts=1000)
    10.0
    """
    return hourly_cost * seconds / 3600 / texts * 1e6
