"""The stages of a recipe: what each minimises, on which texts, at which ratio, how and for how long."""

import random
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Annotated, Any, ClassVar, Literal

from jaspertc.config import (
    AtLeastZero,
    Between,
    CompressorConfig,
    Count,
    Positive,
    Seed,
    check_values,
    require,
)
from jaspertc.errors import ConfigError
from jaspertc.model.compressors import start_class, start_names
from jaspertc.recipe.objective import Objective
from jaspertc.recipe.texts import WHOLE, Part, check_part
from jaspertc.schedules import RATIO_SCHEDULES, RatioSampler, fixed_ratio, warmup_cosine
from jaspertc.teachers.base import check_name

# Keys of how steps are computed, watched and stored: a stage's result does not depend on them.
WITHOUT_EFFECT = ("token_budget", "graph_tokens", "checkpointing", "keep", "validate_every", "diverged")


@dataclass(frozen=True, kw_only=True)
class Unfreeze:
    """Parameters that join the trained ones from a step on; ``parameters`` is a regular expression."""

    step: AtLeastZero
    parameters: str


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """What stages of all kinds have in common; each kind adds its own keys.

    Args:
        kind: its name in a recipe; ``text`` where a table names none.
        name: of the stage and of its folder.
        steps: optimiser steps; or give ``epochs``.
        epochs: passes over what the stage trains on.
        batch_size: of it a step.
        token_budget: compressed tokens a micro-batch holds.
        graph_tokens: compressed tokens for which the backward pass may keep what it needs; what a larger
            step holds is computed twice.
        learning_rate: peak of warm-up and cosine, > 0.
        warmup_ratio: share of the steps that warms up.
        trainable: regular expressions of parameter names that are trained; none means all.
        unfreeze: parameters that join later.
        clip: largest norm of the gradient, or 0 for none.
        dtype: ``float32``, or ``bfloat16`` for autocast where that is not slower (``computes_bfloat16``).
        save_every: steps between saved states.
        keep: how many of them stay.
        average: the stage's result is the mean of its last so many saved states.
        validate_every: steps between validations; 0: at the end only.
        diverged: stop when the loss exceeds this many times its running mean.
    """

    kind: ClassVar[str] = "text"

    name: str
    objective: Objective
    learning_rate: Positive
    steps: Count | None = None
    epochs: Positive | None = None
    batch_size: Count = 256
    token_budget: Count = 8192
    graph_tokens: AtLeastZero = 32768
    warmup_ratio: float = 0.005
    trainable: tuple[str, ...] = ()
    unfreeze: tuple[Unfreeze, ...] = ()
    clip: Annotated[float, Between(0)] = 0.0
    dtype: Literal["float32", "bfloat16"] = "float32"
    save_every: Count = 500
    keep: Count = 2
    average: Count = 1
    validate_every: AtLeastZero = 0
    diverged: Positive = 10.0
    seed: Seed = 0

    def __post_init__(self) -> None:
        check_name(self.name)
        check_values(type(self), vars(self), f"{self.name}.")
        for pattern in (*self.trainable, *(later.parameters for later in self.unfreeze)):
            _check_pattern(self.name, pattern)
        require((self.steps is None) != (self.epochs is None), f"{self.name}: give either steps or epochs")
        require(
            self.average <= self.keep,
            f"{self.name}.average is {self.average} but only {self.keep} states are kept; raise keep",
        )
        warmup_cosine(0, total=self.steps or 1, warmup_ratio=self.warmup_ratio)

    def ratio_at(self, step: int) -> float:
        """The compression ratio of a step."""
        return 1.0

    def settings(self) -> dict[str, Any]:
        """The keys that the result depends on, but for the order of sums."""
        without = WITHOUT_EFFECT if self.average > 1 else (*WITHOUT_EFFECT, "save_every")
        return {key: value for key, value in asdict(self).items() if key not in without}


@dataclass(frozen=True, kw_only=True)
class TextStage(StageConfig):
    """A stage that trains on texts, or on pairs of them.

    Args:
        batch_size: texts a step, or queries where the losses need pairs.
        negatives: hard negatives a query (K), from the file of ``[mining]``.
        compressor: the compressor that the student has from here on, by a name of
            ``model.compressors.start_names``: ``none`` (as in stage 1 of the report), ``swiglu`` (new, with
            random weights), ``residual-swiglu`` (new, starts as the identity), ``average`` (windows without
            MLP) ...; left out, it stays as it is.
        compressor_keys: its own keys, such as ``mlp_size``; in the file they may stand beside its name.
        ratio: compression ratio in (0, 1], or a name of ``RATIO_SCHEDULES``: one draw a step.
        threshold: length threshold, in tokens.
        part: see ``TextFile.part``; only these texts (or pairs, by the query).
        min_tokens: only texts of at least so many tokens.
        group_by_length: put texts of similar length into a batch.
        gather: losses over the texts of all processes; false: each process by itself.
        checkpointing: keep only each layer's input for the backward pass: less memory, a third more time.
    """

    negatives: AtLeastZero = 0
    compressor: str | None = None
    compressor_keys: Mapping[str, Any] = field(default_factory=dict)
    ratio: float | str = 1.0
    threshold: Count = 80
    part: Part = WHOLE
    min_tokens: AtLeastZero = 0
    group_by_length: bool = False
    gather: bool = True
    checkpointing: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        require(
            not self.negatives or self.objective.needs_pairs,
            f"{self.name}.negatives is {self.negatives} but no loss uses them; add contrastive or soft",
        )
        if self.compressor is not None:
            start_class(self.compressor)
        elif self.compressor_keys:
            raise ConfigError(f"{self.name}: {', '.join(self.compressor_keys)} needs a compressor; name it")
        check_part(self.part)
        self.ratio_sampler()

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


def _check_pattern(stage: str, pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ConfigError(f"{stage}: {pattern!r} is no regular expression ({error}); correct it") from error


def with_compressor_keys(table: Any) -> Any:
    """A stage's table with the own keys of its compressor put together as ``compressor_keys``."""
    name = table.get("compressor") if isinstance(table, dict) else None
    if name not in start_names():
        return table
    known = {item.name for item in fields(start_class(name).Config)}
    added = known - {item.name for item in fields(CompressorConfig)}
    keys = {key: value for key, value in table.items() if key in added}
    rest = {key: value for key, value in table.items() if key not in added}
    given = table.get("compressor_keys", {})
    return {**rest, "compressor_keys": {**given, **keys} if isinstance(given, Mapping) else given}
