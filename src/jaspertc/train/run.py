"""A whole run: the stages of a recipe one after another, each kept in a folder of its own.

    folder/tokens/            the texts as token ids
    folder/1-distil/          step-N/ (states), metrics.jsonl, validation.jsonl, curve.png, tensorboard/
    folder/1-distil/model/    the stage's result: a checkpoint; there only when the stage is complete
    folder/model/             the last stage's result, as it is handed over

What is there is never done again, so an interrupted run goes on where it was.
"""

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jaspertc.checkpoint import load_checkpoint, save_checkpoint
from jaspertc.checkpoint.parts import scaled_head, turned_head
from jaspertc.errors import ConfigError, TrainingError
from jaspertc.files.aside import remove_leftovers
from jaspertc.files.json_lines import read_log
from jaspertc.files.lock import locked
from jaspertc.model.encoder import Encoder
from jaspertc.recipe.recipe import Recipe, training_sections
from jaspertc.recipe.stages import StageConfig, TextStage
from jaspertc.teaching.mining import read_mined
from jaspertc.teaching.recipe_texts import RecipeTexts, read_file
from jaspertc.teaching.targets import Targets
from jaspertc.train.batches import PairBatches, TextBatches, targets_by_role
from jaspertc.train.curves import draw_stage
from jaspertc.train.loop import DTYPES, METRICS, StepReport, run_stage
from jaspertc.train.saving import average_weights, saved_states
from jaspertc.train.sharding import whole_encoder
from jaspertc.train.step import Alone, Processes
from jaspertc.train.students import for_stage, load_student, start_head, without_extra
from jaspertc.train.tokens import prepare_tokens
from jaspertc.train.watching import Watch, encode_rows
from jaspertc.types import IntArray

MODEL, VALIDATION = "model", "validation.jsonl"
TURN_TEXTS = 4096

Say = Callable[[str], None]
OnStep = Callable[[StageConfig, StepReport], None]
Progress = Callable[[str, int], AbstractContextManager[Callable[[int], None]]]


@dataclass(frozen=True, kw_only=True)
class StageData:
    """What a stage trains on.

    Attributes:
        batch_at: the texts of a step.
        config: the stage, with its number of steps.
        identity: names the data.
    """

    batch_at: TextBatches | PairBatches
    config: TextStage
    identity: str


class Distillation:
    """All that ``distil`` has to do. Everything that can be wrong is found when it is made.

    Args:
        processes: the others that train with this one.
        device: where the student is.
        say: told what is going on, a line at a time.
        progress: of a name and a number of texts makes what is told of each so many done.

    Raises:
        ConfigError: recipe, texts, teachers and student do not fit together.
        CacheError: a text has no vector, or a cache is damaged.
        JasperError: a file cannot be read.
    """

    def __init__(
        self,
        recipe: Recipe,
        *,
        processes: Processes | None = None,
        device: str = "cpu",
        say: Say = lambda line: None,
        progress: Progress = lambda name, total: nullcontext(lambda count: None),
    ) -> None:
        self.recipe = recipe
        self.student, self.training = training_sections(recipe)
        self.processes, self.device, self.say = processes or Alone(), torch.device(device), say
        say("reading the texts")
        texts = RecipeTexts(recipe)
        say(f"{len(texts)} texts; checking the teachers' vectors")
        self.targets = Targets(recipe, texts)
        say("loading the student")
        self.checkpoint, self._first = load_student(
            self.student, self.targets.dims, seed=recipe.text_stages[0].seed
        )
        self.check_stages()
        say("preparing the tokens")
        if self.processes.rank:
            self.processes.wait()  # for the first, which writes them
        with progress("preparing the tokens", len(texts)) as advance:
            self.tokens = prepare_tokens(
                recipe, texts, self.checkpoint.tokenizer, self.training.folder / "tokens", advance=advance
            )
        if not self.processes.rank:
            self.processes.wait()
        self.stages = [self._data(stage) for stage in recipe.text_stages]

    def check_stages(self) -> None:
        """Raise ConfigError unless each stage can follow the one before."""
        names = [teacher.name for teacher in self.recipe.teachers]
        for name in self.student.result_weights:
            if name not in names:
                raise ConfigError(f"[student] result_weights names {name!r}, teachers are {', '.join(names)}")
        with torch.device("meta"):
            encoder = Encoder(self._first.config)
            for stage in self.recipe.text_stages:
                encoder = for_stage(encoder, stage)
                patterns = [*stage.trainable, *(later.parameters for later in stage.unfreeze)]
                for pattern in patterns:
                    if not any(re.search(pattern, name) for name, _ in encoder.named_parameters()):
                        raise ConfigError(
                            f"stage {stage.name}: {pattern!r} matches no parameter of the model"
                        )

    @cached_property
    def held_out(self) -> IntArray:
        """Numbers of the texts that no stage sees: of those outside pairs, where there are some."""
        tokens, count = self.tokens, self.training.held_out
        single = np.flatnonzero([not name.startswith(("q:", "p:")) for name in tokens.ids])
        chosen = single if len(single) > count else np.arange(len(tokens))
        return np.sort(chosen[np.argsort(tokens.spread[chosen], kind="stable")[:count]])

    def _data(self, stage: TextStage) -> StageData:
        tokens, targets_of = self.tokens, self.targets.vectors
        low, high = stage.part
        allowed = (tokens.places >= low) & (tokens.places < high) & (tokens.lengths >= stage.min_tokens)
        allowed[self.held_out] = False
        dropout = self.student.prompt_dropout
        batches: TextBatches | PairBatches
        if stage.objective.needs_pairs:
            queries, documents = self._pairs(stage, allowed)
            batches = PairBatches(stage, tokens, queries, documents, targets_of, prompt_dropout=dropout)
        else:
            chosen = np.flatnonzero(allowed)
            batches = TextBatches(stage, tokens, chosen, targets_of, prompt_dropout=dropout)
        steps = stage.steps or max(1, round((stage.epochs or 0) * batches.order.steps_per_epoch))
        digest = hashlib.sha256(repr((self.recipe.fusion, self.recipe.teachers)).encode())
        digest.update(batches.identity)
        return StageData(
            batch_at=batches,
            config=replace(stage, steps=steps, epochs=None),
            identity=digest.hexdigest()[:16],
        )

    def _pairs(self, stage: TextStage, allowed: Any) -> tuple[IntArray, IntArray]:
        """Numbers of the stage's queries, shape (N,), and of their documents, shape (N, 1 + K)."""
        numbers = self.tokens.numbers
        queries: list[int] = []
        documents: list[list[int]] = []
        for query, positive, negatives in self._pair_ids(stage):
            if query in numbers and positive in numbers and allowed[numbers[query]]:
                known = [numbers[name] for name in negatives if name in numbers][: stage.negatives]
                queries.append(numbers[query])
                documents.append([numbers[positive], *known, *[-1] * (stage.negatives - len(known))])
        return np.array(queries, np.int64), np.array(documents, np.int64).reshape(-1, 1 + stage.negatives)

    def _pair_ids(self, stage: TextStage) -> Any:
        mining = self.recipe.mining
        if stage.negatives:
            if mining is None or not mining.output.is_file():
                where = "[mining] output" if mining is None else str(mining.output)
                raise ConfigError(
                    f"stage {stage.name}: negatives is {stage.negatives} but there is no {where}; add "
                    "[mining] and run `jaspertc mine RECIPE`, or set negatives = 0"
                )
            for row in read_mined(mining.output):
                yield row.query_id, row.positive_id, row.negative_ids
            return
        if not self.recipe.texts.pairs:
            raise ConfigError(f"stage {stage.name}: its losses need pairs; add [[texts.pairs]]")
        for file in self.recipe.texts.pairs:
            for query, positive in zip(*(read_file(side) for side in file.sides)):
                yield query.id, positive.id, ()

    def folder(self, index: int) -> Path:
        """The folder of a stage."""
        return self.training.folder / f"{index + 1}-{self.recipe.text_stages[index].name}"

    def run(self, only: int | None = None, *, on_step: OnStep = lambda stage, report: None) -> Path | None:
        """Run all stages, or one of them (from 0), and return the folder of the result if it is complete.

        Raises:
            TrainingError: the stage before ``only`` is not complete, or training must stop.
        """
        self.training.folder.mkdir(parents=True, exist_ok=True)
        if self.processes.rank:
            return self._run(only, on_step)
        with locked(self.training.folder):
            remove_leftovers(self.training.folder, (MODEL, "tokens", "step-*"))
            return self._run(only, on_step)

    def _run(self, only: int | None, on_step: OnStep) -> Path | None:
        for index in range(len(self.stages)) if only is None else [only]:
            if (self.folder(index) / MODEL).exists():
                self.say(f"stage {index + 1}, {self.recipe.text_stages[index].name}: complete")
            else:
                self._stage(index, on_step)
        if not (self.folder(len(self.stages) - 1) / MODEL).exists():
            return None
        result = self.training.folder / MODEL
        if self.processes.rank == 0 and not result.exists():
            self._hand_over(result)
        return result

    def start(self, index: int) -> Encoder:
        """The student as a stage begins.

        Raises:
            TrainingError: the stage before is not complete.
        """
        if index == 0:
            encoder = self._first
            if self.student.head == "fit":
                chosen = np.flatnonzero(np.isin(np.arange(len(self.tokens)), self.held_out, invert=True))
                chosen = chosen[np.argsort(self.tokens.spread[chosen], kind="stable")]
                chosen = chosen[: self.student.head_texts]
                rows = [self.tokens.row(number) for number in chosen.tolist()]
                targets = targets_by_role(self.tokens, chosen, self.targets.vectors)
                start_head(encoder, rows, targets, DTYPES[self.recipe.text_stages[0].dtype])
        else:
            before = self.folder(index - 1) / MODEL
            if not before.exists():
                raise TrainingError(
                    f"stage {index + 1} starts from {before}, which is not there; run the stages before it"
                )
            encoder = load_checkpoint(before).encoder
        return for_stage(encoder, self.recipe.text_stages[index]).to(self.device)

    def _stage(self, index: int, on_step: OnStep) -> None:
        data, folder = self.stages[index], self.folder(index)
        config = data.config
        encoder = self.start(index)
        states = saved_states(folder)
        since = f" from step {int(states[-1].name.removeprefix('step-'))}" if states else ""
        self.say(f"stage {index + 1}, {config.name}: {config.steps} steps{since}")

        if self.processes.rank == 0 and not states:
            self._validate(encoder, config, folder, 0)
        run_stage(
            encoder,
            config,
            data.batch_at,
            folder,
            data_identity=data.identity,
            processes=self.processes,
            sharded=self.training.sharding == "full",
            on_step=lambda report: on_step(config, report),
            validate=lambda complete, step: self._validate(complete, config, folder, step),
        )
        complete = whole_encoder(encoder, keep=self.processes.rank == 0)
        if self.processes.rank or complete is None:
            self.processes.wait()
            return
        encoder = complete
        if config.average > 1:
            encoder.load_state_dict(average_weights(saved_states(folder)[-config.average :]))
        encoder = without_extra(encoder)
        self._validate(encoder, config, folder, config.steps or 0)
        rows = read_log(folder / METRICS)
        draw_stage(folder / "curve.png", config.name, rows, read_log(folder / VALIDATION))
        self._save(folder / MODEL, encoder, "float32", config)
        self.processes.wait()

    def _validate(self, encoder: Encoder, config: TextStage, folder: Path, step: int) -> None:
        scores = self.watch.scores(encoder, threshold=config.threshold, dtype=DTYPES[config.dtype])
        rows = [row for row in read_log(folder / VALIDATION) if row["step"] < step]
        folder.mkdir(parents=True, exist_ok=True)
        lines = [json.dumps(row) + "\n" for row in [*rows, {"step": step, "scores": scores}]]
        (folder / VALIDATION).write_text("".join(lines), encoding="utf-8")
        for ratio, found in scores.items():
            shown = ", ".join(f"{name} {100 * value:.1f}" for name, value in found.items())
            self.say(f"  step {step}, ratio {ratio}: {shown}")

    @cached_property
    def watch(self) -> Watch:
        """Validation, read when first needed."""
        return Watch(self.recipe, self.checkpoint.tokenizer, self.tokens, self.held_out, self.targets.vectors)

    def _save(self, folder: Path, encoder: Encoder, weights: str, stage: TextStage) -> None:
        student = self.student
        compressor = replace(encoder.config.compressor, threshold=stage.threshold)
        encoder.config = replace(encoder.config, compressor=compressor)
        save_checkpoint(
            folder,
            encoder,
            tokenizer_json=self.checkpoint.tokenizer.to_json(),
            prompts=student.prompts,
            default_prompt_name=student.default_prompt,
            weights=weights,
        )

    def _hand_over(self, result: Path) -> None:
        """Write the last stage's model with the head and the weights that the recipe asks for."""
        encoder = load_checkpoint(self.folder(len(self.stages) - 1) / MODEL).encoder
        if self.student.result_weights:
            encoder = scaled_head(encoder, self._result_factors())
        dims = self.student.result_dims
        if dims is not None:
            order = np.argsort(self.tokens.spread, kind="stable")[:TURN_TEXTS]
            rows = [self.tokens.row(number) for number in order.tolist()]
            threshold = encoder.config.compressor.threshold
            vectors = torch.from_numpy(encode_rows(encoder, rows, ratio=1.0, threshold=threshold))
            encoder = turned_head(encoder, torch.nn.functional.normalize(vectors, dim=-1), dims)
        self._save(result, encoder, self.training.weights, self.recipe.text_stages[-1])
        self.say(f"done: {result}")

    def _result_factors(self) -> torch.Tensor:
        """What ``result_weights`` makes of each dimension of the target, shape (R,)."""
        factors = [self.student.result_weights.get(teacher.name, 1.0) for teacher in self.recipe.teachers]
        return torch.repeat_interleave(torch.tensor(factors), torch.tensor(self.targets.widths))

    def table(self) -> Mapping[str, Mapping[str, Mapping[str, float]]]:
        """The last validation of each complete stage: scores by stage, ratio and name."""
        found = {}
        for index, stage in enumerate(self.recipe.text_stages):
            rows = read_log(self.folder(index) / VALIDATION)
            if rows:
                found[stage.name] = rows[-1]["scores"]
        return found
