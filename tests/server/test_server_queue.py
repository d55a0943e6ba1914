"""The policy of the scheduler on its own: fairness, order, no starvation, predictions, the promise."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaspertc.server.promise import Promise
from jaspertc.server.queue import FairQueue, Job
from jaspertc.server.speed import SpeedModel


def job(*sizes: int) -> Job:
    return Job(
        rows=[np.zeros(size, dtype=np.int64) for size in sizes],
        targets=np.array(sizes),
        costs=[10 * size for size in sizes],
        ratio=0.5,
        adapted=False,
        on_end=lambda _: None,
        vectors=np.empty((len(sizes), 2), dtype=np.float32),
        arrived=0.0,
    )


@given(st.lists(st.lists(st.integers(1, 40), min_size=1, max_size=6), max_size=8), st.integers(1, 50))
@settings(max_examples=200, deadline=None)
def test_every_text_is_taken_once_within_the_budget(requests: list[list[int]], budget: int) -> None:
    queue = FairQueue()
    jobs = [job(*sizes) for sizes in requests]
    for one in jobs:
        queue.add(one)
    seen: list[tuple[int, int]] = []
    while batch := queue.take(budget):
        spent = sum(int(one.targets[index]) for one, index in batch)
        assert len(batch) == 1 or spent <= budget
        seen += [(jobs.index(one), index) for one, index in batch]
    assert sorted(seen) == [(i, j) for i, sizes in enumerate(requests) for j in range(len(sizes))]
    assert queue.cost == 0
    assert len(queue) == 0


def test_texts_of_similar_length_share_a_batch() -> None:
    queue = FairQueue()
    one = job(2, 90, 3, 80)
    queue.add(one)
    assert [[index for _, index in queue.take(170)] for _ in range(2)] == [[1, 3], [2, 0]]


def test_a_short_request_overtakes_a_long_one() -> None:
    queue = FairQueue()
    queue.add(job(*[100] * 50))
    queue.take(200)
    short = job(5)
    queue.add(short)
    taken = [one for _ in range(2) for one, _ in queue.take(200)]
    assert short in taken


def test_the_oldest_request_is_never_starved() -> None:
    """Short requests keep coming at twice what the device can do; the long one gets its half."""
    queue = FairQueue()
    long = job(*[50] * 10)
    queue.add(long)
    batches = 0
    while long.left:
        for _ in range(4):
            queue.add(job(50))
        queue.take(100)
        batches += 1
    assert batches <= 11


def test_removed_jobs_leave_nothing_behind() -> None:
    queue = FairQueue()
    first, second = job(5, 5, 5), job(7)
    queue.add(first)
    queue.add(second)
    queue.take(5)
    queue.remove(first)
    queue.remove(first)
    assert [one for one, _ in queue.take(100)] == ([second] if second.left == 0 else [])
    assert queue.cost == 0


def test_ahead_of_counts_what_comes_first() -> None:
    queue = FairQueue()
    assert queue.ahead_of(100) == 0
    queue.add(job(*[10] * 100))
    little, much = queue.ahead_of(10), queue.ahead_of(100_000)
    assert little <= 300
    assert much == queue.cost == 10_000


def test_speed_follows_the_machine() -> None:
    speed = SpeedModel(1000)
    assert speed.seconds(500) == 0
    speed.observe(10, 0.011)
    speed.observe(1000, 0.11)
    assert speed.seconds(1000) == pytest.approx(0.11, rel=0.01)
    assert speed.seconds(10) == pytest.approx(0.011, rel=0.05)
    assert speed.seconds(4000) == pytest.approx(0.44, rel=0.01)
    for _ in range(100):
        speed.observe(1000, 0.22)
    assert speed.seconds(1000) == pytest.approx(0.22, rel=0.05)
    assert speed.rate == pytest.approx(1000 / 0.22, rel=0.05)


@given(st.floats(0, 5), st.floats(0.001, 3), st.sampled_from([0.1, 0.2, 0.5, 0.9]))
def test_the_promise_stays_between_floor_and_default(wait: float, cost: float, floor: float) -> None:
    promise = Promise(seconds=1, floor=floor)
    ratio = promise.ratio(0.5, wait=wait, own_seconds=lambda value: cost * value)
    assert min(floor, 0.5) <= ratio <= 0.5
    longer = promise.ratio(0.5, wait=wait + 0.1, own_seconds=lambda value: cost * value)
    if cost * floor < 0.7:
        assert longer <= ratio


def test_the_promise_for_one_long_text_and_for_bulk() -> None:
    promise = Promise(seconds=1, floor=0.2)
    assert promise.ratio(0.5, wait=0, own_seconds=lambda value: 3 * value) < 0.5  # fits when compressed more
    assert promise.ratio(0.5, wait=0, own_seconds=lambda value: 100 * value) == 0.5  # never fits: as asked
    assert promise.ratio(0.5, wait=2, own_seconds=lambda value: 100 * value) == 0.2
