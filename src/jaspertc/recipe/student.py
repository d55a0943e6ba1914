"""The sections of a recipe on the student, its run, and the negatives it learns from."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Literal

from jaspertc.config import AtLeastZero, Between, Count, ModelName, Positive, Share
from jaspertc.errors import ConfigError


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
        result_threshold: the result's default length threshold, in tokens; left out, that of the last stage.
    """

    model: ModelName
    layers: Count | None = None
    head: Literal["random", "fit"] = "random"
    head_texts: Annotated[int, Between(2)] = 4096
    prompts: Mapping[str, str] = field(default_factory=dict)
    prompt_dropout: Share = 0.0
    default_prompt: str | None = None
    max_length: Count = 512
    result_weights: Mapping[str, Positive] = field(default_factory=dict)
    result_dims: Count | None = None
    result_threshold: Count | None = None

    def __post_init__(self) -> None:
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
    ceiling: Share = 0.95


@dataclass(frozen=True, kw_only=True)
class Training:
    """Where a run is kept and how it is watched.

    Args:
        folder: of the run: tokens, states, curves and the checkpoint of every stage.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
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

    def __post_init__(self) -> None:
        if not re.fullmatch(r"auto|cpu|cuda(:\d+)?", self.device):
            raise ConfigError(f"device is {self.device!r}, it must be auto, cpu, cuda or cuda:N")
