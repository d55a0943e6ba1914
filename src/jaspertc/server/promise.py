"""The latency promise: which ratio a request gets when the queue is long."""

from collections.abc import Callable
from dataclasses import dataclass

# The ratio falls while the predicted wait goes from a fifth of the promise to seven tenths of it. Where it
# settles depends on the load alone, so reacting early costs no quality and keeps the wait short; the rest is
# left to chance arrivals and errors of the prediction.
BEGIN, END = 0.2, 0.7
STEPS = 16


@dataclass(frozen=True, kw_only=True)
class Promise:
    """Answers within ``seconds``, at the price of a ratio of ``floor`` at the lowest."""

    seconds: float
    floor: float

    def ratio(self, default: float, *, wait: float, own_seconds: Callable[[float], float]) -> float:
        """The ratio for a request that did not fix one.

        Args:
            default: the model's ratio, in (0, 1].
            wait: predicted seconds until the request's own work can be done.
            own_seconds: predicted seconds of the request's own work at a ratio.

        Returns:
            In [floor, default]; ``default`` unless the wait, or the wait and the request's own work together,
            come near the promise. Work that no ratio would finish in time looks at the wait alone: a bulk
            request loses no quality on an idle server.

        >>> Promise(seconds=1, floor=0.2).ratio(0.5, wait=0.1, own_seconds=lambda ratio: 0.2)
        0.5
        >>> Promise(seconds=1, floor=0.2).ratio(0.5, wait=0.45, own_seconds=lambda ratio: 0.1)
        0.35
        """
        if default <= self.floor:
            return default
        pressure = (wait / self.seconds - BEGIN) / (END - BEGIN)
        chosen = self._at(default, min(1.0, max(0.0, pressure)))
        limit = END * self.seconds
        if wait + own_seconds(chosen) <= limit or own_seconds(self.floor) > limit:
            return chosen
        steps = (self._at(chosen, step / STEPS) for step in range(1, STEPS))
        return next((ratio for ratio in steps if wait + own_seconds(ratio) <= limit), self.floor)

    def _at(self, start: float, share: float) -> float:
        return start if share == 0 else max(self.floor, round(start - share * (start - self.floor), 3))
