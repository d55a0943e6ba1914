"""What a recipe would take: tokens, FLOPs, memory, hours and storage of each step; and what is missing."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from jaspertc.checkpoint.layouts import read_info
from jaspertc.checkpoint.load import BUILT_IN, resolve
from jaspertc.config import CompressorConfig, HeadConfig, ModelConfig
from jaspertc.errors import InputError, JasperError
from jaspertc.model.shapes import known_shape
from jaspertc.recipe.costs import Cost, stage_cost, stage_models, teaching_cost
from jaspertc.recipe.devices import (
    HERE,
    HERE_EMBEDDING,
    HERE_TRAINING,
    Device,
    find_device,
    measured_dtype,
    measured_speed,
)
from jaspertc.recipe.recipe import Recipe
from jaspertc.recipe.student import Student
from jaspertc.teachers import TeacherConfig

PLAIN_LENGTH = 100


@dataclass(frozen=True, kw_only=True)
class Plan:
    """All steps for one number of texts.

    Attributes:
        notes: what was assumed.
        problems: what stands in the way of training.
    """

    texts: int
    teach: list[Cost]
    distil: list[Cost]
    notes: list[str]
    problems: list[str] = field(default_factory=list)

    @property
    def hours(self) -> float:
        """Of all steps one after another."""
        return sum(cost.hours for cost in (*self.teach, *self.distil))


def plan(
    recipe: Recipe,
    *,
    gpus: int = 1,
    kind: str = HERE,
    texts: int | None = None,
    tokens: int | None = None,
    flops_per_second: float | None = None,
) -> Plan:
    """What a recipe takes on so many devices of a kind; nothing is computed or fetched.

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
    if texts is None and recipe.pictures_only:
        texts = 0
    if texts is None:
        raise InputError(
            "the recipe does not say how many texts there are; set [training] expected_texts, or give --texts"
        )
    peak = flops_per_second or (device.peak if device else measured_speed())
    embedding = device.embedding if device else HERE_EMBEDDING
    share = device.training if device else HERE_TRAINING
    dtype = str(measured_dtype()).removeprefix("torch.")
    notes = [
        f"{texts:,} texts of {length} tokens on average",
        f"{gpus} x {kind}: {peak / 1e9:,.0f} GFLOP/s each; embedding reaches {embedding:.0%} of it, "
        f"training {share:.0%}",
        device.source if device else f"measured here: {dtype} matrix products, one after another",
    ]
    teach = []
    for teacher in recipe.teachers:
        config, piece_length = _teacher_shape(teacher)
        if config is None:
            notes.append(f"teacher {teacher.name}: its shape is not known here; left out")
        else:
            speed = peak * embedding * gpus
            teach.append(teaching_cost(teacher, config, texts, length, speed, piece_length))
    problems = list(_missing_files(recipe))
    distil: list[Cost] = []
    if recipe.student is not None and training is not None:
        config = _student_shape(recipe.student, notes, problems)
        stages = recipe.text_stages
        sharers = gpus if training.sharding == "full" else 1
        for stage, model in zip(stages, stage_models(stages, config) if config else ()):
            speed = peak * gpus * share
            layers = recipe.student.layers
            distil.append(stage_cost(stage, model, texts, length, layers, speed, gpus, sharers, not distil))
    notes += [f"stage {stage.name} trains on pictures, and is not counted" for stage in recipe.vision_stages]
    notes += _too_large(device, [*teach, *distil])
    return Plan(texts=texts, teach=teach, distil=distil, notes=notes, problems=problems)


def _teacher_shape(teacher: TeacherConfig) -> tuple[ModelConfig | None, int | None]:
    """Shape and tokens of a piece, of a folder that is there or a published model; nothing is fetched."""
    name = str(getattr(teacher, "model", ""))
    folder = BUILT_IN.get(name, Path(name))
    if name and folder.is_dir():
        try:
            info = read_info(folder)
        except JasperError:
            return None, None
        return info.config, info.piece_length
    backbone = known_shape(name)
    if backbone is None:
        return None, None
    head = HeadConfig(dims=backbone.hidden_size)
    return ModelConfig(backbone=backbone, compressor=CompressorConfig(), head=head), None


def _student_shape(student: Student, notes: list[str], problems: list[str]) -> ModelConfig | None:
    try:
        return read_info(resolve(student.model)).config
    except JasperError as error:
        problems.append(f"[student] model: {error}")
        shape = known_shape(student.model)
        if shape is None:
            notes.append(problems[-1])
            return None
        notes.append("the student's shape is the published one, since its folder is not there")
        return ModelConfig(backbone=shape, head=HeadConfig(dims=shape.hidden_size))


def _missing_files(recipe: Recipe) -> Iterator[str]:
    paths: list[Path] = [file.path for file in recipe.texts.all_files]
    if recipe.validation is not None:
        paths += [item.path for item in recipe.validation.sts]
        paths += [item.path for item in recipe.validation.retrieval]
        paths += [item.corpus for item in recipe.validation.retrieval if item.corpus is not None]
    if recipe.mining is not None and any(stage.negatives for stage in recipe.text_stages):
        paths.append(recipe.mining.output)
    for stage in recipe.vision_stages:
        paths += [*stage.pictures, *stage.validation, *([stage.encoder] if stage.encoder else [])]
    paths += [
        recipe.cache.folder / teacher.folder_of(role) for teacher in recipe.teachers for role in recipe.roles
    ]
    return (f"{path} is missing" for path in dict.fromkeys(paths) if not path.exists())


def _too_large(device: Device | None, costs: list[Cost]) -> list[str]:
    if device is None:
        return []
    return [
        f"{cost.name}: {cost.gib:.0f} GiB do not fit the {device.gib:g} GiB of one {device.name}; lower "
        "batch_tokens or graph_tokens, or set checkpointing"
        for cost in costs
        if cost.gib > device.gib
    ]
