"""The vision stages of a recipe: pictures learn the vectors that the frozen text side gives their captions.

    folder/N-NAME/features/   what a frozen image encoder says of each picture
    folder/N-NAME/step-N/     states, metrics.jsonl, validation.jsonl, curve.png as of other stages
    folder/N-NAME/vision/     the stage's result
    folder/model/             the text side, file for file, with the last result beside it

Shape legend: P pictures, E width of the vectors.
"""

import hashlib
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Unpack

import torch

from jaspertc.checkpoint import load_checkpoint, resolve
from jaspertc.checkpoint.load import Checkpoint
from jaspertc.checkpoint.vision import VISION, has_vision, read_image_encoder, read_vision, save_vision
from jaspertc.corpus.pictures import Captioned, read_captioned
from jaspertc.engine.embedder import Embedder
from jaspertc.engine.pictures import image_features
from jaspertc.errors import ConfigError, TrainingError
from jaspertc.files.json_files import write_json
from jaspertc.files.made_of import made_of
from jaspertc.model.encoder import Encoder
from jaspertc.model.vision import ImageEncoder, VisionTower
from jaspertc.recipe.recipe import Recipe
from jaspertc.recipe.vision import VisionStage
from jaspertc.teachers import TeacherConfig
from jaspertc.train.captions import caption_vectors
from jaspertc.train.loop import run_steps
from jaspertc.train.pictures import KeptFeatures, PictureBatches, content_hash
from jaspertc.train.results import MODEL, OnStep, StagedRun, Told, record_file
from jaspertc.train.saving import average_weights, saved_states
from jaspertc.train.vision_start import fit_projection, new_tower
from jaspertc.train.vision_step import PictureSide

FROZEN_ENCODER = ("^projection", "^before", "^after")


class VisionRun(StagedRun):
    """What ``distil`` has to do for pictures, after the stages of texts. Needs one process.

    Args:
        told: see ``results.Told``.

    Raises:
        ConfigError: recipe, pictures and model do not fit together.
        JasperError: a file cannot be read.
    """

    def __init__(self, recipe: Recipe, *, device: str, **told: Unpack[Told]) -> None:
        self.stages = recipe.vision_stages
        super().__init__(recipe, self.stages, first=len(recipe.text_stages), result=VISION, **told)
        self.device = torch.device(device)
        if self.stages[0].encoder is None:
            raise ConfigError(
                f"stage {self.stages[0].name}: encoder is missing; name a folder or file of weights"
            )

    @property
    def handed_over(self) -> Path:
        """The picture side of the model."""
        return self.result / VISION

    @cached_property
    def source(self) -> Path:
        """The folder of the text side: the text stages' result, or the student's model as it is."""
        if not self.recipe.text_stages:
            return resolve(self.student.model)
        if not self.result.is_dir():
            raise TrainingError(
                f"pictures learn from {self.result}, which is not there; run the stages before"
            )
        return self.result

    @cached_property
    def texts(self) -> Embedder:
        """The finished text side, for the captions' vectors."""
        return Embedder.load(self.source, device=str(self.device))

    @cached_property
    def _checkpoint(self) -> Checkpoint:
        return load_checkpoint(self.source)

    @cached_property
    def frozen(self) -> Encoder:
        """The same text side in float32, for gradients to pass through."""
        return self._checkpoint.encoder.float().to(self.device).eval().requires_grad_(False)

    def record(self, index: int) -> dict[str, Any]:
        """What a stage's result is made of: settings and data of it and of the stages before."""
        first = self.stages[0].encoder
        assert first is not None
        stages = {
            self.folder(number).name: {
                **stage.settings(),
                "teacher": teacher and asdict(teacher),
                "data": self._data_identity(stage),
            }
            for number, stage in enumerate(self.stages[: index + 1])
            for teacher in [self._teacher(stage)]
        }
        encoder = _weights_hash(read_image_encoder(first))
        return made_of({"text side": self._checkpoint.fingerprint, "image encoder": encoder, **stages})

    def _data_identity(self, stage: VisionStage) -> str:
        pictures = _read(stage.pictures)
        captions = repr([picture.captions for picture in pictures])
        return hashlib.sha256((content_hash(pictures) + captions).encode()).hexdigest()[:16]

    def _teacher(self, stage: VisionStage) -> TeacherConfig | None:
        if stage.teacher is None:
            return None
        named = [teacher for teacher in self.recipe.teachers if teacher.name == stage.teacher]
        if not named:
            raise ConfigError(
                f"stage {stage.name}: teacher is {stage.teacher!r}, no [[teachers]] has that name"
            )
        return named[0]

    def train(self, index: int, on_step: OnStep) -> None:
        """Train one stage, from its last saved state if there is one."""
        stage, folder = self.stages[index], self.folder(index)
        train, watched = _read(stage.pictures), _read(stage.validation)
        if len(train) < stage.batch_size:
            raise ConfigError(
                f"stage {stage.name}: batch_size is {stage.batch_size}, there are {len(train)} pictures"
            )
        self.say(f"{self.title(index)}: {len(train)} pictures, {len(watched)} for validation")
        tower = self._start(index)
        captions = caption_vectors(stage, [*train, *watched], self.texts, self._teacher(stage))
        features = watched_features = None
        if not stage.train_encoder:
            features = self._features(tower, train, index, stage.views)
            if watched:
                watched_features = self._features(tower, watched, index, 1)
        if stage.start == "fit" and not stage.mlp_size and features is not None and index == 0:
            tokenizer = self.texts.checkpoint.tokenizer
            fit_projection(tower, train, features, min(stage.tokens), self.frozen, tokenizer)
        batches = PictureBatches(
            stage, train, tower, features, captions.vectors, captions.numbers, captions.targets
        )
        steps = stage.steps or max(1, round((stage.epochs or 0) * batches.order.steps_per_epoch))
        trained = stage.trainable or (() if stage.train_encoder else FROZEN_ENCODER)
        config = replace(stage, steps=steps, epochs=None, trainable=trained)
        side = PictureSide(tower, self.frozen, config, self.device)

        def validate(done: int) -> None:
            if watched_features is not None:
                self.note(index, done, side.scores(watched_features, captions, len(train)))

        if not saved_states(folder):
            validate(0)
        tower.train()
        run_steps(
            tower,
            config,
            batches,
            side.gradients,
            folder,
            record=self.record(index),
            on_step=lambda report: on_step(config, report),
            validate=validate,
        )
        if config.average > 1:
            tower.load_state_dict(average_weights(saved_states(folder)[-config.average :]))
        tower.eval()
        validate(steps)
        self.complete(index)
        save_vision(folder, tower)

    def _start(self, index: int) -> VisionTower:
        """The picture side as a stage begins."""
        stage = self.stages[index]
        if index:
            before = self.folder(index - 1)
            if not has_vision(before):
                raise TrainingError(f"stage {stage.name} starts from {before}, which is not complete")
            return read_vision(before, self.frozen.config.backbone.hidden_size).to(self.device)
        assert stage.encoder is not None
        tokenizer = self.texts.checkpoint.tokenizer
        prompt = self.texts.prompt_text(None, stage.caption_prompt)
        encoder = read_image_encoder(stage.encoder)
        return new_tower(stage, encoder, self.frozen, tokenizer, prompt).to(self.device)

    def _features(
        self, tower: VisionTower, pictures: Sequence[Captioned], index: int, views: int
    ) -> KeptFeatures:
        encoder = _weights_hash(tower.encoder)
        with self.progress("features of pictures", views * len(pictures)) as advance:
            return KeptFeatures(
                self.folder(index) / "features",
                pictures,
                self.stages[index],
                tower,
                image_features(tower.encoder, compiled=self.texts.runtime.name == "openvino"),
                identity=f"{content_hash(pictures)} {encoder}",
                views=views,
                advance=advance,
            )

    def hand_over(self) -> None:
        """Put the picture side beside the text side, whose files stay as they are."""
        picture_side, record = self.result_of(len(self.stages) - 1), self.last_record()
        aside = self.training.folder / f".{MODEL}-aside"
        shutil.rmtree(aside, ignore_errors=True)
        if self.source == self.result:
            write_json(record_file(self.handed_over), record)
            shutil.copytree(picture_side, aside)
            aside.rename(self.handed_over)
        else:
            shutil.copytree(self.source, aside, ignore=shutil.ignore_patterns("__pycache__", VISION))
            write_json(record_file(aside / VISION), record)
            shutil.copytree(picture_side, aside / VISION)
            aside.rename(self.result)
        self.say(f"done: {self.result}")


def _read(sources: Sequence[Path]) -> list[Captioned]:
    return [picture for source in sources for picture in read_captioned(source)]


def _weights_hash(encoder: ImageEncoder) -> str:
    digest = hashlib.sha256(repr((encoder.kind, sorted(encoder.keys.items()))).encode())
    for name, value in sorted(encoder.state_dict().items()):
        digest.update(name.encode() + value.cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
