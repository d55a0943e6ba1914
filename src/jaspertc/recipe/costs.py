"""Tokens, FLOPs, memory, hours and storage of teaching and distilling at any number of texts.

The FLOPs are ``model.cost``'s; hours divide them by what ``devices.py`` says a device reaches.
"""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from jaspertc.checkpoint.layouts import read_info
from jaspertc.checkpoint.load import BUILT_IN
from jaspertc.config import DEFAULT_THRESHOLD, BackboneConfig, CompressorConfig, HeadConfig, ModelConfig
from jaspertc.errors import InputError, JasperError
from jaspertc.model.compressors import compressor_class
from jaspertc.model.cost import encoder_flops, text_flops
from jaspertc.model.lengths import target_lengths
from jaspertc.model.shapes import known_shape
from jaspertc.recipe.devices import HERE, HERE_EMBEDDING, HERE_TRAINING, Device, find_device
from jaspertc.recipe.recipe import Recipe, TeacherRecipe
from jaspertc.train import plan as training_plan
from jaspertc.train.plan import measured_speed, typical_lengths, weights_of

KEY_BYTES = 24  # of a text in a teacher's cache, beside its vector
ID_BYTES = 24  # its id there, as JSON; depends on the ids
TOKEN_BYTES = 4
STATE_BYTES = 12  # of a weight in a saved state: itself and Adam's two moments
BATCH_TOKENS = 32768
PLAIN_LENGTH = 100


@dataclass(frozen=True, kw_only=True)
class Cost:
    """A step on the way: tokens before and after compression, FLOPs, hours, GiB a GPU, GB on disk."""

    name: str
    tokens: float
    compressed: float
    flops: float
    hours: float
    gib: float
    gigabytes: float


@dataclass(frozen=True, kw_only=True)
class Costs:
    """All steps for one number of texts; ``notes`` say what was assumed."""

    texts: int
    teach: list[Cost]
    distil: list[Cost]
    notes: list[str] = field(default_factory=list)

    @property
    def hours(self) -> float:
        """Of all steps one after another."""
        return sum(cost.hours for cost in (*self.teach, *self.distil))


def plan_costs(
    recipe: Recipe,
    *,
    gpus: int = 1,
    kind: str = HERE,
    texts: int | None = None,
    tokens: int | None = None,
    flops_per_second: float | None = None,
) -> Costs:
    """What a recipe costs on so many devices of a kind.

    Args:
        gpus: how many, >= 1.
        kind: a name of ``DEVICES``, or ``here`` for this machine, which is measured.
        texts: how many, >= 1; as [training] expected_texts says if left out.
        tokens: their mean length, >= 1; likewise.
        flops_per_second: of one device's matrix products; the kind's if left out.

    Raises:
        InputError: a number is out of range, the kind unknown, or the number of texts not said.
    """
    for name, value in (("--gpus", gpus), ("--texts", texts), ("--tokens", tokens)):
        if value is not None and value < 1:
            raise InputError(f"{name} is {value}, it must be >= 1")
    device = find_device(kind)
    training = recipe.training
    texts = texts or (training.expected_texts if training else None)
    length = tokens or (training.expected_tokens if training else None) or PLAIN_LENGTH
    if texts is None:
        raise InputError("the recipe does not say how many texts there are; give --texts")
    peak = flops_per_second or (device.peak if device else measured_speed())
    embedding = device.embedding if device else HERE_EMBEDDING
    share = device.training if device else HERE_TRAINING
    notes = [
        f"{texts:,} texts of {length} tokens on average",
        f"{gpus} x {kind}: {peak / 1e12:.3g} TFLOP/s each; embedding reaches {embedding:.0%} of it, "
        f"training {share:.0%}",
        device.source if device else "measured here: bfloat16 matrix products, one after another",
    ]
    found = [_teaching(teacher, texts, length, peak * embedding * gpus, notes) for teacher in recipe.teachers]
    teach = [cost for cost in found if cost is not None]
    distil: list[Cost] = []
    if recipe.student is not None and training is not None and recipe.stages:
        made = training_plan.plan(
            recipe,
            flops_per_second=peak * gpus,
            efficiency=share,
            texts=texts,
            tokens=length,
            devices=gpus,
        )
        notes += [note for note in made.notes if "shape" in note]
        distil = _distilling(recipe, made.rows, texts * length)
        if not made.rows:
            notes += [problem for problem in made.problems if problem.startswith("[student]")]
    notes += _too_large(device, [*teach, *distil])
    return Costs(texts=texts, teach=teach, distil=distil, notes=notes)


def embedding_hours(
    backbone: BackboneConfig,
    device: Device,
    *,
    texts: int,
    tokens: int,
    ratio: float,
    threshold: int = DEFAULT_THRESHOLD,
) -> float:
    """Hours of one device to embed a corpus.

    Args:
        texts: how many.
        tokens: their mean length, before compression.
        ratio: compression ratio in (0, 1] of the tokens above ``threshold``.
    """
    lengths = typical_lengths(tokens)
    compressed = target_lengths(lengths, ratio=ratio, threshold=threshold, max_compressed=None)
    per_text = float(np.mean([text_flops(backbone, int(count)) for count in compressed]))
    return texts * per_text / (device.peak * device.embedding) / 3600


def _teaching(teacher: TeacherRecipe, texts: int, length: int, speed: float, notes: list[str]) -> Cost | None:
    config = _shape_of(teacher)
    if config is None:
        notes.append(f"teacher {teacher.name}: its shape is not known here; left out")
        return None
    lengths = typical_lengths(length)
    most = getattr(teacher, "max_length", None)
    seen = np.minimum(lengths, most) if most else lengths
    compressed = seen
    if compressor_class(config.compressor.kind).can_compress:
        ratio = getattr(teacher, "ratio", None) or config.compressor.ratio
        compressed = target_lengths(
            seen, ratio=ratio, threshold=config.compressor.threshold, max_compressed=None
        )
    compressed = np.minimum(compressed, config.backbone.max_positions)
    sizes = zip(seen.tolist(), compressed.tolist())
    per_text = float(np.mean([encoder_flops(config, tokens, left) for tokens, left in sizes]))
    dims = teacher.dims or config.embedding_dims
    backbone = config.backbone
    kept = 2.0 * BATCH_TOKENS * (6 * backbone.hidden_size + 3 * backbone.intermediate_size)
    return Cost(
        name=f"teach {teacher.name}",
        tokens=texts * float(seen.mean()),
        compressed=texts * float(compressed.mean()),
        flops=texts * per_text,
        hours=texts * per_text / speed / 3600,
        gib=(2 * weights_of(backbone) + kept) / 2**30,
        gigabytes=texts * (2 * dims + KEY_BYTES + ID_BYTES) / 1e9,
    )


def _shape_of(teacher: TeacherRecipe) -> ModelConfig | None:
    """Of a folder that is there, or of a published model; nothing is fetched."""
    name = str(getattr(teacher, "model", ""))
    folder = BUILT_IN.get(name, Path(name))
    if name and folder.is_dir():
        try:
            return read_info(folder).config
        except JasperError:
            return None
    backbone = known_shape(name)
    if backbone is None:
        return None
    return ModelConfig(
        backbone=backbone, compressor=CompressorConfig(), head=HeadConfig(dims=backbone.hidden_size)
    )


def _distilling(recipe: Recipe, rows: list[training_plan.PlanRow], tokens: float) -> list[Cost]:
    """The stages; the first one's storage has the student's token ids, each has its saved states."""
    costs = []
    for index, (row, stage) in enumerate(zip(rows, recipe.stages)):
        states = stage.keep * STATE_BYTES * row.weights
        costs.append(
            Cost(
                name=f"distil {row.name}",
                tokens=row.tokens,
                compressed=row.compressed,
                flops=row.flops,
                hours=row.hours,
                gib=row.gib,
                gigabytes=(states + (TOKEN_BYTES * tokens if index == 0 else 0)) / 1e9,
            )
        )
    return costs


def _too_large(device: Device | None, costs: list[Cost]) -> list[str]:
    if device is None:
        return []
    return [
        f"{cost.name}: {cost.gib:.0f} GiB do not fit the {device.gib:g} GiB of one {device.name}; lower "
        "batch_tokens or graph_tokens, or set checkpointing"
        for cost in costs
        if cost.gib > device.gib
    ]
