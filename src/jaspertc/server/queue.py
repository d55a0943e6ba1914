"""Which texts go into the next batch. Plain data, no threads and no clock.

Two lanes share the device half and half, by cost:

- the fair lane serves requests by self-clocked fair queueing (Golestani, 1994): a text's tag is its request's
  last tag plus its cost, the lowest tag is served, so a short request overtakes a long one and a request of
  many texts gets one share, not many;
- the oldest lane serves the request that has waited longest, so nothing starves: whatever arrives later, a
  request is finished once twice the work that was here when it came has been done.
"""

import heapq
import itertools
from collections.abc import Callable
from dataclasses import dataclass, field

import numpy as np

from jaspertc.types import FloatArray, IntArray

RAW_PER_COMPRESSED = 16  # tokens read per compressed token of the budget, to bound memory


@dataclass(eq=False, kw_only=True)
class Job:
    """One request's texts on their way through the device.

    The longest are taken first: texts of similar length that share a batch take the least time.

    Attributes:
        rows: token ids per text, each shape (L,).
        targets: compressed tokens per text, shape (N,).
        costs: operations per text, N of them, each > 0.
        ratio: the ratio that ``targets`` come from.
        adapted: whether load made any text shorter than its request would have had it.
        on_end: called once, on the computing thread, when the last vector is there or the job failed.
        vectors: raw vectors, shape (N, E); complete when ``computed == N``.
        arrived: when the job was accepted, in seconds of a monotonic clock.
        started: when its first text was taken.
        compute_s: its share, by cost, of the time of the batches that it was part of.
    """

    rows: list[IntArray]
    targets: IntArray
    costs: list[int]
    ratio: float
    adapted: bool
    on_end: Callable[["Job"], None]
    vectors: FloatArray
    arrived: float
    started: float | None = None
    compute_s: float = 0.0
    taken: int = 0
    computed: int = 0
    error: Exception | None = None
    cancelled: bool = False
    tag: int = 0
    left: int = field(init=False)
    order: list[int] = field(init=False)

    def __post_init__(self) -> None:
        self.left = sum(self.costs)
        self.order = np.argsort(-self.targets, kind="stable").tolist()

    @property
    def next(self) -> int:
        """Index of the text to be taken next."""
        return self.order[self.taken]

    def __len__(self) -> int:
        return len(self.rows)


class FairQueue:
    """Jobs with texts that wait. Not thread-safe: its owner locks."""

    def __init__(self) -> None:
        self._jobs: dict[Job, None] = {}  # in order of arrival
        self._heap: list[tuple[int, int, Job]] = []  # entries whose tag is not the job's own are stale
        self._order = itertools.count()
        self._clock = 0
        self._balance = 0
        self.cost = 0
        """Operations that wait, all jobs together."""

    def __len__(self) -> int:
        return len(self._jobs)

    def add(self, job: Job) -> None:
        """Append a job with at least one text."""
        self._jobs[job] = None
        self.cost += job.left
        job.tag = self._clock + job.costs[job.next]
        self._push(job)

    def remove(self, job: Job) -> None:
        """Forget the texts of ``job`` that were not taken yet; nothing happens if there are none."""
        if job in self._jobs:
            del self._jobs[job]
            self.cost -= job.left
            job.left = 0

    def ahead_of(self, cost: int) -> int:
        """Operations that will be done for others before a new job of ``cost`` operations is finished."""
        fair = 0
        last = self._clock + cost
        for job in self._jobs:
            served_to = job.tag - job.costs[job.next]
            fair += min(job.left, max(0, last - served_to))
        return min(self.cost, 2 * fair + cost) if self._jobs else 0

    def take(self, budget: int) -> list[tuple[Job, int]]:
        """The next batch: (job, index of its text) pairs of at most ``budget`` compressed tokens together.

        A text above the budget makes a batch of its own. Empty only if nothing waits.
        """
        batch: list[tuple[Job, int]] = []
        spent = read = 0
        while self._jobs:
            oldest = self._balance <= 0
            job = next(iter(self._jobs)) if oldest else self._lowest()
            index = job.next
            size, raw = int(job.targets[index]), len(job.rows[index])
            if batch and (spent + size > budget or read + raw > RAW_PER_COMPRESSED * budget):
                break
            self._balance += job.costs[index] if oldest else -job.costs[index]
            if not oldest:
                self._clock = max(self._clock, job.tag)
            self._advance(job)
            batch.append((job, index))
            spent, read = spent + size, read + raw
        if not self._jobs:
            self._heap.clear()
            self._clock = self._balance = 0
        return batch

    def _advance(self, job: Job) -> None:
        cost = job.costs[job.next]
        job.taken += 1
        job.left -= cost
        self.cost -= cost
        if job.taken == len(job):
            del self._jobs[job]
        else:
            job.tag += job.costs[job.next]
            self._push(job)

    def _push(self, job: Job) -> None:
        heapq.heappush(self._heap, (job.tag, next(self._order), job))

    def _lowest(self) -> Job:
        while True:
            tag, _, job = self._heap[0]
            if job in self._jobs and tag == job.tag:
                return job  # its entry goes stale as its tag rises
            heapq.heappop(self._heap)
