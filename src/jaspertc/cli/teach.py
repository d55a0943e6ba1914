"""``jaspertc teach``: teachers' vectors of a recipe's texts, in a cache that survives any kill."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jaspertc.cli.progress import progress, say, warn, write
from jaspertc.cli.scale import Address, Engine, HourlyCost, WorkerCpus, WorkerGpus, Workers

if TYPE_CHECKING:
    from jaspertc.recipe.recipe import Recipe
    from jaspertc.teaching.fill import Job
    from jaspertc.teaching.scoring import ScoreRow


def teach(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A TOML file, such as one of recipes/.")],
    teacher: Annotated[str | None, typer.Option(metavar="NAME", help="Only this teacher.")] = None,
    verify: Annotated[
        bool, typer.Option("--verify", help="Compute nothing; check all shards against their checksums.")
    ] = False,
    score: Annotated[
        bool,
        typer.Option("--score", help="Score each teacher and the fused target on [validation] instead."),
    ] = False,
    repair: Annotated[
        bool, typer.Option("--repair", help="Forget damaged shards and compute their texts again.")
    ] = False,
    engine: Engine = "local",
    workers: Workers = None,
    worker_cpus: WorkerCpus = 1.0,
    worker_gpus: WorkerGpus = 0.0,
    address: Address = None,
    hourly_cost: HourlyCost = None,
) -> None:
    """Keep teachers' vectors of the texts of a recipe.

    Everything is checked before the first vector is computed. Finished shards are never computed again:
    run the same command after an interruption, or after adding texts, and it goes on.
    """
    from jaspertc.cli.scale import pool_of, teach_on_ray
    from jaspertc.errors import InputError
    from jaspertc.recipe.recipe import read_recipe

    pool = pool_of(engine, workers, worker_cpus, worker_gpus, address)
    if pool is not None and (verify or score):
        raise InputError(
            "--engine ray is given with --verify or --score, which need no cluster; leave it out"
        )
    if verify + score + repair > 1:
        raise InputError("--verify, --score and --repair are given together; give one of them")
    read = read_recipe(recipe)
    if verify:
        _verify(read, teacher)
    elif score:
        _score(read, teacher)
    elif pool is not None:
        teach_on_ray(read, teacher, repair, pool, hourly_cost)
    else:
        _teach(read, teacher, repair, hourly_cost)


def _teach(recipe: "Recipe", name: str | None, repair: bool, hourly_cost: float | None) -> None:
    from jaspertc.teaching.fill import Teaching

    with Teaching(recipe, name, repair=repair, say=say) as teaching:
        _run(teaching.jobs, recipe.cache.shard_rows, hourly_cost)
    say(f"done: {recipe.cache.folder}")


def _score(recipe: "Recipe", name: str | None) -> None:
    from jaspertc.teaching.scoring import Scoring

    with Scoring(recipe, name, say=say) as scoring:
        _run(scoring.jobs, recipe.cache.shard_rows)
        rows = scoring.scores()
    _print_scores(rows)


def _verify(recipe: "Recipe", name: str | None) -> None:
    """Check every shard, say what is wrong with each damaged one, and count texts without a vector."""
    from jaspertc.errors import CacheError
    from jaspertc.teaching.fill import check_roles, choose_teachers
    from jaspertc.teaching.recipe_texts import RecipeTexts
    from jaspertc.teaching.verifying import verify_folder

    teachers = choose_teachers(recipe, name)
    check_roles(teachers, recipe.roles)
    texts = RecipeTexts(recipe)
    wrong: list[str] = []
    for teacher in teachers:
        for folder in dict.fromkeys(teacher.folder_of(role) for role in recipe.roles):
            roles = [role for role in recipe.roles if teacher.folder_of(role) == folder]
            report = verify_folder(recipe.cache.folder / folder, texts, roles, teacher.skip)
            write(f"{folder}: {report.summary}")
            for line in report.problems:
                warn(line)
            wrong += report.problems
    if wrong:
        raise CacheError(f"{len(wrong)} problems in {recipe.cache.folder}, the first: {wrong[0]}")


def _run(jobs: "Sequence[Job]", shard_rows: int, hourly_cost: float | None = None) -> None:
    import time

    from jaspertc.cli.scale import cost_note

    for job in jobs:
        if not job.left:
            say(f"{job.name}: all {job.total} texts have vectors")
            continue
        started = time.monotonic()
        with progress(job.name, job.total, done=job.total - job.left, unit="texts") as advance:
            job.run(shard_rows, advance)
        seconds = time.monotonic() - started
        rate = f"{job.left / max(seconds, 1e-9):.4g} texts/s{cost_note(hourly_cost, seconds, job.left)}"
        before = f", {job.total - job.left} were done before" if job.left < job.total else ""
        say(f"{job.name}: {job.left} texts in {seconds:.1f} s ({rate}){before}")


def _print_scores(rows: "list[ScoreRow]") -> None:
    from math import isnan

    from jaspertc.cli.tables import show
    from jaspertc.reports.content import Table

    def hundreds(score: float) -> str:
        return "-" if isnan(score) else f"{100 * score:.1f}"

    cells = [
        [row.name, str(row.dims), *(hundreds(score) for score in (*row.scores.values(), row.mean))]
        for row in rows
    ]
    columns = ["", "dims", *rows[0].scores, "mean"]
    note = "mean: of Spearman and nDCG@10"
    show(Table(title="scores x 100", columns=columns, rows=cells, note=note))
