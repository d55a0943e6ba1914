"""The fused target of a recipe as a contender, and what contenders share of teachers' vectors.

Shape legend: N texts, E width of the vectors.
"""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from jaspertc.errors import ConfigError
from jaspertc.recipe.recipe import read_recipe
from jaspertc.teachers import JaspertcTeacher, TeacherConfig
from jaspertc.teachers.fusion import fuse
from jaspertc.types import FloatArray

if TYPE_CHECKING:
    from jaspertc.engine.runtimes.base import Runtime
    from jaspertc.teachers import Teacher


class Encode(Protocol):
    """A teacher's vectors of N texts with a prompt, shape (N, E)."""

    def __call__(self, teacher: "Teacher", texts: Sequence[str], prompt: str) -> FloatArray: ...


def computed_by(*runtimes: "Runtime") -> str:
    """Names and precisions of runtimes, such as ``onnxruntime int8``."""
    return " + ".join(f"{runtime.name} {runtime.precision}" for runtime in runtimes)


def runtime_of(*teachers: "Teacher") -> str | None:
    """What computes those of the teachers that this package runs; ``None`` if it runs none of them."""
    ours = (teacher.model.runtime for teacher in teachers if isinstance(teacher, JaspertcTeacher))
    return computed_by(*ours) or None


class Memory:
    """What teachers have embedded since it was last cleared."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str, str], FloatArray] = {}

    def encode(self, teacher: "Teacher", texts: Sequence[str], prompt: str) -> FloatArray:
        """The teacher's vectors, shape (N, E); each text is embedded once."""
        name = json.dumps([teacher.identity, runtime_of(teacher)], sort_keys=True, default=str)
        keys = [(name, prompt, text) for text in texts]
        missing = [key for key in dict.fromkeys(keys) if key not in self._kept]
        if missing:
            vectors = teacher.encode([text for _, _, text in missing], prompt)
            self._kept.update(zip(missing, np.asarray(vectors, dtype=np.float32)))
        return np.stack([self._kept[key] for key in keys])

    def clear(self) -> None:
        """Forget all."""
        self._kept.clear()


@dataclass(frozen=True, kw_only=True)
class FusedPeer(TeacherConfig):
    """The teachers of a recipe, fused as it says; its cached vectors are what reducers are fitted on."""

    recipe: Path


class FusedTarget:
    """Embeds with all teachers of a recipe.

    Attributes:
        prompts: prompts by role, those of the first teacher that has several.
        dims: width of the target.
        revision: changes when its vectors would.
        runtime: as a contender's.

    Raises:
        ConfigError: two roles have the same prompt, so that a prompt does not tell the role.
        CacheError: the recipe's texts have no vectors yet.
    """

    def __init__(self, path: Path) -> None:
        from jaspertc.teachers import load_teacher
        from jaspertc.teaching.targets import Targets

        recipe = read_recipe(path)
        targets = Targets(recipe, verify=False)
        self.parts, self.dims = targets.parts, targets.dims
        self._recipes = recipe.teachers
        self._teachers = [load_teacher(teacher) for teacher in recipe.teachers]
        prompted = next((teacher for teacher in recipe.teachers if teacher.prompts), recipe.teachers[0])
        self.prompts = {role: prompted.prompt_of(role) for role in recipe.roles}
        self._role_of = {prompt: role for role, prompt in self.prompts.items()}
        if len(self._role_of) < len(self.prompts):
            raise ConfigError(f"{path}: two roles have the same prompt for teacher {prompted.name!r}")
        identities = [teacher.identity for teacher in self._teachers]
        self.runtime = runtime_of(*self._teachers)
        facts = json.dumps([identities, repr(recipe.teachers), repr(recipe.fusion)], sort_keys=True)
        self.revision = hashlib.sha256(facts.encode()).hexdigest()[:16]

    def embed(self, texts: Sequence[str], prompt: str, encode: Encode | None = None) -> FloatArray:
        """Unit targets, shape (N, E); ``encode`` gives a teacher's vectors, by default anew."""
        encode = encode or (lambda teacher, texts, prompt: teacher.encode(texts, prompt))
        role = self._role_of.get(prompt, next(iter(self.prompts)))
        sides = []
        for teacher, recipe in zip(self._teachers, self._recipes):
            vectors_of = partial(encode, teacher, prompt=recipe.prompt_of(role))
            sides.append(recipe.where_given(texts, teacher.dims, vectors_of))
        return fuse(self.parts, sides)
