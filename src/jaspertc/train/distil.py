"""All stages of a recipe, those of texts and then those of pictures."""

from collections.abc import Callable, Iterator
from contextlib import nullcontext
from pathlib import Path

from jaspertc.errors import InputError
from jaspertc.recipe.recipe import Recipe, read_recipe, training_sections
from jaspertc.train.distributed import start_processes
from jaspertc.train.results import OnStep, Progress, Say
from jaspertc.train.run import Distillation
from jaspertc.train.vision import VisionRun


def distil(
    recipe: str | Path | Recipe,
    stage: str | int | None = None,
    *,
    say: Say = lambda line: None,
    on_step: OnStep = lambda stage, report: None,
) -> Path | None:
    """Train a recipe's student from teachers' vectors, as ``jaspertc distil`` does.

    ``teach`` must have run. Killed, it goes on where it was when it is called again, and ends with the
    weights of an unbroken run.

    Args:
        recipe: a TOML file, or what ``read_recipe`` made of one.
        stage: only this one: its name, or its number, from 1.
        say: told what is going on, a line at a time.
        on_step: told of each step: the stage and its ``StepReport``.

    Returns:
        The folder of the model, or ``None`` while a stage of it is left. Pictures are trained by the first
        of several processes only.

    Raises:
        ConfigError: recipe, texts, teachers and student do not fit together.
        CacheError: a text has no vector, or a cache is damaged.
        InputError: there is no such stage.
        TrainingError: what is there was made with other settings, the stage before ``stage`` is not
            complete, or training must stop.
        JasperError: a file cannot be read.
    """
    read = recipe if isinstance(recipe, Recipe) else read_recipe(recipe)
    folder = None
    for run, only in runs(read, stage_number(read, stage), say=say):
        folder = run.run(only, on_step=on_step)
    return folder


def stage_number(recipe: Recipe, stage: str | int | None) -> int | None:
    """The stage, from 0, that a name or a number, from 1, stands for; ``None``: all of them.

    Raises:
        ConfigError: the recipe trains nothing.
        InputError: there is no such stage.
    """
    training_sections(recipe)
    names = [item.name for item in recipe.stages]
    if stage is None:
        return None
    if stage in names:
        return names.index(str(stage))
    if str(stage).isdecimal() and 1 <= int(stage) <= len(names):
        return int(stage) - 1
    raise InputError(f"stage is {stage!r}, the recipe has 1 to {len(names)}: {', '.join(names)}")


def runs(
    recipe: Recipe,
    only: int | None = None,
    *,
    say: Say,
    progress: Callable[[str], Progress] = lambda unit: lambda name, total: nullcontext(lambda count: None),
) -> Iterator[tuple[Distillation | VisionRun, int | None]]:
    """What is to be run, each made when the one before it is done, and which stage of it, if not all.

    Args:
        only: the stage, from 0.
        say: told by the first process what is going on.
        progress: of what is counted (``texts``, ``pictures``) makes what is told of work done.
    """
    processes, device = start_processes(training_sections(recipe)[1].device)
    first = processes.rank == 0
    texts = len(recipe.text_stages)
    if texts and (only is None or only < texts):
        if first:
            run = Distillation(
                recipe, processes=processes, device=device, say=say, progress=progress("texts")
            )
        else:
            run = Distillation(recipe, processes=processes, device=device)
        yield run, only
    if recipe.vision_stages and first and (only is None or only >= texts):
        pictures = VisionRun(recipe, device=device, say=say, progress=progress("pictures"))
        yield pictures, None if only is None else only - texts
