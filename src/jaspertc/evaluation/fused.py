"""The fused target of a recipe as a contender: what its student is trained towards."""

import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from jaspertc.errors import ConfigError
from jaspertc.evaluation.memory import Encode, encode_afresh
from jaspertc.recipe.recipe import TeacherRecipe, read_recipe
from jaspertc.teachers.fusion import fuse

FloatArray = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class FusedPeer(TeacherRecipe):
    """The teachers of a recipe, fused as it says; its cached vectors are what reducers are fitted on."""

    recipe: Path


class FusedTarget:
    """Embeds with all teachers of a recipe.

    Attributes:
        prompts: prompts by role, those of the first teacher that has several.
        dims: width of the target.
        revision: changes when its vectors would.

    Raises:
        ConfigError: two roles have the same prompt, so that a prompt does not tell the role.
        CacheError: the recipe's texts have no vectors yet.
    """

    def __init__(self, path: Path) -> None:
        from jaspertc.teachers.adapters import load_teacher
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
        facts = json.dumps([identities, repr(recipe.teachers), repr(recipe.fusion)], sort_keys=True)
        self.revision = hashlib.sha256(facts.encode()).hexdigest()[:16]

    def embed(self, texts: Sequence[str], prompt: str, encode: Encode = encode_afresh) -> FloatArray:
        """Unit targets, shape (N, E)."""
        role = self._role_of.get(prompt, next(iter(self.prompts)))
        sides = [
            encode(teacher, texts, recipe.prompt_of(role))
            for teacher, recipe in zip(self._teachers, self._recipes)
        ]
        return fuse(self.parts, sides)
