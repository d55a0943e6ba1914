"""The arithmetic, memory and storage of a step on the way: of embedding with a teacher, and of a stage.

The FLOPs are ``model.cost``'s; hours divide them by what ``devices.py`` says a device reaches.
"""

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from jaspertc.config import BackboneConfig, ModelConfig
from jaspertc.model.backbones import backbone_class
from jaspertc.model.compressors import compressor_class, start_config
from jaspertc.model.cost import encoder_flops
from jaspertc.model.lengths import target_lengths
from jaspertc.recipe.stages import TextStage
from jaspertc.teachers import TeacherConfig
from jaspertc.types import IntArray

KEY_BYTES = 24  # of a text in a teacher's cache, beside its vector
ID_BYTES = 24  # its id there, as JSON; depends on the ids
TOKEN_BYTES = 4
STATE_BYTES = 12  # of a weight in a saved state: itself and Adam's two moments
BATCH_TOKENS = 32768
DRAWS = 2000


@dataclass(frozen=True, kw_only=True)
class Cost:
    """A step on the way.

    Attributes:
        tokens: before compression.
        compressed: after it.
        gib: memory of a device.
        gigabytes: on disk.
        steps: of the optimiser, in a stage.
        batch: texts of each.
        weights: parameters that are trained.
    """

    name: str
    tokens: float
    compressed: float
    flops: float
    hours: float
    gib: float
    gigabytes: float
    steps: int = 0
    batch: int = 0
    weights: float = 0.0


def teaching_cost(
    teacher: TeacherConfig,
    config: ModelConfig,
    texts: int,
    length: int,
    speed: float,
    piece_length: int | None = None,
) -> Cost:
    """Of embedding all texts.

    Args:
        config: the teacher's shape.
        length: tokens of a text on average.
        speed: FLOP/s of all devices.
        piece_length: tokens of a piece, if it reads long texts in pieces.
    """
    lengths = typical_lengths(length)
    most = getattr(teacher, "max_length", None)
    seen = np.minimum(lengths, most) if most else lengths
    compressed = seen
    if compressor_class(config.compressor.kind).can_compress:
        ratio = getattr(teacher, "ratio", None) or config.compressor.ratio
        compressed = target_lengths(
            seen, ratio=ratio, threshold=config.compressor.threshold, max_compressed=None
        )
    backbone = config.backbone
    pieces = np.ceil(seen / piece_length).astype(int) if piece_length else np.ones_like(seen)
    compressed = np.minimum(compressed, pieces * backbone.max_positions)
    sizes = zip(pieces.tolist(), (seen // pieces).tolist(), (compressed // pieces).tolist())
    per_text = float(np.mean([count * encoder_flops(config, tokens, left) for count, tokens, left in sizes]))
    activations = 2.0 * BATCH_TOKENS * (6 * backbone.hidden_size + 3 * backbone.intermediate_size)
    return Cost(
        name=f"teach {teacher.name}",
        tokens=texts * float(seen.mean()),
        compressed=texts * float(compressed.mean()),
        flops=texts * per_text,
        hours=texts * per_text / speed / 3600,
        gib=(2 * weights_of(backbone) + activations) / 2**30,
        gigabytes=texts * (2 * (teacher.dims or config.embedding_dims) + KEY_BYTES + ID_BYTES) / 1e9,
    )


def stage_models(stages: Sequence[TextStage], config: ModelConfig) -> Iterator[ModelConfig]:
    """The model as each stage trains it: with the compressor that it, or one before it, asks for."""
    width = config.backbone.hidden_size
    for stage in stages:
        if stage.compressor is not None:
            new = start_config(stage.compressor, stage.compressor_keys, width=width, before=config.compressor)
            config = replace(config, compressor=new)
        yield config


def stage_cost(
    stage: TextStage,
    config: ModelConfig,
    texts: int,
    length: int,
    layers: int | None,
    speed: float,
    devices: int,
    sharers: int,
    first: bool,
) -> Cost:
    """Of a stage, with its saved states and, if it is the first, the student's token ids.

    Args:
        config: the model's shape in this stage.
        layers: how many of its layers are kept; all if left out.
        speed: FLOP/s that training reaches on all devices.
        devices: processes that share a step.
        sharers: processes that share weights and moments.
    """
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
    weights = weights_of(config.backbone, share)
    token_bytes = TOKEN_BYTES * texts * length if first else 0
    return Cost(
        name=f"distil {stage.name}",
        steps=steps,
        batch=per_step,
        tokens=float(lengths.mean()) * per_step * steps,
        compressed=float(compressed.mean()) * per_step * steps,
        flops=flops,
        hours=flops / speed / 3600,
        gib=_gib(config, stage, share, per_step * float(compressed.mean()) / devices, sharers),
        gigabytes=(stage.keep * STATE_BYTES * weights + token_bytes) / 1e9,
        weights=weights,
    )


def typical_lengths(mean: int) -> IntArray:
    """Lengths of texts as they usually fall, in tokens: lognormal, half of them within a factor of two."""
    drawn = np.random.default_rng(0).lognormal(0.0, 0.75, DRAWS)
    lengths: IntArray = np.maximum(3, mean * drawn / drawn.mean()).astype(np.int64)
    return lengths


def weights_of(backbone: BackboneConfig, share: float = 1.0) -> float:
    """Parameters of the table and of this share of the layers, norms left out."""
    layer = backbone_class(backbone.kind).layer_weights(backbone)
    return backbone.vocab_size * backbone.hidden_size + share * backbone.num_layers * layer


def _gib(config: ModelConfig, stage: TextStage, share: float, tokens: float, sharers: int) -> float:
    """Weights, gradients and two moments in float32, and what the backward pass keeps.

    Of what several processes share, each gathers the table and its gradient for a backward pass.
    """
    backbone = config.backbone
    width = backbone.hidden_size
    weights = weights_of(backbone, share)
    most = min(tokens, max(stage.graph_tokens, stage.token_budget))
    bytes_each = 4 if stage.dtype == "float32" else 2
    per_token = backbone_class(backbone.kind).layer_values(backbone)
    layers = 1 if stage.checkpointing else share * backbone.num_layers
    activations = most * bytes_each * (per_token * layers + width * share * backbone.num_layers)
    gathered = 8 * backbone.vocab_size * width if sharers > 1 else 0
    return (16 * weights / sharers + gathered + activations) / 2**30
