"""A small student, its batches and stages."""

from dataclasses import replace

import numpy as np
import torch

from jaspertc.config import BackboneConfig, HeadConfig, ModelConfig
from jaspertc.model.compressors.adaptive_average import AdaptiveAverageConfig
from jaspertc.model.encoder import Encoder
from jaspertc.recipe.objective import Objective
from jaspertc.recipe.stages import TextStage
from jaspertc.train.step import StepBatch

OBJECTIVES = {
    "stage 1": Objective(cosine=10),
    "stage 3": Objective(cosine=10, similarity=100),
    "stage 4": Objective(contrastive=1, soft=16, cosine=10),
    "predecessor": Objective(cosine=10, similarity=200, relative=20),
}


def student(seed: int = 0) -> Encoder:
    torch.manual_seed(seed)
    shape = BackboneConfig(
        kind="bert",
        vocab_size=60,
        hidden_size=16,
        num_layers=2,
        num_heads=2,
        num_kv_heads=2,
        head_dim=8,
        intermediate_size=32,
        norm_eps=1e-12,
        max_positions=128,
        causal=False,
    )
    compressor = AdaptiveAverageConfig(mlp="swiglu", mlp_size=24)
    return Encoder(ModelConfig(backbone=shape, compressor=compressor, head=HeadConfig(dims=12)))


def batch_at(step: int, queries: int = 4, negatives: int = 2) -> StepBatch:
    rng = np.random.default_rng(step)
    count = queries * (2 + negatives)
    rows = [rng.integers(0, 60, rng.integers(3, 40)) for _ in range(count)]
    teacher = rng.normal(size=(count, 12)).astype(np.float32)
    teacher /= np.linalg.norm(teacher, axis=1, keepdims=True)
    ids = [f"t{step}-{i}" for i in range(count)]
    return StepBatch(rows=rows, teacher=teacher, ids=ids, queries=queries, negatives=negatives)


def exact(batch: StepBatch) -> StepBatch:
    """In float64, so that only the arithmetic's order is left to differ."""
    return replace(batch, teacher=batch.teacher.astype(np.float64))


def stage(**changes: object) -> TextStage:
    values = {
        "name": "stage-3",
        "steps": 12,
        "learning_rate": 3e-3,
        "objective": OBJECTIVES["stage 3"],
        "ratio": "algorithm-2",
        "threshold": 10,
        "token_budget": 100,
        "save_every": 4,
    }
    return TextStage(**(values | changes))  # type: ignore[arg-type]
