"""A Ray cluster, found or started here, and a pool of workers that each hold one model."""

import logging
import os
import socket
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

from jaspertc.errors import ClusterError, InputError, MissingExtraError
from jaspertc.machine import core_count, set_threads

logger = logging.getLogger(__name__)

MOST_BLOCKS = 50_000
OBJECT_STORE_BYTES = 512 << 20
ERROR = "error"
REACHED_SECONDS = 10


@dataclass(frozen=True, kw_only=True)
class Pool:
    """The workers.

    Args:
        workers: how many, each with a model of its own; ``None``: as many as fit this machine.
        cpus: CPU cores of a worker, > 0; its matrix products use as many threads.
        gpus: GPUs of a worker, >= 0; a fraction shares one among several.
        address: of a running cluster, such as ``auto``; ``None`` starts one here while the command runs.

    Raises:
        InputError: a number is out of range.
    """

    workers: int | None = None
    cpus: float = 1.0
    gpus: float = 0.0
    address: str | None = None

    def __post_init__(self) -> None:
        if self.workers is not None and self.workers < 1:
            raise InputError(f"--workers is {self.workers}, it must be >= 1")
        if not self.cpus > 0:
            raise InputError(f"--worker-cpus is {self.cpus}, it must be > 0")
        if self.gpus < 0:
            raise InputError(f"--worker-gpus is {self.gpus}, it must be >= 0")

    @property
    def threads(self) -> int:
        """Threads of a worker's matrix products."""
        return max(1, int(self.cpus))


def require_ray() -> Any:
    """The package ``ray`` with ``ray.data``.

    Raises:
        MissingExtraError: it is not installed.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # nothing is reported to anybody
    try:
        import ray
        import ray.data
    except ImportError as error:
        raise MissingExtraError("ray", "ray", "--engine ray") from error
    return ray


@contextmanager
def cluster(pool: Pool) -> Iterator[int]:
    """A cluster to work on; gives the number of workers. One that is connected already is used and kept.

    Raises:
        MissingExtraError: Ray is not installed.
        ClusterError: the cluster cannot be reached or started, or has not what the workers ask for.
    """
    ray = require_ray()
    connected = bool(ray.is_initialized())
    if not connected:
        _start(ray, pool)
    try:
        yield _workers(ray, pool)
    finally:
        if not connected:
            ray.shutdown()


def _start(ray: Any, pool: Pool) -> None:
    quiet = {"logging_level": logging.ERROR, "log_to_driver": False}
    address = pool.address or os.environ.get("RAY_ADDRESS")
    try:
        if address:
            _reach(address)
            ray.init(address=address, **quiet)
        else:
            cores = core_count()
            needed = -(-int((pool.workers or 1) * pool.cpus * 100) // 100)
            if needed > cores:
                logger.warning(
                    "--workers %d with --worker-cpus %g ask for %d cores, this machine has %d: they share "
                    "them, which is slow; give fewer, or less to each",
                    pool.workers or 1,
                    pool.cpus,
                    needed,
                    cores,
                )
            ray.init(
                num_cpus=max(cores, needed),
                include_dashboard=False,
                object_store_memory=OBJECT_STORE_BYTES,
                **quiet,
            )
    except Exception as error:  # Ray raises many kinds, by cause
        where = (
            f"the cluster {address!r} cannot be reached" if address else "no cluster could be started here"
        )
        raise ClusterError(
            f"{where} ({type(error).__name__}: {error}); give the --address of a running one, "
            "or use --engine local"
        ) from error


def _reach(address: str) -> None:
    """Raise OSError if nothing listens there: Ray would try for minutes."""
    host, colon, port = address.removeprefix("ray://").rpartition(":")
    if colon and port.isdigit():
        socket.create_connection((host.strip("[]"), int(port)), timeout=REACHED_SECONDS).close()


def _workers(ray: Any, pool: Pool) -> int:
    there = ray.cluster_resources()
    cpus, gpus = there.get("CPU", 0.0), there.get("GPU", 0.0)
    fit = int(cpus / pool.cpus)
    if pool.gpus:
        fit = min(fit, int(gpus / pool.gpus))
    if fit < (pool.workers or 1):
        raise ClusterError(
            f"{pool.workers or 1} workers with {pool.cpus:g} cores and {pool.gpus:g} GPUs each do not fit "
            f"the cluster, which has {cpus:g} cores and {gpus:g} GPUs; give fewer --workers, or less to each"
        )
    return pool.workers or fit


def mapped(
    items: Sequence[Mapping[str, Any]],
    worker: type,
    arguments: Mapping[str, Any],
    pool: Pool,
    workers: int,
    *,
    ordered: bool = False,
) -> Iterator[dict[str, Any]]:
    """What workers make of items, one by one, as it comes in; what waits to be taken is bounded.

    A worker that dies is started again and its item given to another.

    Args:
        items: small rows, a column a key.
        worker: a class; made once a worker with ``arguments``, then called with each row as a batch of one.
            A row of its answer that has a text in the column ``error`` stops the work.
        workers: how many.
        ordered: answers come in the order of the items.

    Raises:
        ClusterError: a worker has said what is wrong, or has failed otherwise.
    """
    if not items:
        return
    ray = require_ray()
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars = False
    context.print_on_execution_start = False
    context.execution_options.preserve_order = ordered
    for name in ("ray", "ray.data"):
        logging.getLogger(name).setLevel(logging.ERROR)
    rows = ray.data.from_items(
        [dict(item) for item in items], override_num_blocks=min(len(items), MOST_BLOCKS)
    )
    answers = rows.map_batches(
        worker,
        batch_size=1,
        fn_constructor_kwargs=dict(arguments),
        compute=ray.data.ActorPoolStrategy(size=min(workers, len(items))),
        num_cpus=pool.cpus,
        num_gpus=pool.gpus or None,
    )
    try:
        for table in answers.iter_batches(batch_size=None, batch_format="pyarrow", prefetch_batches=0):
            for row in table.to_pylist():
                if row.get(ERROR):
                    raise ClusterError(f"{row[ERROR]}. What is finished stays: run the same command again")
                yield row
    except ray.exceptions.RayError as error:
        raise ClusterError(
            f"a worker failed ({str(error).strip().splitlines()[-1]}). What is finished stays: run the same "
            "command again"
        ) from error


def use_threads(count: int) -> None:
    """Let this process's matrix products use so many threads."""
    set_threads(count)
