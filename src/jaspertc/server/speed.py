"""How long work will take, learned from the batches that ran."""


class SpeedModel:
    """Seconds of a batch as ``overhead + operations / rate``, fitted to recent batches.

    A weighted least-squares line whose weights fade by ``memory`` with each batch, so that it follows a
    machine that becomes slower or faster. Not thread-safe: its owner locks.

    Args:
        batch_operations: operations of a full batch, > 0; more work than this pays the overhead again.
        memory: what remains of a batch's weight when another one is seen, in (0, 1).
    """

    def __init__(self, batch_operations: float, *, memory: float = 0.95) -> None:
        self._full = batch_operations
        self._memory = memory
        self._count = self._x = self._y = self._xx = self._xy = 0.0

    def observe(self, operations: float, seconds: float) -> None:
        """Learn from a batch that took ``seconds`` for ``operations`` (both > 0)."""
        x = operations / self._full  # near 1, so that the sums stay well scaled
        fade = self._memory
        self._count = self._count * fade + 1
        self._x, self._y = self._x * fade + x, self._y * fade + seconds
        self._xx, self._xy = self._xx * fade + x * x, self._xy * fade + x * seconds

    def seconds(self, operations: float) -> float:
        """Predicted time for this much work, >= 0; 0 before anything was seen."""
        if operations <= 0 or not self._count:
            return 0.0
        overhead, slope = self._line()
        amount = operations / self._full
        return max(1.0, amount) * overhead + amount * slope

    @property
    def rate(self) -> float:
        """Operations per second in full batches; 0 before anything was seen."""
        full = self.seconds(self._full)
        return self._full / full if full else 0.0

    def _line(self) -> tuple[float, float]:
        mean_x, mean_y = self._x / self._count, self._y / self._count
        spread = self._xx / self._count - mean_x**2
        through_zero = mean_y / mean_x
        if spread < 1e-4 * mean_x**2:  # all batches alike: nothing tells overhead and rate apart
            return 0.0, through_zero
        slope = (self._xy / self._count - mean_x * mean_y) / spread
        if slope <= 0 or slope > through_zero:
            return 0.0, through_zero
        return mean_y - slope * mean_x, slope
