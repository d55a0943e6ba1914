"""The training sections of a recipe: the student, the stages and what each of them minimises."""

import random
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

from jaspertc.config import CompressorConfig
from jaspertc.errors import ConfigError
from jaspertc.losses import KL_DIRECTIONS
from jaspertc.model.compressors import start_class, start_names
from jaspertc.recipe.reader import FOLDER_OR_NAME, Between
from jaspertc.schedules import RATIO_SCHEDULES, RatioSampler, fixed_ratio, warmup_cosine

Count = Annotated[int, Between(1)]
AtLeastZero = Annotated[int, Between(0)]

WEIGHTS = ("cosine", "similarity", "relative", "contrastive", "soft")


@dataclass(frozen=True, kw_only=True)
class Objective:
    """Loss weights (0 leaves a loss out) and the losses' own settings; ``train.objective`` computes them.

    The report's: stages 1 and 2 ``cosine=10``; stage 3 adds ``similarity=100``; stage 4 is
    ``contrastive=1, soft=16, cosine=10``.

    Args:
        temperature: tau of the contrastive loss, > 0.
        soft_temperature: alpha of the soft loss, > 0.
        kl_direction: see ``losses.soft_distillation_loss``.
        margin: of the relative loss.
        max_terms: most terms of the relative loss.
        matryoshka: widths of prefixes of the vectors, each of which gets all losses but the cosine (which
            needs the target's width).
        matryoshka_heads: widths of further linear heads, trained likewise and left out of the result.
    """

    cosine: float = 0.0
    similarity: float = 0.0
    relative: float = 0.0
    contrastive: float = 0.0
    soft: float = 0.0
    temperature: float = 0.3
    soft_temperature: float = 0.1
    kl_direction: str = KL_DIRECTIONS[0]
    margin: float = 0.015
    max_terms: Count = 1_000_000
    matryoshka: tuple[Count, ...] = ()
    matryoshka_heads: tuple[Count, ...] = ()

    def __post_init__(self) -> None:
        weights = {name: getattr(self, name) for name in WEIGHTS}
        for name, value in weights.items():
            if not value >= 0:
                raise ConfigError(f"loss weight {name} is {value}, it must be >= 0")
        if not any(weights.values()):
            raise ConfigError(f"every loss weight is 0; give one of {', '.join(WEIGHTS)}")
        for item in fields(self):
            if "temperature" in item.name and not getattr(self, item.name) > 0:
                raise ConfigError(f"{item.name} is {getattr(self, item.name)}, it must be > 0")
        if self.kl_direction not in KL_DIRECTIONS:
            raise ConfigError(f"kl_direction is {self.kl_direction!r}, use {' or '.join(KL_DIRECTIONS)}")
        if (self.matryoshka or self.matryoshka_heads) and not any(
            weights[name] for name in WEIGHTS if name != "cosine"
        ):
            raise ConfigError(
                "matryoshka widths are given but only the cosine loss, which needs the target's width; add "
                "similarity, relative, contrastive or soft"
            )

    @property
    def needs_pairs(self) -> bool:
        """Whether texts must come as queries with documents."""
        return bool(self.contrastive or self.soft)


@dataclass(frozen=True, kw_only=True)
class Unfreeze:
    """Parameters that join the trained ones from a step on; ``parameters`` is a regular expression."""

    step: AtLeastZero
    parameters: str


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """One stage of a recipe.

    Args:
        steps: optimiser steps; or give ``epochs``.
        epochs: passes over the stage's texts, or its pairs.
        batch_size: texts a step, or queries where the losses need pairs.
        negatives: hard negatives a query (K), from the file of ``[mining]``.
        learning_rate: peak of warm-up and cosine, > 0.
        warmup_ratio: share of the steps that warms up.
        compressor: the compressor that the student has from here on, by a name of
            ``model.compressors.start_names``: ``none`` (as in stage 1 of the report), ``swiglu`` (new, with
            random weights), ``residual-swiglu`` (new, starts as the identity), ``average`` (windows without
            MLP) ...; left out, it stays as it is.
        compressor_keys: its own keys, such as ``mlp_size``; in the file they may stand beside its name.
        ratio: compression ratio in (0, 1], or ``algorithm-2`` or ``wide``: one draw a step.
        threshold: length threshold, in tokens.
        part: see ``TextFile.part``; only these texts (or pairs, by the query).
        min_tokens: only texts of at least so many tokens.
        group_by_length: put texts of similar length into a batch.
        gather: losses over the texts of all processes; false: each process by itself.
        token_budget: compressed tokens a micro-batch holds.
        graph_tokens: compressed tokens for which the backward pass may keep what it needs; the texts of a
            larger step are computed twice.
        checkpointing: keep only each layer's input for the backward pass: less memory, a third more time.
        trainable: regular expressions of parameter names that are trained; none means all.
        unfreeze: parameters that join later.
        clip: largest norm of the gradient, or 0 for none.
        dtype: ``float32``, or ``bfloat16`` for autocast.
        save_every: steps between saved states.
        keep: how many of them stay.
        average: the stage's result is the mean of its last so many saved states.
        validate_every: steps between validations; 0: at the end only.
        diverged: stop when the loss exceeds this many times its running mean.
    """

    kind: ClassVar[str] = "text"

    name: str
    learning_rate: float
    objective: Objective
    steps: Count | None = None
    epochs: float | None = None
    batch_size: Count = 256
    negatives: AtLeastZero = 0
    warmup_ratio: float = 0.005
    compressor: str | None = None
    compressor_keys: Mapping[str, Any] = field(default_factory=dict)
    ratio: float | str = 1.0
    threshold: Count = 80
    part: tuple[Annotated[float, Between(0, 1)], ...] = (0.0, 1.0)
    min_tokens: AtLeastZero = 0
    group_by_length: bool = False
    gather: bool = True
    token_budget: Count = 8192
    graph_tokens: AtLeastZero = 32768
    checkpointing: bool = False
    trainable: tuple[str, ...] = ()
    unfreeze: tuple[Unfreeze, ...] = field(default=())
    clip: float = 0.0
    dtype: Literal["float32", "bfloat16"] = "float32"
    save_every: Count = 500
    keep: Count = 2
    average: Count = 1
    validate_every: AtLeastZero = 0
    diverged: float = 10.0
    seed: int = 0

    def __post_init__(self) -> None:
        if (self.steps is None) == (self.epochs is None):
            raise ConfigError(f"{self.name}: give either steps or epochs")
        for name in ("steps", "threshold", "token_budget", "save_every", "keep", "batch_size"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ConfigError(f"{self.name}.{name} is {value}, it must be >= 1")
        if self.epochs is not None and not self.epochs > 0:
            raise ConfigError(f"{self.name}.epochs is {self.epochs}, it must be > 0")
        if not self.learning_rate > 0:
            raise ConfigError(f"{self.name}.learning_rate is {self.learning_rate}, it must be > 0")
        if self.dtype not in ("float32", "bfloat16"):
            raise ConfigError(f"{self.name}.dtype is {self.dtype!r}, it must be float32 or bfloat16")
        if self.average > self.keep:
            raise ConfigError(
                f"{self.name}.average is {self.average} but only {self.keep} states are kept; raise keep"
            )
        if self.negatives and not self.objective.needs_pairs:
            raise ConfigError(
                f"{self.name}.negatives is {self.negatives} but no loss uses them; add contrastive or soft"
            )
        if self.compressor is not None:
            start_class(self.compressor)
        elif self.compressor_keys:
            raise ConfigError(f"{self.name}: {', '.join(self.compressor_keys)} needs a compressor; name it")
        check_part(self.part)
        self.ratio_sampler()
        warmup_cosine(0, total=self.steps or 1, warmup_ratio=self.warmup_ratio)

    def ratio_sampler(self) -> RatioSampler:
        """The schedule that ``ratio`` names."""
        if not isinstance(self.ratio, str):
            return fixed_ratio(self.ratio)
        if self.ratio not in RATIO_SCHEDULES:
            raise ConfigError(
                f"{self.name}.ratio is {self.ratio!r}, it must be a number in (0, 1] or "
                f"{' or '.join(RATIO_SCHEDULES)}"
            )
        return RATIO_SCHEDULES[self.ratio]

    def ratio_at(self, step: int) -> float:
        """The compression ratio of a step: one draw that depends on seed and step alone."""
        return self.ratio_sampler()(random.Random(f"{self.seed}/{self.name}/{step}"))


@dataclass(frozen=True, kw_only=True)
class Student:
    """What is trained.

    Args:
        model: a checkpoint folder, or a built-in or hub name, whose weights it starts from.
        layers: keep so many of its layers, every k-th.
        head: how the new linear head to the target's width starts: ``random`` as in the report, or
            ``fit``, the ridge regression of targets on pooled vectors.
        head_texts: how many texts ``fit`` uses.
        prompts: put before texts, by role, and kept in the checkpoint.
        prompt_dropout: share of the texts that are seen without their prompt, so that the model works
            without prompts, too.
        default_prompt: the role whose prompt is used where a call names none.
        max_length: tokens of a text that are seen, prompt included.
        result_weights: at the end, a factor > 0 for the dimensions that each named teacher gave, as if its
            weight in the target had been so much larger; a choice that validation makes after training.
        result_dims: at the end, turn the space so that the first so many dimensions hold the most, and
            keep these; no more than the student's own width loses nothing. Left out, vectors stay as
            they were trained.
    """

    model: Annotated[str, FOLDER_OR_NAME]
    layers: Count | None = None
    head: Literal["random", "fit"] = "random"
    head_texts: Count = 4096
    prompts: Mapping[str, str] = field(default_factory=dict)
    prompt_dropout: Annotated[float, Between(0, 1)] = 0.0
    default_prompt: str | None = None
    max_length: Count = 512
    result_weights: Mapping[str, float] = field(default_factory=dict)
    result_dims: Count | None = None

    def __post_init__(self) -> None:
        for teacher, factor in self.result_weights.items():
            if not 0 < factor < float("inf"):
                raise ConfigError(f"result_weights.{teacher} is {factor}, it must be a number > 0")
        if self.default_prompt is not None and self.default_prompt not in self.prompts:
            raise ConfigError(
                f"default_prompt is {self.default_prompt!r}, prompts has {', '.join(self.prompts) or 'none'}"
            )


@dataclass(frozen=True, kw_only=True)
class Mining:
    """Hard negatives for the pairs of ``[[texts.pairs]]``: the documents most like a query, by a teacher.

    Args:
        output: JSON lines with query, positive and negatives, ids and texts.
        teacher: the teacher whose vectors rank documents; left out, the fused target does.
        negatives: documents kept for each query.
        depth: how far down the ranking they are looked for.
        ceiling: documents that score above this share of the positive's own score are taken for further
            positives and dropped.
    """

    output: Path
    teacher: str | None = None
    negatives: Count = 7
    depth: Count = 100
    ceiling: Annotated[float, Between(0, 1)] = 0.95


@dataclass(frozen=True, kw_only=True)
class Training:
    """Where a run is kept and how it is watched.

    Args:
        folder: of the run: tokens, states, curves and the checkpoint of every stage.
        device: ``auto``, ``cpu`` or ``cuda``.
        sharding: ``full`` shares weights, gradients and moments out over the processes (FSDP), each layer by
            itself; ``none`` keeps all of them in every process. The result is the same.
        weights: how the last checkpoint's weights are stored.
        ratios: compression ratios that validation reports.
        held_out: this many texts are never trained on; validation reports how many of the target's ten
            nearest neighbours among them the student finds.
        expected_texts: how many texts there will be, to plan a run whose files are not there yet.
        expected_tokens: their mean length, likewise.
    """

    folder: Path
    device: str = "auto"
    sharding: Literal["none", "full"] = "none"
    weights: Literal["float32", "bfloat16", "int8"] = "float32"
    ratios: tuple[Annotated[float, Between(1e-6, 1)], ...] = (1.0, 0.5, 0.33, 0.1)
    held_out: AtLeastZero = 1000
    expected_texts: Count | None = None
    expected_tokens: Count | None = None


def with_compressor_keys(table: Any) -> Any:
    """A stage's table with the own keys of its compressor put together as ``compressor_keys``."""
    name = table.get("compressor") if isinstance(table, dict) else None
    if name not in start_names():
        return table
    known = {item.name for item in fields(start_class(name).Config)}
    own = known - {item.name for item in fields(CompressorConfig)}
    keys = {key: value for key, value in table.items() if key in own}
    rest = {key: value for key, value in table.items() if key not in own}
    return {**rest, "compressor_keys": {**table.get("compressor_keys", {}), **keys}}


def check_part(part: tuple[float, ...]) -> None:
    """Raise ConfigError unless it is [from, to] within [0, 1]."""
    if len(part) != 2 or not part[0] < part[1]:
        raise ConfigError(
            f"part is {list(part)}, it must be [from, to] with 0 <= from < to <= 1, such as [0.0, 0.25]"
        )
