"""What a run would cost, before it runs: steps, tokens, arithmetic, memory, time; and what is missing."""

import random
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch

from jaspertc.checkpoint.layouts import read_info
from jaspertc.checkpoint.load import resolve
from jaspertc.config import BackboneConfig, HeadConfig, ModelConfig
from jaspertc.errors import JasperError
from jaspertc.model.backbones import backbone_class
from jaspertc.model.compressors import start_config
from jaspertc.model.cost import encoder_flops
from jaspertc.model.lengths import target_lengths
from jaspertc.model.shapes import known_shape
from jaspertc.recipe.recipe import Recipe
from jaspertc.recipe.stages import StageConfig
from jaspertc.reports.numbers import count, duration
from jaspertc.text.packing import IntArray
from jaspertc.train.run import training_sections

EFFICIENCY = 0.4  # share of the measured matrix-product speed that a training step reaches
DRAWS = 2000


@dataclass(frozen=True, kw_only=True)
class PlanRow:
    """A stage: optimiser steps, texts a step, tokens before and after compression, FLOPs, hours, memory,
    parameters."""

    name: str
    steps: int
    texts: int
    tokens: float
    compressed: float
    flops: float
    hours: float
    gib: float
    weights: float


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All stages; ``notes`` say what was assumed, ``problems`` what stands in the way of the run."""

    rows: list[PlanRow]
    notes: list[str]
    problems: list[str]


def plan(
    recipe: Recipe,
    *,
    flops_per_second: float | None = None,
    efficiency: float = EFFICIENCY,
    texts: int | None = None,
    tokens: int | None = None,
    devices: int = 1,
) -> Plan:
    """Work out what a recipe would cost, without training or reading vectors.

    Args:
        flops_per_second: of matrix products, all devices together; measured here, on one, if left out.
        efficiency: share of it that a training step reaches.
        texts: how many; as [training] says if left out.
        tokens: their mean length; likewise.
        devices: processes that share a step, each with a device.

    Raises:
        ConfigError: the recipe has no student, training or stages.
    """
    student, training = training_sections(recipe)
    problems = _missing_files(recipe)
    speed = flops_per_second or measured_speed()
    where = "here" if flops_per_second is None else f"on {devices} devices"
    notes = [
        f"matrix products {where}: {speed / 1e9:,.0f} GFLOP/s; assumed for training: {efficiency:.0%} of it"
    ]
    given = texts is not None or tokens is not None
    texts, length = texts or training.expected_texts, tokens or training.expected_tokens or 100
    if recipe.pictures_only:
        texts = 0
    elif texts is None:
        texts = 0
        problems.append("[training] expected_texts is missing; the plan needs it")
    else:
        said = "as asked for" if given else "as [training] says"
        notes.append(f"{texts:,} texts of {length} tokens on average, {said}")
    try:
        config = read_info(resolve(student.model)).config
    except JasperError as error:
        problems.append(f"[student] model: {error}")
        shape = known_shape(student.model)
        if shape is None:
            return Plan(rows=[], notes=notes, problems=problems)
        config = ModelConfig(backbone=shape, head=HeadConfig(dims=shape.hidden_size))
        notes.append("the student's shape is the published one, since its folder is not there")
    sharers = devices if training.sharding == "full" else 1
    rows = [
        _row(stage, stage_config, texts, length, student.layers, speed * efficiency, devices, sharers)
        for stage, stage_config in zip(recipe.text_stages, _stage_configs(recipe.text_stages, config))
    ]
    notes += [f"stage {stage.name} trains on pictures, and is not counted" for stage in recipe.vision_stages]
    total = sum(row.hours for row in rows)
    flops = sum(row.flops for row in rows)
    notes.append(f"all stages: {count(flops, ' FLOP')}, {duration(total)} {where}")
    return Plan(rows=rows, notes=notes, problems=problems)


def measured_speed(seconds: float = 0.5, dtype: torch.dtype = torch.bfloat16) -> float:
    """FLOP/s of matrix products of a type on this machine's first device."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    x = torch.randn(2048, 1024, dtype=dtype, device=device)
    w = torch.randn(1024, 1024, dtype=dtype, device=device)
    (x @ w).sum().item()
    count, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        (x @ w).sum().item()
        count += 1
    return count * 2 * x.shape[0] * w.shape[0] * w.shape[1] / (time.perf_counter() - started)


def _missing_files(recipe: Recipe) -> list[str]:
    paths: list[Path] = [file.path for file in recipe.texts.all_files]
    if recipe.validation is not None:
        paths += [item.path for item in recipe.validation.sts]
        paths += [item.path for item in recipe.validation.retrieval]
        paths += [item.corpus for item in recipe.validation.retrieval if item.corpus is not None]
    if recipe.mining is not None and any(stage.negatives for stage in recipe.stages):
        paths.append(recipe.mining.output)
    for stage in recipe.vision_stages:
        paths += [*stage.pictures, *stage.validation, *([stage.encoder] if stage.encoder else [])]
    paths += [
        recipe.cache.folder / teacher.folder_of(role) for teacher in recipe.teachers for role in recipe.roles
    ]
    return [f"{path} is missing" for path in dict.fromkeys(paths) if not path.exists()]


def _stage_configs(stages: Sequence[StageConfig], config: ModelConfig) -> Iterator[ModelConfig]:
    """The model as each stage trains it: with the compressor that it, or one before it, asks for."""
    width = config.backbone.hidden_size
    for stage in stages:
        if stage.compressor is not None:
            new = start_config(stage.compressor, stage.compressor_keys, width=width, before=config.compressor)
            config = replace(config, compressor=new)
        yield config


def _row(
    stage: StageConfig,
    config: ModelConfig,
    texts: int,
    length: int,
    layers: int | None,
    speed: float,
    devices: int,
    sharers: int,
) -> PlanRow:
    per_step = stage.batch_size * (2 + stage.negatives if stage.objective.needs_pairs else 1)
    steps = stage.steps or max(1, round((stage.epochs or 0) * texts / per_step))
    lengths = typical_lengths(length)
    sample = stage.ratio_sampler()
    rng = random.Random(0)
    ratios = [sample(rng) for _ in range(16)]
    compressed = np.concatenate(
        [
            target_lengths(lengths, ratio=ratio, threshold=stage.threshold, max_compressed=None)
            for ratio in ratios
        ]
    )
    share = layers / config.backbone.num_layers if layers else 1.0
    sizes = list(zip(np.tile(lengths, len(ratios)).tolist(), compressed.tolist()))[::16]
    forward = share * float(np.mean([encoder_flops(config, tokens, left) for tokens, left in sizes]))
    passes = 3 + stage.checkpointing + (per_step * compressed.mean() > stage.graph_tokens)
    flops = forward * passes * per_step * steps
    return PlanRow(
        name=stage.name,
        steps=steps,
        texts=per_step,
        tokens=float(lengths.mean()) * per_step * steps,
        compressed=float(compressed.mean()) * per_step * steps,
        flops=flops,
        hours=flops / speed / 3600,
        gib=_gib(config, stage, share, per_step * float(compressed.mean()) / devices, sharers),
        weights=weights_of(config.backbone, share),
    )


def typical_lengths(mean: int) -> IntArray:
    """Lengths of texts as they usually fall, in tokens: lognormal, half of them within a factor of two."""
    drawn = np.random.default_rng(0).lognormal(0.0, 0.75, DRAWS)
    lengths: IntArray = np.maximum(3, mean * drawn / drawn.mean()).astype(np.int64)
    return lengths


def _gib(config: ModelConfig, stage: StageConfig, share: float, tokens: float, sharers: int) -> float:
    """Weights, gradients and two moments in float32, and what the backward pass keeps.

    Of what several processes share, each gathers the table and its gradient for a backward pass.
    """
    backbone = config.backbone
    width = backbone.hidden_size
    weights = weights_of(backbone, share)
    kept = min(tokens, max(stage.graph_tokens, stage.token_budget))
    bytes_each = 4 if stage.dtype == "float32" else 2
    per_token = backbone_class(backbone.kind).layer_values(backbone)
    layers = 1 if stage.checkpointing else share * backbone.num_layers
    activations = kept * bytes_each * (per_token * layers + width * share * backbone.num_layers)
    gathered = 8 * backbone.vocab_size * width if sharers > 1 else 0
    return (16 * weights / sharers + gathered + activations) / 2**30


def weights_of(backbone: BackboneConfig, share: float = 1.0) -> float:
    """Parameters of the table and of this share of the layers, norms left out."""
    layer = backbone_class(backbone.kind).layer_weights(backbone)
    return backbone.vocab_size * backbone.hidden_size + share * backbone.num_layers * layer
