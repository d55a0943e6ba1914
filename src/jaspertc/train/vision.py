"""The vision stages of a recipe: pictures learn the vectors that the frozen text side gives their captions.

    folder/N-NAME/features/   what a frozen image encoder says of each picture
    folder/N-NAME/step-N/     states, metrics.jsonl, validation.jsonl, curve.png as of other stages
    folder/N-NAME/vision/     the stage's result
    folder/model/             the text side, file for file, with the last result beside it

Shape legend: P pictures, B pictures of a step, E width of the vectors.
"""

import hashlib
import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from jaspertc.checkpoint import load_checkpoint, resolve
from jaspertc.checkpoint.parts import fit_linear
from jaspertc.checkpoint.vision import VISION, has_vision, read_image_encoder, read_vision, save_vision
from jaspertc.corpus.pictures import Captioned, read_captioned
from jaspertc.engine.embedder import Embedder
from jaspertc.engine.pictures import image_features
from jaspertc.engine.precision import normalized
from jaspertc.errors import ConfigError, TrainingError
from jaspertc.files.json_lines import read_log
from jaspertc.model.encoder import Encoder
from jaspertc.model.vision import ImageEncoder, VisionConfig, VisionTower
from jaspertc.recipe.recipe import Recipe, training_sections
from jaspertc.recipe.vision import VisionStage
from jaspertc.teachers import load_teacher
from jaspertc.text.packing import pack
from jaspertc.train.curves import draw_stage
from jaspertc.train.loop import DTYPES, METRICS, run_steps
from jaspertc.train.objective import picture_losses
from jaspertc.train.pictures import KeptFeatures, PictureBatch, PictureBatches, content_hash
from jaspertc.train.run import MODEL, VALIDATION, OnStep, Progress, Say
from jaspertc.train.saving import average_weights, saved_states
from jaspertc.train.step import autocast
from jaspertc.types import FloatArray

FROZEN_ENCODER = ("^projection", "^before", "^after")
RIDGE = 1.0
AT_ONCE = 128


class VisionRun:
    """What ``distil`` has to do for pictures, after the stages of texts. Needs one process.

    Raises:
        ConfigError: recipe, pictures and model do not fit together.
        JasperError: a file cannot be read.
    """

    def __init__(self, recipe: Recipe, *, device: str, say: Say, progress: Progress) -> None:
        self.recipe, self.stages = recipe, recipe.vision_stages
        self.student, self.training = training_sections(recipe)
        self.device, self.say, self.progress = torch.device(device), say, progress
        if self.stages[0].encoder is None:
            raise ConfigError(
                f"stage {self.stages[0].name}: encoder is missing; name a folder or file of weights"
            )

    @property
    def result(self) -> Path:
        """The folder of text side and picture side."""
        return self.training.folder / MODEL

    def folder(self, index: int) -> Path:
        """The folder of one of the vision stages."""
        return self.training.folder / f"{len(self.recipe.text_stages) + index + 1}-{self.stages[index].name}"

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
    def frozen(self) -> Encoder:
        """The same text side in float32, for gradients to pass through."""
        encoder = load_checkpoint(self.source).encoder.float()
        return encoder.to(self.device).eval().requires_grad_(False)

    def run(self, only: int | None = None, *, on_step: OnStep = lambda stage, report: None) -> Path | None:
        """Run all vision stages, or one of them (from 0); the result's folder if it is complete."""
        for index in range(len(self.stages)) if only is None else [only]:
            if has_vision(self.folder(index)):
                self.say(f"stage {self.folder(index).name}: complete")
            else:
                self._stage(index, on_step)
        last = self.folder(len(self.stages) - 1)
        if not has_vision(last):
            return None
        self._hand_over(last / VISION)
        return self.result

    def _stage(self, index: int, on_step: OnStep) -> None:
        stage, folder = self.stages[index], self.folder(index)
        train = [item for source in stage.pictures for item in read_captioned(source)]
        watched = [item for source in stage.validation for item in read_captioned(source)]
        if len(train) < stage.batch_size:
            raise ConfigError(
                f"stage {stage.name}: batch_size is {stage.batch_size}, there are {len(train)} pictures"
            )
        self.say(f"stage {folder.name}: {len(train)} pictures, {len(watched)} for validation")
        tower = self._start(index)
        captions = self._caption_vectors(stage, [*train, *watched])
        kept = None if stage.train_encoder else self._features(tower, train, stage, folder, stage.views)
        seen = (
            self._features(tower, watched, stage, folder, 1) if watched and not stage.train_encoder else None
        )
        if stage.start == "fit" and not stage.mlp_size and kept is not None and index == 0:
            self._fit(tower, train, kept, stage)
        batches = PictureBatches(
            stage, train, tower, kept, captions.vectors, captions.numbers, captions.targets
        )
        steps = stage.steps or max(1, round((stage.epochs or 0) * batches.order.steps_per_epoch))
        trained = stage.trainable or (() if stage.train_encoder else FROZEN_ENCODER)
        config = replace(stage, steps=steps, epochs=None, trainable=trained)

        def gradients(batch: PictureBatch, step: int) -> dict[str, float]:
            return self._gradients(tower, batch, config, step)

        def validate(done: int) -> None:
            if seen is not None:
                scores = self._scores(tower, seen, captions, len(train), config)
                self._note(folder, done, scores)

        states = saved_states(folder)
        if not states:
            validate(0)
        identity = hashlib.sha256(captions.vectors.tobytes() + content_hash(train).encode()).hexdigest()[:16]
        tower.train()
        run_steps(
            tower,
            config,
            batches,
            gradients,
            folder,
            data_identity=identity,
            on_step=lambda report: on_step(config, report),
            validate=validate,
        )
        if config.average > 1:
            tower.load_state_dict(average_weights(saved_states(folder)[-config.average :]))
        tower.eval()
        validate(steps)
        draw_stage(
            folder / "curve.png", stage.name, read_log(folder / METRICS), read_log(folder / VALIDATION)
        )
        save_vision(folder, tower)

    def _start(self, index: int) -> VisionTower:
        """The picture side as a stage begins."""
        stage, width = self.stages[index], self.frozen.config.backbone.hidden_size
        if index:
            before = self.folder(index - 1)
            if not has_vision(before):
                raise TrainingError(f"stage {stage.name} starts from {before}, which is not complete")
            return read_vision(before, width).to(self.device)
        assert stage.encoder is not None
        rows, after = self._frame(stage)
        config = VisionConfig(
            tokens=stage.default_tokens,
            mlp_size=stage.mlp_size or 0,
            before=len(rows) - after,
            after=after,
        )
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stage.seed)
            tower = VisionTower(config, read_image_encoder(stage.encoder), width)
        with torch.no_grad():
            tower.before.copy_(rows[: config.before])
            tower.after.copy_(rows[config.before :])
            last = tower.projection[-1]
            assert isinstance(last, torch.nn.Linear)
            last.weight.mul_(3**0.5 * self.frozen.backbone.token_table.weight.std())  # as tokens' embeddings
        for tokens in stage.tokens:
            tower.side_of(tokens)
        return tower.to(self.device)

    def _frame(self, stage: VisionStage) -> tuple[Tensor, int]:
        """Rows of a text of the prompt alone, shape (rows, D), and how many of them follow the text."""
        tokenizer = self.texts.checkpoint.tokenizer
        prompt = self.texts.prompt_text(None, stage.caption_prompt)
        ids, bare = tokenizer.encode_batch([prompt, ""])
        after = 0
        while (
            after < min(len(bare), len(ids) - 1) and bare[len(bare) - 1 - after] == ids[len(ids) - 1 - after]
        ):
            after += 1
        with torch.no_grad():
            rows = self.frozen.compress(pack([ids]), np.array([len(ids)]))
        return rows, after

    def _caption_vectors(self, stage: VisionStage, pictures: Sequence[Captioned]) -> "CaptionVectors":
        texts = list(dict.fromkeys(caption for picture in pictures for caption in picture.captions))
        prompt = self.texts.prompt_text(None, stage.caption_prompt)
        if stage.teacher is None:
            vectors = self.texts.encode(texts, prompt=prompt)
        else:
            found = [teacher for teacher in self.recipe.teachers if teacher.name == stage.teacher]
            if not found:
                raise ConfigError(
                    f"stage {stage.name}: teacher is {stage.teacher!r}, no [[teachers]] has that name"
                )
            teacher = load_teacher(found[0])
            if teacher.dims != self.texts.dims:
                raise ConfigError(
                    f"stage {stage.name}: teacher {stage.teacher!r} has {teacher.dims} dimensions, the model "
                    f"{self.texts.dims}; pictures can only learn vectors of the model's width"
                )
            vectors = normalized(teacher.encode(texts, prompt))
        return CaptionVectors(texts, np.asarray(vectors, np.float32), pictures)

    def _features(
        self, tower: VisionTower, pictures: Sequence[Captioned], stage: VisionStage, folder: Path, views: int
    ) -> KeptFeatures:
        encoder = _weights_hash(tower.encoder)
        with self.progress("features of pictures", views * len(pictures)) as advance:
            return KeptFeatures(
                folder / "features",
                pictures,
                stage,
                tower,
                image_features(tower.encoder, compiled=self.texts.runtime.name == "openvino"),
                identity=f"{content_hash(pictures)} {encoder}",
                views=views,
                advance=advance,
            )

    def _fit(
        self, tower: VisionTower, pictures: Sequence[Captioned], kept: KeptFeatures, stage: VisionStage
    ) -> None:
        """Start the projection as the ridge regression of what the captions' tokens are on features."""
        tokenizer, encoder = self.texts.checkpoint.tokenizer, self.frozen
        texts = list(dict.fromkeys(caption for picture in pictures for caption in picture.captions))
        special = len(tokenizer.encode_batch([""])[0]) - tower.config.after
        with torch.inference_mode():
            means = {}
            for text, ids in zip(texts, tokenizer.encode_batch(texts)):
                words = ids[special : len(ids) - tower.config.after]
                words = words if len(words) else ids
                means[text] = encoder.compress(pack([words]), np.array([len(words)])).mean(0).cpu()
            wanted = [torch.stack([means[text] for text in item.captions]).mean(0) for item in pictures]
            numbers = np.arange(len(pictures))
            pooled = kept.pooled(numbers, np.zeros_like(numbers), min(stage.tokens)).mean(1)
            inputs = tower.projection[0](pooled.to(self.device)).cpu()
        last = tower.projection[-1]
        assert isinstance(last, torch.nn.Linear)
        fit_linear(last, inputs, torch.stack(wanted), ridge=RIDGE)

    def _vectors(self, tower: VisionTower, inputs: Tensor, tokens: int, config: VisionStage) -> Tensor:
        """Vectors before normalisation of features or pixels, shape (B, E)."""
        inputs = inputs.to(self.device)
        with autocast(self.device, DTYPES[config.dtype], cache=True):
            pooled = inputs if inputs.ndim == 3 else tower.pool(tower.encoder(inputs), tokens)
            rows = tower(pooled)
            lengths = np.full(len(inputs), tower.rows_of(tokens), dtype=np.int64)
            return self.frozen.from_rows(rows, lengths).float()

    def _gradients(
        self, tower: VisionTower, batch: PictureBatch, config: VisionStage, step: int
    ) -> dict[str, float]:
        """Add the gradients of the loss on the whole batch, computed in parts; see ``train.step``."""
        each = tower.rows_of(batch.each)
        parts = torch.split(batch.inputs, max(1, config.token_budget // each))
        keep_graph = len(parts) == 1 or each * len(batch.ids) <= config.graph_tokens

        def vectors(part: Tensor) -> Tensor:
            return self._vectors(tower, part, batch.each, config)

        with torch.set_grad_enabled(keep_graph):
            computed = [vectors(part) for part in parts]
        whole = torch.cat(computed).detach().requires_grad_()
        targets, captions = batch.targets.to(self.device), batch.captions.to(self.device)
        losses = picture_losses(config.objective, whole, targets, captions, seed=config.seed + step)
        total = torch.stack(list(losses.values())).sum()
        (gradient,) = torch.autograd.grad(total, whole)
        for part, done, back in zip(parts, computed, torch.split(gradient, [len(part) for part in parts])):
            (done if keep_graph else vectors(part)).backward(back)  # type: ignore[no-untyped-call]
        return {
            **{name: float(loss.detach()) for name, loss in losses.items()},
            "total": float(total.detach()),
        }

    def _scores(
        self,
        tower: VisionTower,
        seen: KeptFeatures,
        captions: "CaptionVectors",
        first: int,
        config: VisionStage,
    ) -> dict[str, dict[str, float]]:
        """How well validation pictures find what they show among all that any picture shows, by tokens."""
        training = tower.training
        tower.eval()
        wanted = captions.targets[first:]
        candidates, rows = np.unique(captions.targets, axis=0, return_inverse=True)
        right = rows.reshape(-1)[first:]
        found: dict[str, dict[str, float]] = {}
        for tokens in sorted(set(config.tokens)):
            parts = []
            for begin in range(0, len(wanted), AT_ONCE):
                numbers = np.arange(begin, min(begin + AT_ONCE, len(wanted)))
                pooled = seen.pooled(numbers, np.zeros_like(numbers), tokens)
                with torch.inference_mode():
                    parts.append(self._vectors(tower, pooled, tokens, config).float().cpu().numpy())
            vectors = normalized(np.concatenate(parts))
            likeness = vectors @ candidates.T
            ranks = (likeness > likeness[np.arange(len(right)), right][:, None]).sum(1)
            found[f"{tokens} tokens"] = {
                "found first": float((ranks < 1).mean()),
                "found in ten": float((ranks < 10).mean()),
                "cosine to target": float((vectors * wanted).sum(1).mean()),
            }
        tower.train(training)
        return found

    def _note(self, folder: Path, step: int, scores: dict[str, dict[str, float]]) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        rows = [row for row in read_log(folder / VALIDATION) if row["step"] < step]
        lines = [json.dumps(row) + "\n" for row in [*rows, {"step": step, "scores": scores}]]
        (folder / VALIDATION).write_text("".join(lines), encoding="utf-8")
        for name, values in scores.items():
            self.say(f"  step {step}, {name}: {', '.join(f'{k} {100 * v:.1f}' for k, v in values.items())}")

    def _hand_over(self, vision: Path) -> None:
        """Put the picture side beside the text side, whose files stay as they are."""
        if has_vision(self.result):
            return
        aside = self.training.folder / f".{MODEL}-aside"
        shutil.rmtree(aside, ignore_errors=True)
        if self.source == self.result:
            shutil.copytree(vision, aside)
            aside.rename(self.result / VISION)
        else:
            shutil.copytree(self.source, aside, ignore=shutil.ignore_patterns("__pycache__", VISION))
            shutil.copytree(vision, aside / VISION)
            aside.rename(self.result)
        self.say(f"done: {self.result}")

    def table(self) -> dict[str, Any]:
        """The last validation of each complete stage: scores by stage, tokens and name."""
        rows = {stage.name: read_log(self.folder(i) / VALIDATION) for i, stage in enumerate(self.stages)}
        return {name: found[-1]["scores"] for name, found in rows.items() if found}


class CaptionVectors:
    """Unit vectors of captions, and of each picture the mean of its captions'.

    Attributes:
        vectors: shape (captions, E).
        numbers: of each picture's captions.
        targets: unit length, shape (P, E).
    """

    def __init__(self, texts: Sequence[str], vectors: FloatArray, pictures: Sequence[Captioned]) -> None:
        place = {text: number for number, text in enumerate(texts)}
        self.vectors = vectors
        self.numbers = [[place[caption] for caption in picture.captions] for picture in pictures]
        self.targets = normalized(np.stack([vectors[numbers].mean(0) for numbers in self.numbers]))


def _weights_hash(encoder: ImageEncoder) -> str:
    digest = hashlib.sha256(repr((encoder.kind, sorted(encoder.keys.items()))).encode())
    for name, value in sorted(encoder.state_dict().items()):
        digest.update(name.encode() + value.cpu().numpy().tobytes())
    return digest.hexdigest()[:16]
