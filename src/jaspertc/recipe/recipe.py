"""A run as one TOML file, read into frozen dataclasses: unknown keys, wrong types and ranges are errors.

A new section is a dataclass whose annotations say what a key may be, and a field of ``Recipe`` that holds it.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaspertc.config import Count
from jaspertc.errors import ConfigError
from jaspertc.recipe.reader import Reader
from jaspertc.recipe.stages import StageConfig, TextStage, with_compressor_keys
from jaspertc.recipe.student import Mining, Student, Training
from jaspertc.recipe.texts import Texts, Validation, require_distinct
from jaspertc.recipe.vision import VisionStage
from jaspertc.teachers import TeacherConfig, teacher_kinds

STAGE_KINDS: dict[str, type[StageConfig]] = {kind.kind: kind for kind in (TextStage, VisionStage)}


@dataclass(frozen=True, kw_only=True)
class Cache:
    """Where vectors are kept, in shards of so many rows; a killed run loses at most one shard."""

    folder: Path
    shard_rows: Count = 8192


@dataclass(frozen=True, kw_only=True)
class FusionRecipe:
    """How many texts' vectors the reducers are fitted on."""

    fit_texts: Count = 4096


@dataclass(frozen=True, kw_only=True)
class Recipe:
    """A whole recipe. Paths in it are relative to its file."""

    texts: Texts
    teachers: tuple[TeacherConfig, ...]
    cache: Cache
    fusion: FusionRecipe = field(default_factory=FusionRecipe)
    validation: Validation | None = None
    mining: Mining | None = None
    student: Student | None = None
    training: Training | None = None
    stages: tuple[StageConfig, ...] = ()

    def __post_init__(self) -> None:
        require_distinct("teachers", [teacher.name for teacher in self.teachers])
        require_distinct("stages", [stage.name for stage in self.stages])
        if not self.texts.all_files and not self.pictures_only:
            raise ConfigError("[texts] names no files; add [[texts.files]] tables, each with a path")
        if self.teachers and self.training and self.training.folder.resolve() == self.cache.folder.resolve():
            raise ConfigError(
                f"[training] folder and [cache] folder are both {self.cache.folder}; give each its own"
            )
        if self.stages != (*self.text_stages, *self.vision_stages):
            raise ConfigError(
                '[[stages]] of kind "vision" come last: pictures learn from the finished text side'
            )

    @property
    def text_stages(self) -> tuple[TextStage, ...]:
        """The stages that train on texts."""
        return tuple(stage for stage in self.stages if isinstance(stage, TextStage))

    @property
    def vision_stages(self) -> tuple[VisionStage, ...]:
        """The stages that train on pictures."""
        return tuple(stage for stage in self.stages if isinstance(stage, VisionStage))

    @property
    def pictures_only(self) -> bool:
        """Whether no stage needs texts."""
        return bool(self.stages) and not self.text_stages

    @property
    def roles(self) -> tuple[str, ...]:
        """The roles of the texts, in order of appearance."""
        return tuple(dict.fromkeys(file.role for file in self.texts.all_files))


@dataclass(frozen=True, kw_only=True)
class PicturesRecipe(Recipe):
    """A recipe whose stages train on pictures only: it may do without texts, teachers and a cache."""

    texts: Texts = field(default_factory=Texts)
    teachers: tuple[TeacherConfig, ...] = ()
    cache: Cache = field(default_factory=lambda: Cache(folder=Path("vectors")))


def read_recipe(path: str | Path) -> Recipe:
    """Read and check a recipe.

    Args:
        path: a TOML file. Folders and files in it are relative to its own folder.

    Raises:
        ConfigError: the file cannot be read, or a key is unknown, missing, of the wrong type or out of
            range; the message names file, table, key, value and what is allowed.
    """
    path = Path(path)
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8-sig"))
    except FileNotFoundError:
        raise ConfigError(f"there is no recipe {path}; give a TOML file, such as one of recipes/") from None
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as TOML: {error}") from error
    return recipe_of(content, path)


def recipe_of(tables: Mapping[str, Any], path: Path) -> Recipe:
    """The recipe in the tables of a TOML file; raises ConfigError as ``read_recipe`` does."""
    stages = tables.get("stages")
    cls: type[Recipe] = Recipe
    if isinstance(stages, list):
        tables = {**tables, "stages": [with_compressor_keys(stage) for stage in stages]}
        kinds = [stage.get("kind", TextStage.kind) for stage in stages if isinstance(stage, dict)]
        if kinds and TextStage.kind not in kinds:
            cls = PicturesRecipe
    reader = Reader(path, {TeacherConfig: teacher_kinds(), StageConfig: STAGE_KINDS})
    return reader.section(cls, tables, "")


def training_sections(recipe: Recipe) -> tuple[Student, Training]:
    """The sections that a run needs.

    Raises:
        ConfigError: one of them is missing.
    """
    if recipe.student is None or recipe.training is None or not recipe.stages:
        sections = {"[student]": recipe.student, "[training]": recipe.training, "[[stages]]": recipe.stages}
        missing = [name for name, section in sections.items() if not section]
        raise ConfigError(f"the recipe has no {' and no '.join(missing)}; add it to train a student")
    return recipe.student, recipe.training
