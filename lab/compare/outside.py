"""How much of the machine other processes used: what disturbs a measurement."""

import os
import time

import psutil

DISTURBING = 0.1  # above this share, numbers are not to be trusted


class Outside:
    """Watches from when it is made. Processes that this one started count as its own when they have ended."""

    def __init__(self) -> None:
        self._process = psutil.Process()
        self._started, self._busy, self._own = time.monotonic(), _busy(), self._mine()

    def share(self) -> float:
        """Of all cores' time since this was made, in [0, 1]."""
        elapsed = (time.monotonic() - self._started) * (os.cpu_count() or 1)
        others = (_busy() - self._busy) - (self._mine() - self._own)
        return min(1.0, max(0.0, others / elapsed)) if elapsed > 0 else 0.0

    def _mine(self) -> float:
        times = self._process.cpu_times()
        children = getattr(times, "children_user", 0.0) + getattr(times, "children_system", 0.0)
        return float(times.user + times.system + children)


def _busy() -> float:
    times = psutil.cpu_times()
    return float(sum(times) - times.idle - getattr(times, "iowait", 0.0) - getattr(times, "guest", 0.0))
