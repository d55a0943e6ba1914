"""The text stages of a recipe, one after another, each kept in a folder of its own.

    folder/tokens/            the texts as token ids
    folder/1-distil/          step-N/ (states), metrics.jsonl, validation.jsonl, curve.png, tensorboard/
    folder/1-distil/model/    the stage's result: a checkpoint; there only when the stage is complete
    folder/model/             the last stage's result, as it is handed over

What is there is never done again, so an interrupted run goes on where it was. What is there but was made of
other settings or data is refused, see ``results.py``.
"""

import re
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Unpack

import numpy as np
import torch

from jaspertc.checkpoint import load_checkpoint, save_checkpoint
from jaspertc.checkpoint.load import Checkpoint
from jaspertc.checkpoint.parts import scaled_head, turned_head
from jaspertc.errors import ConfigError, TrainingError
from jaspertc.files.aside import writing
from jaspertc.files.json_files import write_json
from jaspertc.files.made_of import made_of
from jaspertc.model.encoder import Encoder
from jaspertc.recipe.recipe import Recipe
from jaspertc.teaching.recipe_texts import RecipeTexts
from jaspertc.teaching.targets import Targets
from jaspertc.train.batches import targets_by_role
from jaspertc.train.data import held_out_texts, stage_data
from jaspertc.train.loop import DTYPES, run_stage
from jaspertc.train.results import OnStep, StagedRun, Told, record_file
from jaspertc.train.saving import KEPT, average_weights, saved_states
from jaspertc.train.sharding import whole_encoder
from jaspertc.train.students import for_stage, load_student, start_head, without_extra
from jaspertc.train.tokens import prepare_tokens
from jaspertc.train.watching import Watch, encode_rows
from jaspertc.types import IntArray

TURN_TEXTS = 4096
# Keys of [student] that only the result depends on that is handed over.
LAST_KEYS = ("default_prompt", "result_weights", "result_dims", "result_threshold")


class Distillation(StagedRun):
    """All that ``distil`` has to do. Everything that can be wrong is found when it is made.

    Args:
        device: where the student is.
        told: see ``results.Told``.

    Raises:
        ConfigError: recipe, texts, teachers and student do not fit together.
        CacheError: a text has no vector, or a cache is damaged.
        JasperError: a file cannot be read.
    """

    def __init__(self, recipe: Recipe, *, device: str = "cpu", **told: Unpack[Told]) -> None:
        super().__init__(recipe, recipe.text_stages, **told)
        self.device = torch.device(device)
        self.say("reading the texts")
        texts = RecipeTexts(recipe)
        self.say(f"{len(texts)} texts; checking the teachers' vectors")
        self.targets = Targets(recipe, texts)
        self.say("loading the student")
        checkpoint, first = self._load_student()
        self.tokenizer, self._piece_length = checkpoint.tokenizer, checkpoint.info.piece_length
        self._made_from, self._first_config = checkpoint.fingerprint, first.config
        del checkpoint, first  # loaded again for the first stage, which trains it in place
        self.check_stages()
        self.say("preparing the tokens")
        if self.processes.rank:
            self.processes.wait()  # for the first, which writes them
        with self.progress("preparing the tokens", len(texts)) as advance:
            self.tokens = prepare_tokens(
                recipe, texts, self.tokenizer, self.training.folder / "tokens", advance=advance
            )
        if not self.processes.rank:
            self.processes.wait()
        self.stages = [
            stage_data(recipe, stage, self.tokens, self.held_out, self.targets.vectors)
            for stage in recipe.text_stages
        ]

    def _load_student(self) -> tuple[Checkpoint, Encoder]:
        seed = self.recipe.text_stages[0].seed
        return load_student(self.student, self.targets.dims, seed=seed)

    def check_stages(self) -> None:
        """Raise ConfigError unless each stage can follow the one before."""
        names = [teacher.name for teacher in self.recipe.teachers]
        for name in self.student.result_weights:
            if name not in names:
                raise ConfigError(f"[student] result_weights names {name!r}, teachers are {', '.join(names)}")
        with torch.device("meta"):
            encoder = Encoder(self._first_config)
            for stage in self.recipe.text_stages:
                encoder = for_stage(encoder, stage)
                patterns = [*stage.trainable, *(later.parameters for later in stage.unfreeze)]
                for pattern in patterns:
                    if not any(re.search(pattern, name) for name, _ in encoder.named_parameters()):
                        raise ConfigError(
                            f"stage {stage.name}: {pattern!r} matches no parameter of the model"
                        )
        dims, width = self.student.result_dims, encoder.config.embedding_dims
        if dims is not None and dims > width:
            raise ConfigError(f"[student] result_dims is {dims}, it must be 1 to {width}, the target's width")

    @cached_property
    def held_out(self) -> IntArray:
        """Numbers of the texts that no stage sees."""
        return held_out_texts(self.recipe, self.tokens, self.training.held_out)

    @cached_property
    def _common(self) -> dict[str, Any]:
        """What all stages are made of, beside their own settings and data."""
        student = {key: value for key, value in asdict(self.student).items() if key not in LAST_KEYS}
        student["model"] = self._made_from
        return {"student": student, "tokens": self.tokens.identity, **self.targets.identity}

    def record(self, index: int) -> dict[str, Any]:
        """What a stage's result is made of: settings and data of it and of the stages before."""
        stages = {
            self.folder(number).name: {**data.config.settings(), "data": data.identity}
            for number, data in enumerate(self.stages[: index + 1])
        }
        return made_of({**self._common, **stages})

    def last_record(self) -> dict[str, Any]:
        """What the result that is handed over is made of."""
        last = {key: getattr(self.student, key) for key in LAST_KEYS}
        return super().last_record() | made_of({**last, "weights": self.training.weights})

    def start(self, index: int) -> Encoder:
        """The student as a stage begins.

        Raises:
            TrainingError: the stage before is not complete.
        """
        if index == 0:
            _, encoder = self._load_student()
            if self.student.head == "fit":
                chosen = np.flatnonzero(np.isin(np.arange(len(self.tokens)), self.held_out, invert=True))
                chosen = chosen[np.argsort(self.tokens.spread[chosen], kind="stable")]
                chosen = chosen[: self.student.head_texts]
                rows = [self.tokens.row(number) for number in chosen.tolist()]
                targets = targets_by_role(self.tokens, chosen, self.targets.vectors)
                start_head(encoder, rows, targets, DTYPES[self.recipe.text_stages[0].dtype])
        else:
            before = self.result_of(index - 1)
            if not before.exists():
                raise TrainingError(
                    f"stage {index + 1} starts from {before}, which is not there; run the stages before it"
                )
            encoder = load_checkpoint(before).encoder
        return for_stage(encoder, self.recipe.text_stages[index]).to(self.device)

    def train(self, index: int, on_step: OnStep) -> None:
        """Train one stage, from its last saved state if there is one."""
        data, folder = self.stages[index], self.folder(index)
        config = data.config
        encoder = self.start(index)
        states = saved_states(folder)
        since = f" from step {int(states[-1].name.removeprefix('step-'))}" if states else ""
        self.say(f"{self.title(index)}: {config.steps} steps{since}")

        if self.processes.rank == 0 and not states:
            self.validate(encoder, index, 0)
        run_stage(
            encoder,
            config,
            data.batch_at,
            folder,
            record=self.record(index),
            processes=self.processes,
            sharded=self.training.sharding == "full",
            on_step=lambda report: on_step(config, report),
            validate=lambda complete, step: self.validate(complete, index, step),
        )
        complete = whole_encoder(encoder, keep=self.processes.rank == 0)
        if self.processes.rank or complete is None:
            self.processes.wait()
            return
        encoder = complete
        if config.average > 1:
            encoder.load_state_dict(average_weights(saved_states(folder)[-config.average :]))
        encoder = without_extra(encoder)
        self.validate(encoder, index, config.steps or 0)
        self.complete(index)
        self._save(self.result_of(index), encoder, "float32", config.threshold)
        self.processes.wait()

    def validate(self, encoder: Encoder, index: int, step: int) -> None:
        """Keep and say the scores of a stage's student after so many steps."""
        stage = self.recipe.text_stages[index]
        scores = self.watch.scores(encoder, threshold=stage.threshold, dtype=DTYPES[stage.dtype])
        self.note(index, step, scores, at="ratio ")

    @cached_property
    def watch(self) -> Watch:
        """Validation, read when first needed."""
        return Watch(self.recipe, self.tokenizer, self.tokens, self.held_out, self.targets.vectors)

    def _save(self, folder: Path, encoder: Encoder, weights: str, threshold: int) -> None:
        student = self.student
        compressor = replace(encoder.config.compressor, threshold=threshold)
        encoder.config = replace(encoder.config, compressor=compressor)
        save_checkpoint(
            folder,
            encoder,
            tokenizer_json=self.tokenizer.to_json(),
            prompts=student.prompts,
            default_prompt_name=student.default_prompt,
            weights=weights,
            piece_length=self._piece_length,
        )

    def hand_over(self) -> None:
        """Write the last stage's model with the head and the weights that the recipe asks for."""
        encoder = load_checkpoint(self.result_of(len(self.stages) - 1)).encoder
        if self.student.result_weights:
            encoder = scaled_head(encoder, self._result_factors())
        dims = self.student.result_dims
        if dims is not None:
            order = np.argsort(self.tokens.spread, kind="stable")[:TURN_TEXTS]
            rows = [self.tokens.row(number) for number in order.tolist()]
            threshold = encoder.config.compressor.threshold
            vectors = torch.from_numpy(encode_rows(encoder, rows, ratio=1.0, threshold=threshold))
            encoder = turned_head(encoder, torch.nn.functional.normalize(vectors, dim=-1), dims)
        with writing(self.result, KEPT, TrainingError):
            write_json(record_file(self.result), self.last_record())
        threshold = self.student.result_threshold or self.recipe.text_stages[-1].threshold
        self._save(self.result, encoder, self.training.weights, threshold)
        self.say(f"done: {self.result}")

    def _result_factors(self) -> torch.Tensor:
        """What ``result_weights`` makes of each dimension of the target, shape (R,)."""
        factors = [self.student.result_weights.get(teacher.name, 1.0) for teacher in self.recipe.teachers]
        return torch.repeat_interleave(torch.tensor(factors), torch.tensor(self.targets.widths))
