"""One loop for every stage: step, save, resume.

A step's texts, ratio and learning rate follow from the step's number alone, so a resumed run needs
nothing but weights, optimiser state and that number, and ends where an unbroken one does.
"""

import hashlib
import json
import math
import random
import re
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import torch

from jaspertc.errors import ConfigError, TrainingError
from jaspertc.model.encoder import Encoder
from jaspertc.schedules import RATIO_SCHEDULES, RatioSampler, fixed_ratio, warmup_cosine
from jaspertc.train.objective import Objective
from jaspertc.train.saving import load_state, save_state, saved_states
from jaspertc.train.step import Alone, Processes, StepBatch, accumulate_gradients

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


@dataclass(frozen=True, kw_only=True)
class StageConfig:
    """One stage of a recipe.

    Args:
        steps: optimiser steps, >= 1.
        learning_rate: peak of warm-up and cosine, > 0.
        warmup_ratio: share of the steps that warms up.
        ratio: compression ratio in (0, 1], or ``algorithm-2`` or ``wide``: one draw a step.
        threshold: length threshold, in tokens.
        token_budget: compressed tokens a micro-batch holds.
        trainable: regular expressions of parameter names that are trained; none means all.
        unfreeze: later ``(step, regular expression)`` pairs: parameters that join from that step on.
        clip: largest norm of the gradient, or 0 for none.
        dtype: ``float32``, or ``bfloat16`` for autocast.
        save_every: steps between saved states.
        diverged: stop when the loss exceeds this many times its running mean.
    """

    name: str
    steps: int
    learning_rate: float
    objective: Objective
    warmup_ratio: float = 0.005
    ratio: float | str = 1.0
    threshold: int = 80
    token_budget: int = 8192
    trainable: tuple[str, ...] = ()
    unfreeze: tuple[tuple[int, str], ...] = field(default=())
    clip: float = 0.0
    dtype: str = "float32"
    save_every: int = 500
    keep: int = 2
    diverged: float = 10.0
    seed: int = 0

    def __post_init__(self) -> None:
        for name in ("steps", "threshold", "token_budget", "save_every", "keep"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{self.name}.{name} is {getattr(self, name)}, it must be >= 1")
        if not self.learning_rate > 0:
            raise ConfigError(f"{self.name}.learning_rate is {self.learning_rate}, it must be > 0")
        if self.dtype not in DTYPES:
            raise ConfigError(f"{self.name}.dtype is {self.dtype!r}, it must be {' or '.join(DTYPES)}")
        self.ratio_sampler()
        warmup_cosine(0, total=self.steps, warmup_ratio=self.warmup_ratio)

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
class StepReport:
    """What one step did: losses by name, ratio, learning rate, tokens before compression, seconds."""

    step: int
    losses: dict[str, float]
    ratio: float
    learning_rate: float
    tokens: int
    seconds: float


def run_stage(
    encoder: Encoder,
    config: StageConfig,
    batch_at: Callable[[int], StepBatch],
    folder: Path,
    *,
    data_identity: str = "",
    processes: Processes | None = None,
    on_step: Callable[[StepReport], None] | None = None,
) -> list[StepReport]:
    """Train ``encoder`` in place, resuming from ``folder`` if it holds a state.

    Args:
        batch_at: the texts of a step (from 0); must depend on the step's number alone.
        folder: where states and ``metrics.jsonl`` go.
        data_identity: names the data, so that a state is not resumed with other data.
        on_step: called after every step, on the first process.

    Returns:
        The reports of the steps done in this call.

    Raises:
        TrainingError: the loss is not finite or diverges (the batch's ids are written beside the states),
            or a saved state does not fit.
    """
    processes = processes or Alone()
    settings = _settings_hash(config, data_identity)
    encoder.train()
    optimizer = torch.optim.Adam(encoder.parameters(), lr=config.learning_rate)
    states = saved_states(folder)
    done = load_state(states[-1], encoder, optimizer, settings) if states else 0
    reports: list[StepReport] = []
    mean_loss: float | None = None
    for step in range(done, config.steps):
        started = time.perf_counter()
        _set_trainable(encoder, config, step)
        rate = config.learning_rate * warmup_cosine(
            step, total=config.steps, warmup_ratio=config.warmup_ratio
        )
        optimizer.param_groups[0]["lr"] = rate
        batch, ratio = batch_at(step), config.ratio_at(step)
        optimizer.zero_grad(set_to_none=True)
        losses = accumulate_gradients(
            encoder,
            batch,
            config.objective,
            ratio=ratio,
            threshold=config.threshold,
            token_budget=config.token_budget,
            seed=config.seed + step,
            processes=processes,
            dtype=DTYPES[config.dtype],
        )
        norm = float(torch.nn.utils.clip_grad_norm_(encoder.parameters(), config.clip or math.inf))
        total = losses["total"]
        healthy = math.isfinite(total) and math.isfinite(norm)
        if not healthy or (mean_loss is not None and total > config.diverged * mean_loss):
            raise _stopped(folder, step, losses, norm, batch)
        mean_loss = total if mean_loss is None else 0.98 * mean_loss + 0.02 * total
        optimizer.step()
        tokens = sum(len(row) for row in batch.rows)
        report = StepReport(
            step=step,
            losses=losses,
            ratio=ratio,
            learning_rate=rate,
            tokens=tokens,
            seconds=time.perf_counter() - started,
        )
        reports.append(report)
        if processes.rank == 0:
            _log(folder, report)
            if (step + 1) % config.save_every == 0 or step + 1 == config.steps:
                save_state(folder, step + 1, encoder, optimizer, settings, keep=config.keep)
            if on_step is not None:
                on_step(report)
    encoder.eval()
    return reports


def _settings_hash(config: StageConfig, data_identity: str) -> str:
    described = json.dumps([asdict(config), data_identity], sort_keys=True)
    return hashlib.sha256(described.encode()).hexdigest()[:16]


def _set_trainable(encoder: Encoder, config: StageConfig, step: int) -> None:
    patterns = [*config.trainable, *(pattern for at, pattern in config.unfreeze if step >= at)]
    found = False
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad_(not patterns or any(re.search(pattern, name) for pattern in patterns))
        found = found or parameter.requires_grad
    if not found:
        raise ConfigError(f"{config.name}.trainable {patterns} matches no parameter of the model")


def _log(folder: Path, report: StepReport) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "metrics.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps(asdict(report)) + "\n")


def _stopped(
    folder: Path, step: int, losses: dict[str, float], norm: float, batch: StepBatch
) -> TrainingError:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"stopped-at-step-{step}.json"
    content: dict[str, Any] = {"step": step, "losses": losses, "gradient_norm": norm, "ids": list(batch.ids)}
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")
    return TrainingError(
        f"stopped at step {step}: loss {losses['total']}, gradient norm {norm}; the batch's ids are in "
        f"{path}. Saved states are kept: lower learning_rate, look at those texts, or set clip"
    )
