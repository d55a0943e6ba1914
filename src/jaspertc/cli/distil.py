"""``jaspertc distil``: train a student in the stages of a recipe."""

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jaspertc.cli.progress import bars, progress, say, write
from jaspertc.cli.terminal import visible

if TYPE_CHECKING:
    from rich.progress import TaskID

    from jaspertc.recipe.recipe import Recipe
    from jaspertc.recipe.stages import StageConfig
    from jaspertc.train.loop import StepReport
    from jaspertc.train.run import Distillation
    from jaspertc.train.vision import VisionRun

LINE_SECONDS = 30.0  # between lines of progress where there is no terminal to draw a bar on


def distil(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A TOML file, such as one of recipes/.")],
    stage: Annotated[
        str | None, typer.Option(metavar="N", help="Only this stage: its number, from 1, or its name.")
    ] = None,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Train nothing; check every file and print the plan.")
    ] = False,
) -> None:
    """Train a student from teachers' vectors, in the stages of a recipe.

    `jaspertc teach RECIPE` must have run. Everything is checked before the first step. States are saved
    on the way: run the same command after an interruption, and it ends with the weights of an unbroken run.
    Several processes: accelerate launch -m jaspertc distil RECIPE.
    """
    from jaspertc.recipe.recipe import read_recipe
    from jaspertc.train.distil import runs, stage_number

    read = read_recipe(recipe)
    only = stage_number(read, stage)
    first = os.environ.get("RANK", "0") == "0"
    if dry_run:
        if first:
            _plan(read)
        return
    for run, number in runs(read, only, say=say, progress=lambda unit: partial(progress, unit=unit)):
        with _progress(read) as on_step:
            run.run(number, on_step=on_step)
        if first:
            _print_table(run)


@contextmanager
def _progress(recipe: "Recipe") -> "Iterator[Callable[[StageConfig, StepReport], None]]":
    """A bar on standard error, or now and then a line if that is no terminal; TensorBoard if installed."""
    from jaspertc.train.boards import Boards

    assert recipe.training is not None
    boards = Boards(recipe.training.folder, [stage.name for stage in recipe.stages])
    tasks: dict[str, TaskID] = {}
    speed = _Speed()
    with bars(note=True) as bar:

        def on_step(stage: "StageConfig", report: "StepReport") -> None:
            boards.add(stage.name, report)
            shown = speed.of(report)
            if stage.name not in tasks:
                tasks[stage.name] = bar.add_task(
                    visible(stage.name), total=stage.steps, completed=report.step, note=""
                )
            bar.update(tasks[stage.name], completed=report.step + 1, note=shown)
            if bar.disable and speed.line_is_due():
                left = ((stage.steps or 0) - report.step - 1) * speed.seconds_a_step / 60
                say(f"  {stage.name} {report.step + 1}/{stage.steps}: {shown}, {left:.1f} min left")

        yield on_step
    boards.close()


class _Speed:
    """Tokens a second and loss, averaged over the last steps."""

    def __init__(self) -> None:
        import time

        self._clock = time.monotonic
        self._last_line = self._clock()
        self._recent: list[StepReport] = []

    def of(self, report: "StepReport") -> str:
        self._recent = [*self._recent[-19:], report]
        tokens = sum(item.tokens for item in self._recent)
        seconds = sum(item.seconds for item in self._recent)
        loss = sum(item.losses["total"] for item in self._recent) / len(self._recent)
        return f"loss {loss:.4g}, {tokens / max(seconds, 1e-9):.0f} tokens/s"

    @property
    def seconds_a_step(self) -> float:
        return sum(item.seconds for item in self._recent) / max(1, len(self._recent))

    def line_is_due(self) -> bool:
        due = self._clock() - self._last_line >= LINE_SECONDS
        if due:
            self._last_line = self._clock()
        return due


def _print_table(run: "Distillation | VisionRun") -> None:
    """The last validation of each stage."""
    from jaspertc.cli.tables import show
    from jaspertc.reports.content import Table

    scores_of = run.table()
    if not scores_of:
        return
    names = list(
        dict.fromkeys(n for stage in scores_of.values() for scores in stage.values() for n in scores)
    )
    rows = [
        [stage, ratio, *(f"{100 * scores[name]:.1f}" if name in scores else "" for name in names)]
        for stage, ratios in scores_of.items()
        for ratio, scores in ratios.items()
    ]
    show(Table(title="validation x 100", columns=["stage", "at", *names], rows=rows))


def _plan(recipe: "Recipe") -> None:
    from jaspertc.cli.tables import show
    from jaspertc.errors import ConfigError
    from jaspertc.recipe.plan import plan
    from jaspertc.reports.content import Table
    from jaspertc.reports.numbers import count, duration, number

    if recipe.training is not None and recipe.training.expected_texts is None and not recipe.pictures_only:
        raise ConfigError(
            "the recipe does not say how many texts there are; set [training] expected_texts to plan it"
        )
    planned = plan(recipe)
    columns = ["stage", "steps", "texts a step", "tokens", "kept", "compute", "time", "GiB"]
    rows = [
        [
            cost.name.removeprefix("distil "),
            f"{cost.steps:,}",
            f"{cost.batch:,}",
            count(cost.tokens),
            count(cost.compressed),
            count(cost.flops, " FLOP"),
            duration(cost.hours),
            number(cost.gib),
        ]
        for cost in planned.distil
    ]
    show(Table(title="plan", columns=columns, rows=rows))
    flops, hours = (sum(getattr(cost, name) for cost in planned.distil) for name in ("flops", "hours"))
    for line in (*planned.notes, f"all stages: {count(flops, ' FLOP')}, {duration(hours)}"):
        write(line)
    if planned.problems:
        raise ConfigError("; ".join(planned.problems))
    write("every file is there")
