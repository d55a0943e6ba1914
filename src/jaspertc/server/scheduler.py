"""Continuous batching: one thread computes, whatever waits fills its next batch.

    submit (any thread) -> FairQueue -> the computing thread -> Job.on_end

Lengths are known when a request is submitted, so its wait is predicted before anything is computed: a request
that would wait too long is refused, and under a promise it is compressed more.
"""

import logging
import threading
import time
from collections.abc import Callable

import numpy as np

from jaspertc.engine.pieces import TextRows
from jaspertc.errors import RequestError
from jaspertc.machine import set_threads
from jaspertc.server.metrics import Metrics
from jaspertc.server.problems import overloaded
from jaspertc.server.promise import Promise
from jaspertc.server.queue import FairQueue, Job
from jaspertc.server.served import ServedModel
from jaspertc.server.speed import SpeedModel
from jaspertc.types import IntArray

logger = logging.getLogger(__name__)

Batch = list[tuple[Job, int]]

QUIET_S = 0.5  # without a request, until idle time begins
NOTHING_TO_DO_S = 60.0  # until idle work is looked for again


class Scheduler:
    """Owns the model: nobody else computes with it while the server runs. Methods are thread-safe.

    Args:
        model: what computes.
        batch_tokens: compressed tokens per batch, > 0; a longer text makes a batch of its own.
        max_wait_s: a request that would wait longer than this for others is refused.
        promise: what to do when waits grow; ``None`` never changes a ratio.
        threads: threads of PyTorch; ``None`` leaves them as they are.
        when_idle: a step of work for the computing thread when nobody asks for anything, shorter than a
            request may wait; it says whether there was anything to do.
    """

    def __init__(
        self,
        model: ServedModel,
        *,
        metrics: Metrics,
        batch_tokens: int,
        max_wait_s: float,
        promise: Promise | None = None,
        threads: int | None = None,
        when_idle: Callable[[], bool] | None = None,
    ) -> None:
        self.model = model
        self.metrics = metrics
        self.batch_tokens = batch_tokens
        self.max_wait_s = max_wait_s
        self.promise = promise
        self._threads = threads
        self._when_idle = when_idle
        self._queue = FairQueue()
        self._speed = SpeedModel(model.token_operations * batch_tokens)
        self._wake = threading.Condition()
        self._closing = False
        self._running_until = 0.0
        self._thread = threading.Thread(target=self._run, name="jaspertc-compute", daemon=True)

    def start(self) -> None:
        """Warm up, measure the speed, and begin."""
        self._set_threads()
        self._warm_up()
        self._thread.start()

    def close(self) -> None:
        """Finish what was accepted, refuse the rest, and end the thread."""
        with self._wake:
            self._closing = True
            self._wake.notify()
        if self._thread.is_alive():
            self._thread.join()

    @property
    def healthy(self) -> bool:
        """Whether the computing thread lives and accepts work."""
        return self._thread.is_alive() and not self._closing

    def waiting(self) -> int:
        """Requests with texts that are not on the device yet."""
        return len(self._queue)

    def backlog_seconds(self) -> float:
        """Predicted time until everything that waits now is computed."""
        with self._wake:
            return self._speed.seconds(self._queue.cost) + self._rest_of_batch()

    def submit(
        self,
        texts: TextRows,
        *,
        on_end: Callable[[Job], None],
        ratio: float | None = None,
        threshold: int | None = None,
        max_compressed: int | None = None,
    ) -> Job:
        """Accept a request.

        Args:
            texts: token ids of N >= 1 texts.
            on_end: called once, on the computing thread, when all vectors are there or one failed.
            ratio: fixes the ratio; ``None`` takes the model's, or a lower one to keep the promise.
            threshold: as ``Embedder.encode``.
            max_compressed: as ``Embedder.encode``.

        Raises:
            RequestError: 429, the request would wait too long; 503, the server is stopping.
        """
        default = self.model.embedder.default_ratio if ratio is None else ratio

        def targets_at(value: float) -> IntArray:
            return self.model.targets(texts, ratio=value, threshold=threshold, max_compressed=max_compressed)

        whole = targets = targets_at(default)
        costs = self.model.costs(targets)
        chosen = default
        with self._wake:
            if self._closing:
                raise RequestError("the server is stopping; try another one, or later", status=503)
            wait = self._wait(sum(costs))
            if ratio is None and self.promise is not None and self.model.can_compress:
                chosen = self.promise.ratio(
                    default,
                    wait=wait,
                    own_seconds=lambda value: self._speed.seconds(sum(self.model.costs(targets_at(value)))),
                )
                if chosen < default:
                    targets = targets_at(chosen)
                    costs = self.model.costs(targets)
                    wait = self._wait(sum(costs))
            if wait > self.max_wait_s:
                self.metrics.refused.inc()
                raise overloaded(wait, self.max_wait_s)
            adapted = bool((targets < whole).any())
            job = Job(
                rows=texts.rows,
                targets=targets,
                costs=costs,
                ratio=chosen if adapted else default,
                adapted=adapted,
                on_end=on_end,
                vectors=np.empty((len(texts.rows), self.model.embedder.dims), dtype=np.float32),
                arrived=time.monotonic(),
            )
            self._queue.add(job)
            self._wake.notify()
        self._count(job, int(texts.lengths.sum()))
        return job

    def cancel(self, job: Job) -> None:
        """Drop the texts of ``job`` that are not on the device yet; its ``on_end`` is not called any more."""
        with self._wake:
            job.cancelled = True
            self._queue.remove(job)
        self.metrics.cancelled.inc()

    def _wait(self, cost: int) -> float:
        return self._speed.seconds(self._queue.ahead_of(cost)) + self._rest_of_batch()

    def _rest_of_batch(self) -> float:
        return max(0.0, self._running_until - time.monotonic())

    def _count(self, job: Job, tokens: int) -> None:
        self.metrics.tokens.inc(tokens)
        self.metrics.texts.inc(len(job))
        self.metrics.ratio.observe(job.ratio)
        self.metrics.adapted.inc(job.adapted)

    def _run(self) -> None:
        self._set_threads()
        quiet = QUIET_S
        while True:
            with self._wake:
                while not self._queue and not self._closing:
                    if not self._wake.wait(None if self._when_idle is None else quiet):
                        break
                if not self._queue and self._closing:
                    return
                batch = self._queue.take(self.batch_tokens) if self._queue else []
                now = time.monotonic()
                operations = sum(job.costs[index] for job, index in batch)
                self._running_until = now + self._speed.seconds(operations)
            if not batch:
                quiet = 0.0 if self._step_when_idle() else NOTHING_TO_DO_S
                continue
            quiet = QUIET_S
            for job, _ in batch:
                if job.started is None:
                    job.started = now
                    self.metrics.queue_seconds.observe(now - job.arrived)
            self._compute(batch, operations)

    def _step_when_idle(self) -> bool:
        assert self._when_idle is not None
        try:
            return self._when_idle()
        except Exception as error:  # the thread must outlive it
            logger.warning("idle work failed: %s", error)
            return False

    def _compute(self, batch: Batch, operations: int) -> None:
        started = time.perf_counter()
        try:
            self._embed(batch)
        except Exception as error:  # the thread must outlive any batch
            logger.exception("a batch of %d texts failed", len(batch))
            for job, _ in batch:
                job.error = job.error or error
        seconds = time.perf_counter() - started
        with self._wake:
            self._speed.observe(operations, seconds)
            self._running_until = 0.0
            ended = self._settle(batch, seconds)
        for job in ended:
            job.on_end(job)

    def _embed(self, batch: Batch) -> None:
        targets = np.array([job.targets[index] for job, index in batch], dtype=np.int64)
        vectors = self.model.compute([job.rows[index] for job, index in batch], targets)
        for vector, (job, index) in zip(vectors, batch):
            job.vectors[index] = vector
        spent = int(targets.sum())
        self.metrics.compressed_tokens.inc(spent)
        self.metrics.batch_texts.observe(len(batch))
        self.metrics.batch_fill.observe(spent / self.batch_tokens)

    def _settle(self, batch: Batch, seconds: float) -> list[Job]:
        """Book a batch; returns the jobs that it finished."""
        self.metrics.compute_seconds.observe(seconds)
        operations = sum(job.costs[index] for job, index in batch)
        for job, index in batch:
            job.computed += 1
            job.compute_s += seconds * job.costs[index] / operations
        ended = []
        for job in dict.fromkeys(job for job, _ in batch):
            if job.error is not None:
                self._queue.remove(job)
            if not job.cancelled and (job.error is not None or job.computed == len(job)):
                ended.append(job)
        return ended

    def _warm_up(self) -> None:
        """Compute a short text and a full batch, twice each, so that the first prediction is sound."""
        self.model.tokenize(["a"], "")
        vocabulary = self.model.embedder.config.backbone.vocab_size
        each = max(1, min(128, self.batch_tokens, self.model.embedder.config.backbone.max_positions))
        for count, length in ((1, min(8, each)), (max(1, self.batch_tokens // each), each)):
            row = np.arange(length, dtype=np.int64) % vocabulary
            targets = np.full(count, length, dtype=np.int64)
            operations = sum(self.model.costs(targets))
            for repeat in range(2):
                started = time.perf_counter()
                self.model.compute([row] * count, targets)
                if repeat:
                    self._speed.observe(operations, time.perf_counter() - started)

    def _set_threads(self) -> None:
        """OpenMP keeps the number for each thread, so the computing thread sets it too."""
        if self._threads is not None:
            set_threads(self._threads)
