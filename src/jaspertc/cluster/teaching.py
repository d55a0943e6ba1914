"""``jaspertc teach --engine ray``: workers compute, one driver writes the cache in order."""

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jaspertc.cluster.meter import Meter
from jaspertc.cluster.session import ERROR, Pool, cluster, mapped, require_ray
from jaspertc.cluster.workers import Feed, TeachWorker, probe
from jaspertc.errors import ClusterError, ConfigError
from jaspertc.recipe.recipe import Recipe
from jaspertc.teachers import Teacher, TeacherConfig
from jaspertc.teaching.fill import Job, Teaching

OnShard = Callable[[Job, Meter], None]


class RemoteTeacher(Teacher):
    """A teacher that only workers load.

    Raises:
        ClusterError: it cannot be loaded there.
        ConfigError: its vectors have another width than the recipe says.
    """

    def __init__(self, config: TeacherConfig, pool: Pool) -> None:
        self.recipe, self.pool = _for_workers(config, pool), pool
        answer = self._probe([], "")
        self.dims: int = answer["dims"]
        self.identity: dict[str, Any] = answer["identity"]

    def encode(self, texts: Sequence[str], prompt: str) -> npt.NDArray[np.float32]:
        """Vectors of a few texts, shape (N, E): the model is loaded for them alone."""
        vectors: npt.NDArray[np.float32] = self._probe(list(texts), prompt)["vectors"]
        return vectors

    def _probe(self, texts: list[str], prompt: str) -> dict[str, Any]:
        ray = require_ray()
        task = ray.remote(num_cpus=self.pool.cpus, num_gpus=self.pool.gpus, max_calls=1)(probe)
        try:
            answer: dict[str, Any] = ray.get(task.remote(self.recipe, texts, prompt, self.pool.threads))
        except ray.exceptions.RayError as error:
            raise ClusterError(
                f"teacher {self.recipe.name!r} could not be loaded by a worker: {error}"
            ) from error
        if ERROR in answer:
            raise ClusterError(answer[ERROR])
        return answer


def teach_on_cluster(
    recipe: Recipe,
    name: str | None,
    pool: Pool,
    *,
    repair: bool = False,
    hourly_cost: float | None = None,
    say: Callable[[str], None] = lambda line: None,
    on_shard: OnShard = lambda job, meter: None,
) -> None:
    """Keep teachers' vectors of a recipe's texts: the same files as ``teach`` makes with its local engine.

    Args:
        name: only this teacher.
        repair: forget damaged shards, to compute their texts again.
        hourly_cost: of all workers, for the cost of a million texts.
        say: told what is going on, a line at a time.
        on_shard: called after each shard.

    Raises:
        MissingExtraError: Ray is not installed.
        ConfigError: recipe, texts and teachers do not fit together.
        CacheError: a cache is damaged, of another teacher, or in use.
        ClusterError: the cluster cannot be started, or a worker has failed for good.
    """
    require_ray()
    with (
        cluster(pool) as workers,
        Teaching(
            recipe, name, repair=repair, say=say, load=lambda teacher: RemoteTeacher(teacher, pool)
        ) as teaching,
    ):
        for job in teaching.jobs:
            if not job.left:
                say(f"{job.name}: all {job.total} texts have vectors")
                continue
            meter = run_job(job, recipe.cache.shard_rows, pool, workers, hourly_cost, on_shard)
            before = f", {job.total - job.left} were done before" if job.left < job.total else ""
            say(f"{job.name}: {job.left} texts in {meter.seconds:.1f} s ({meter.line()}){before}")


def run_job(
    job: Job, shard_rows: int, pool: Pool, workers: int, hourly_cost: float | None, on_shard: OnShard
) -> Meter:
    """Have the texts of one role and teacher embedded that have no vector yet.

    Raises:
        ClusterError: a worker says that the teacher gives something else than finite vectors, or has failed.
        CacheError: a shard cannot be written. Finished ones stay.
    """
    assert isinstance(job.teacher, RemoteTeacher)
    ray = require_ray()
    # One reader beside the driver: files need not be on every machine, and are read once, in order.
    feed = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(Feed).remote(job.texts, shard_rows)
    arguments = {
        "recipe": job.teacher.recipe,
        "prompt": job.prompt,
        "feed": feed,
        "threads": pool.threads,
    }
    count = -(-job.left // shard_rows)
    meter = Meter(count, hourly_cost=hourly_cost)
    items = [{"shard": number} for number in range(count)]
    expected = 0
    try:
        for row in mapped(items, TeachWorker, arguments, pool, workers, ordered=True):
            assert row["number"] == expected
            ids = [str(name) for name in json.loads(row["ids"])]
            if not ids:
                raise ConfigError("a file of the recipe has become shorter; run the command again")
            keys = np.frombuffer(row["keys"], "<u8").reshape(-1, 3)
            vectors = np.frombuffer(row["vectors"], "<f2").reshape(len(ids), job.teacher.dims)
            job.writer.add(ids, keys, vectors)
            ray.get(feed.forget.remote(expected))
            expected += 1
            meter.add(len(ids), row["tokens"])
            on_shard(job, meter)
    finally:
        ray.kill(feed)
    return meter


def _for_workers(recipe: TeacherConfig, pool: Pool) -> TeacherConfig:
    """The same teacher: folders absolute, and where it counts threads itself, as many as the worker has."""
    changes: dict[str, Any] = {"threads": pool.threads} if hasattr(recipe, "threads") else {}
    for name in ("model", "path"):
        value = getattr(recipe, name, None)
        if value is not None and Path(value).is_dir():
            changes[name] = type(value)(Path(value).resolve())
    return replace(recipe, **changes)
