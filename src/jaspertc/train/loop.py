"""One loop for every stage: step, save, resume.

A step's texts, ratio and learning rate follow from the step's number alone, so a resumed run needs
nothing but weights, optimiser state and that number, and ends where an unbroken one does.
"""

import json
import math
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from torch import nn

from jaspertc.errors import ConfigError, TrainingError
from jaspertc.files.aside import writing
from jaspertc.files.json_lines import read_log
from jaspertc.files.lines import json_line, lines_aside
from jaspertc.files.made_of import made_of
from jaspertc.model.encoder import Encoder
from jaspertc.recipe.stages import StageConfig, TextStage
from jaspertc.schedules import warmup_cosine
from jaspertc.train.saving import KEPT, load_state, save_state, saved_states
from jaspertc.train.sharding import shard, whole, whole_encoder
from jaspertc.train.step import Alone, Batch, Processes, StepBatch, accumulate_gradients

METRICS = "metrics.jsonl"
B = TypeVar("B", bound=Batch)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


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
    config: TextStage,
    batch_at: Callable[[int], StepBatch],
    folder: Path,
    *,
    record: Mapping[str, Any] | None = None,
    processes: Processes | None = None,
    sharded: bool = False,
    on_step: Callable[[StepReport], None] | None = None,
    validate: Callable[[Encoder, int], None] | None = None,
) -> list[StepReport]:
    """Train ``encoder`` in place, resuming from ``folder`` if it holds a state.

    Args:
        batch_at: the texts of a step (from 0); must depend on the step's number alone.
        folder: where states and ``metrics.jsonl`` go.
        record: what the result is made of (see ``files.made_of``); a state with another one is refused.
            Left out, the stage's settings.
        sharded: share weights, gradients and moments out over the processes. ``encoder`` stays so:
            ``sharding.whole_encoder`` puts it together.
        on_step: called after every step, on the first process.
        validate: called there every ``config.validate_every`` steps but the last, with the whole encoder and
            the number of steps done.

    Returns:
        The reports of the steps done in this call.

    Raises:
        TrainingError: the loss is not finite or diverges (the batch's ids are written beside the states),
            or a saved state does not fit.
    """
    processes = processes or Alone()
    encoder.train()
    encoder.backbone.checkpointing = config.checkpointing
    if processes.count > 1:
        _same_start(encoder, processes)
        if sharded:
            shard(encoder)

    def gradients(batch: StepBatch, step: int) -> dict[str, float]:
        return accumulate_gradients(
            encoder,
            batch,
            config.objective,
            ratio=config.ratio_at(step),
            threshold=config.threshold,
            token_budget=config.token_budget,
            graph_tokens=config.graph_tokens,
            seed=config.seed + step,
            processes=processes,
            gather=config.gather,
            dtype=DTYPES[config.dtype],
        )

    def validate_whole(done: int) -> None:
        complete = whole_encoder(encoder, keep=processes.rank == 0)
        if validate is not None and complete is not None and processes.rank == 0:
            validate(complete, done)

    reports = run_steps(
        encoder,
        config,
        batch_at,
        gradients,
        folder,
        record=record,
        write=processes.rank == 0,
        on_step=on_step,
        validate=None if validate is None else validate_whole,
    )
    encoder.eval()
    encoder.backbone.checkpointing = False
    return reports


def run_steps(
    model: nn.Module,
    config: StageConfig,
    batch_at: Callable[[int], B],
    gradients: Callable[[B, int], dict[str, float]],
    folder: Path,
    *,
    record: Mapping[str, Any] | None = None,
    write: bool = True,
    on_step: Callable[[StepReport], None] | None = None,
    validate: Callable[[int], None] | None = None,
) -> list[StepReport]:
    """The steps of a stage of any kind; see ``run_stage``.

    Args:
        gradients: adds a batch's gradients to the model's parameters, and returns its losses.
        write: whether this process writes states and logs.
        validate: called after so many steps.
    """
    if config.steps is None:
        raise ConfigError(f"{config.name}.steps is missing; work it out from epochs first")
    settings = made_of(config.settings()) if record is None else record
    # On a CPU in one pass: else temporaries of the largest matrix come on top, twice.
    fused = all(parameter.device.type == "cpu" for parameter in model.parameters())
    optimizer = torch.optim.Adam(model.parameters(), lr=config.learning_rate, fused=fused or None)
    states = saved_states(folder)
    done = load_state(states[-1], model, optimizer, settings) if states else 0
    if write:
        _forget_after(folder / METRICS, done)
    reports: list[StepReport] = []
    mean_loss: float | None = None
    for step in range(done, config.steps):
        started = time.perf_counter()
        _set_trainable(model, config, step)
        rate = config.learning_rate * warmup_cosine(
            step, total=config.steps, warmup_ratio=config.warmup_ratio
        )
        optimizer.param_groups[0]["lr"] = rate
        batch = batch_at(step)
        optimizer.zero_grad(set_to_none=True)
        losses = gradients(batch, step)
        norm = float(whole(torch.nn.utils.clip_grad_norm_(model.parameters(), config.clip or math.inf)))
        total = losses["total"]
        healthy = math.isfinite(total) and math.isfinite(norm)
        if not healthy or (mean_loss is not None and total > config.diverged * mean_loss):
            raise _stopped(folder, step, losses, norm, batch)
        mean_loss = total if mean_loss is None else 0.98 * mean_loss + 0.02 * total
        optimizer.step()
        report = StepReport(
            step=step,
            losses=losses,
            ratio=config.ratio_at(step),
            learning_rate=rate,
            tokens=batch.tokens,
            seconds=time.perf_counter() - started,
        )
        reports.append(report)
        if write:
            _log(folder, report)
        if (step + 1) % config.save_every == 0 or step + 1 == config.steps:
            save_state(folder, step + 1, model, optimizer, settings, keep=config.keep, write=write)
        if write and on_step is not None:
            on_step(report)
        if validate is not None and _is_due(step + 1, config):
            validate(step + 1)
    optimizer.zero_grad(set_to_none=True)  # whoever holds the model does not hold its gradients
    return reports


def _is_due(done: int, config: StageConfig) -> bool:
    """Whether to validate after so many steps; after the last one, the caller does."""
    every = config.validate_every
    return every > 0 and done % every == 0 and done < (config.steps or 0)


def _same_start(encoder: Encoder, processes: Processes) -> None:
    """Give every process the weights of the first."""
    with torch.no_grad():
        for parameter in encoder.parameters():
            if processes.rank:
                parameter.zero_()
            processes.add([parameter.data])


def _forget_after(path: Path, done: int) -> None:
    """Drop what was logged after the state that the run goes on from."""
    if path.exists():
        rows = [row for row in read_log(path) if row["step"] < done]
        with lines_aside(path) as file:
            file.writelines(map(json_line, rows))


def _set_trainable(encoder: nn.Module, config: StageConfig, step: int) -> None:
    patterns = [*config.trainable, *(later.parameters for later in config.unfreeze if step >= later.step)]
    any_trained = False
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad_(not patterns or any(re.search(pattern, name) for pattern in patterns))
        any_trained = any_trained or parameter.requires_grad
    if not any_trained:
        raise ConfigError(f"{config.name}.trainable {patterns} matches no parameter of the model")


def _log(folder: Path, report: StepReport) -> None:
    with writing(folder / METRICS, KEPT, TrainingError):
        folder.mkdir(parents=True, exist_ok=True)
        with (folder / METRICS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(asdict(report)) + "\n")


def _stopped(folder: Path, step: int, losses: dict[str, float], norm: float, batch: Batch) -> TrainingError:
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"stopped-at-step-{step}.json"
    content: dict[str, Any] = {"step": step, "losses": losses, "gradient_norm": norm, "ids": list(batch.ids)}
    path.write_text(json.dumps(content, ensure_ascii=False, indent=1), encoding="utf-8")
    return TrainingError(
        f"stopped at step {step}: loss {losses['total']}, gradient norm {norm}; the batch's ids are in "
        f"{path}. Saved states are kept: lower learning_rate, look at those texts, or set clip"
    )
