"""What ``embed`` and ``teach`` have in common with ``--engine ray``: options, progress, and the way there."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jaspertc.cli.progress import bars, say, warn

if TYPE_CHECKING:
    from jaspertc.cluster.meter import Meter
    from jaspertc.cluster.session import Pool
    from jaspertc.recipe.recipe import Recipe

ENGINES = ("local", "ray")
LINE_SECONDS = 30.0  # between lines of progress where there is no terminal to draw a bar on
RAY = "With --engine ray"

Engine = Annotated[str, typer.Option(help="local: this process. ray: many workers, on many machines.")]
Workers = Annotated[
    int | None,
    typer.Option(metavar="N", help="Workers, each with a model; default: all that fit.", rich_help_panel=RAY),
]
WorkerCpus = Annotated[float, typer.Option(metavar="N", help="CPU cores of a worker.", rich_help_panel=RAY)]
WorkerGpus = Annotated[
    float, typer.Option(metavar="N", help="GPUs of a worker; 0.5 shares one by two.", rich_help_panel=RAY)
]
Address = Annotated[
    str | None,
    typer.Option(help="A running cluster, such as auto; default: start one here.", rich_help_panel=RAY),
]
HourlyCost = Annotated[
    float | None,
    typer.Option(metavar="PRICE", help="Of all workers together; shows what a million texts cost."),
]


def pool_of(engine: str, workers: int | None, cpus: float, gpus: float, address: str | None) -> "Pool | None":
    """The workers that the options ask for; ``None`` if ``--engine`` is not Ray.

    Raises:
        InputError: it is none of ``ENGINES``, or it has no workers and options say something of them.
    """
    from jaspertc.cluster.session import Pool
    from jaspertc.errors import InputError

    if engine not in ENGINES:
        raise InputError(f"--engine is {engine!r}, it must be {' or '.join(ENGINES)}")
    pool = Pool(workers=workers, cpus=cpus, gpus=gpus, address=address)
    if engine == "ray":
        return pool
    names = {"workers": "--workers", "cpus": "--worker-cpus", "gpus": "--worker-gpus", "address": "--address"}
    for field in fields(Pool):
        if (value := getattr(pool, field.name)) != field.default:
            name = names[field.name]
            raise InputError(f"{name} is {value}, it goes with --engine ray only; leave it out, or give that")
    return None


def cost_note(hourly_cost: float | None, seconds: float, texts: int) -> str:
    """What a million texts cost, in words; nothing where no price is given."""
    from jaspertc.cluster.meter import cost_per_million

    if hourly_cost is None or not texts:
        return ""
    return f", {cost_per_million(hourly_cost, seconds, texts):.4g} per million texts"


def embed_on_ray(job: dict[str, Any], pool: "Pool", hourly_cost: float | None) -> None:
    """Run ``embed`` on a cluster; ``job`` is what ``EmbedJob`` takes."""
    from jaspertc.cluster.embedding import EmbedJob, embed_on_cluster

    with _shown("embedding") as show:
        done = embed_on_cluster(
            EmbedJob(**job), pool, hourly_cost=hourly_cost, say=say, on_unit=lambda meter: show(meter)
        )
    if done.warning:
        warn(done.warning)
    if done.bad:
        reasons = ", ".join(f"{count} {reason}" for reason, count in done.bad.items())
        warn(f"{sum(done.bad.values())} rows got no vector ({reasons}): {done.folder}/_bad.jsonl")
    say(f"{done.texts} texts ({done.progress}), {done.rows} in all: {job['output']}")


def teach_on_ray(
    recipe: "Recipe", name: str | None, repair: bool, pool: "Pool", hourly_cost: float | None
) -> None:
    """Run ``teach`` on a cluster."""
    from jaspertc.cluster.teaching import teach_on_cluster

    with _shown("teaching") as show:
        teach_on_cluster(
            recipe,
            name,
            pool,
            repair=repair,
            hourly_cost=hourly_cost,
            say=say,
            on_shard=lambda job, meter: show(meter),
        )
    say(f"done: {recipe.cache.folder}")


@contextmanager
def _shown(name: str) -> "Iterator[Callable[[Meter], None]]":
    """A bar on standard error, or now and then a line if that is no terminal."""
    last = time.monotonic()
    with bars(note=True, clock=None) as bar:  # the meter knows the time left
        task = bar.add_task(name, total=None, note="")

        def show(meter: "Meter") -> None:
            nonlocal last
            bar.update(task, completed=meter.done, total=meter.units, note=meter.line())
            if bar.disable and time.monotonic() - last >= LINE_SECONDS:
                last = time.monotonic()
                say(f"  {meter.done}/{meter.units} shards: {meter.line()}")

        yield show
