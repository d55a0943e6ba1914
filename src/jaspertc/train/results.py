"""What runs of all kinds of stages leave: a folder a stage, what its result was made of, its validation.

folder/1-NAME/RESULT                 there only when the stage is complete
folder/1-NAME/RESULT.made-of.json    settings and data that it was made of
folder/1-NAME/validation.jsonl       scores by step
"""

import gc
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from pathlib import Path
from typing import Any, TypedDict, Unpack

import torch

from jaspertc.errors import ConfigError, TrainingError
from jaspertc.files.aside import remove_leftovers, writing
from jaspertc.files.json_files import read_json, write_json
from jaspertc.files.json_lines import read_log
from jaspertc.files.lines import json_line, lines_aside
from jaspertc.files.lock import locked
from jaspertc.files.made_of import require_same
from jaspertc.machine import computes_bfloat16
from jaspertc.recipe.recipe import Recipe, training_sections
from jaspertc.recipe.stages import StageConfig
from jaspertc.train.curves import draw_stage
from jaspertc.train.loop import METRICS, StepReport
from jaspertc.train.saving import KEPT
from jaspertc.train.step import Alone, Processes

MODEL, VALIDATION, RECORD = "model", "validation.jsonl", ".made-of.json"

Say = Callable[[str], None]
OnStep = Callable[[StageConfig, StepReport], None]
Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]
Scores = Mapping[str, Mapping[str, float]]


class Told(TypedDict, total=False):
    """What a run is told of its surroundings.

    Attributes:
        processes: the others that train with this one.
        say: told what is going on, a line at a time.
        progress: of a name and a number of items makes what is told of each so many done.
    """

    processes: Processes
    say: Say
    progress: Progress


class StagedRun:
    """Stages one after another, each from the result of the one before.

    Args:
        configs: the stages.
        first: how many of the recipe's stages come before them.
        result: the name of a stage's result in its folder.
        told: see ``Told``; left out, it runs alone and silent.

    Attributes:
        device: what subclasses compute on.
    """

    device: torch.device

    def __init__(
        self,
        recipe: Recipe,
        configs: Sequence[StageConfig],
        *,
        first: int = 0,
        result: str = MODEL,
        **told: Unpack[Told],
    ) -> None:
        self.recipe, self._configs, self._first, self._name = recipe, configs, first, result
        self.student, self.training = training_sections(recipe)
        if self.training.folder.is_file():
            raise ConfigError(f"[training] folder is {self.training.folder}, a file; name a folder")
        self.processes: Processes = told.get("processes", Alone())
        self.say: Say = told.get("say", lambda line: None)
        self.progress: Progress = told.get("progress", lambda name, total: nullcontext(lambda count: None))

    def folder(self, index: int) -> Path:
        """The folder of a stage."""
        return self.training.folder / f"{self._first + index + 1}-{self._configs[index].name}"

    def title(self, index: int) -> str:
        """What a stage is called in what is said."""
        return f"stage {self._first + index + 1}, {self._configs[index].name}"

    def result_of(self, index: int) -> Path:
        """What a stage leaves, there only when it is complete."""
        return self.folder(index) / self._name

    @property
    def result(self) -> Path:
        """The folder of the model that is handed over."""
        return self.training.folder / MODEL

    def record(self, index: int) -> dict[str, Any]:
        """What a stage's result is made of: settings and data of it and of the stages before."""
        raise NotImplementedError

    @property
    def handed_over(self) -> Path:
        """What is written from the last stage's result."""
        return self.result

    def last_record(self) -> dict[str, Any]:
        """What it is made of."""
        return self.record(len(self._configs) - 1)

    def train(self, index: int, on_step: OnStep) -> None:
        """Train one stage."""
        raise NotImplementedError

    def hand_over(self) -> None:
        """Write it, with its record."""
        raise NotImplementedError

    def run(self, only: int | None = None, *, on_step: OnStep = lambda stage, report: None) -> Path | None:
        """Run all stages, or one of them (from 0), and return the folder of the result if it is complete.

        Raises:
            TrainingError: what is there was made with other settings (they are named, as they were and as
                they are), the stage before ``only`` is not complete, or training must stop.
        """
        with writing(self.training.folder, error=TrainingError):
            self.training.folder.mkdir(parents=True, exist_ok=True)
        if self.processes.rank:
            return self._run(only, on_step)
        with locked(self.training.folder):
            remove_leftovers(self.training.folder, (MODEL, self._name, "tokens", "step-*"))
            return self._run(only, on_step)

    def _run(self, only: int | None, on_step: OnStep) -> Path | None:
        last = len(self._configs) - 1
        self.check_results(last if only is None else only)
        for index in range(last + 1) if only is None else [only]:
            if self.result_of(index).exists():
                self.say(f"{self.title(index)}: complete")
                continue
            if self._configs[index].dtype == "bfloat16" and not computes_bfloat16(self.device.type):
                self.say("bfloat16 is not native here, or slower than float32: computed in float32")
            gc.collect()  # the stage before left its student and moments in cycles
            self.train(index, on_step)
        if not self.result_of(last).exists():
            return None
        if self.processes.rank == 0 and not self.handed_over.exists():
            self.hand_over()
        return self.result

    def check_results(self, last: int) -> None:
        """Raise TrainingError if a complete stage up to ``last`` was made of something else."""
        for index in range(last + 1):
            path = self.result_of(index)
            fix = f"give [training] another folder, or delete {path.parent} and those of later stages"
            require_record(path, partial(self.record, index), f"{fix} to train them again")
        if last == len(self._configs) - 1:
            fix = f"give [training] another folder, or delete {self.handed_over} to have it written again"
            require_record(self.handed_over, self.last_record, fix)

    def complete(self, index: int) -> None:
        """Write what a stage is made of, before its result, and its curves."""
        folder, stage = self.folder(index), self._configs[index]
        steps, validations = read_log(folder / METRICS), read_log(folder / VALIDATION)
        with writing(folder, KEPT, TrainingError):
            draw_stage(folder / "curve.png", stage.name, steps, validations)
            write_json(record_file(self.result_of(index)), self.record(index))

    def note(self, index: int, step: int, scores: Scores, at: str = "") -> None:
        """Keep the scores of a step, and say them.

        Args:
            at: what the scores' names are, such as ``ratio``.
        """
        path = self.folder(index) / VALIDATION
        rows = [row for row in read_log(path) if row["step"] < step]
        with writing(path, KEPT, TrainingError):
            path.parent.mkdir(parents=True, exist_ok=True)
        with writing(path, KEPT, TrainingError), lines_aside(path) as file:
            file.writelines(map(json_line, [*rows, {"step": step, "scores": scores}]))
        for name, values in scores.items():
            shown = ", ".join(f"{key} {100 * value:.1f}" for key, value in values.items())
            self.say(f"  step {step}, {at}{name}: {shown}")

    def table(self) -> dict[str, Scores]:
        """The last validation of each stage that has one: scores by stage, ratio or tokens, and name."""
        rows = {stage.name: read_log(self.folder(i) / VALIDATION) for i, stage in enumerate(self._configs)}
        return {name: validations[-1]["scores"] for name, validations in rows.items() if validations}


def record_file(result: Path) -> Path:
    """The file beside a result that says what it was made of."""
    return result.with_name(f"{result.name}{RECORD}")


def require_record(result: Path, record: Callable[[], Mapping[str, Any]], fix: str) -> None:
    """Raise TrainingError if there is a result that was made of something else than ``record`` says.

    A result without a record, of an earlier version, is taken as it is.
    """
    file = record_file(result)
    if result.exists() and file.exists():
        before = read_json(file, fix, TrainingError)
        require_same(f"{result} was made with other settings", before, record(), fix, error=TrainingError)
