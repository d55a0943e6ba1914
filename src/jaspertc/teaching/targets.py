"""The target of each text: all teachers' cached vectors, fused as the recipe says.

Shape legend: N texts, S texts that reducers are fitted on, E width of a teacher's vectors, R of the target.
"""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from jaspertc.errors import CacheError, ConfigError
from jaspertc.recipe.recipe import Recipe
from jaspertc.teachers import TeacherConfig
from jaspertc.teachers.fusion import Fusion, fuse
from jaspertc.teaching.cache import VectorCache
from jaspertc.teaching.recipe_texts import RecipeTexts, Text
from jaspertc.teaching.skipped import Skipped
from jaspertc.types import FloatArray


def check_widths(teacher: TeacherConfig, dims: int, fit_texts: int) -> int:
    """The width of a teacher's part in the target, before any vector is there.

    Args:
        dims: E.
        fit_texts: S.

    Raises:
        ConfigError: a reducer asks for more than there is; teacher and reducer are named.
    """
    width = dims
    for index, reducer in enumerate(teacher.build_reducers()):
        try:
            width = reducer.width(width, fit_texts)
        except ConfigError as error:
            raise ConfigError(f"teacher {teacher.name!r}, reducers[{index}]: {error}") from error
    return width


def require_all(cache: VectorCache, texts: RecipeTexts, role: str, skip: str = "") -> None:
    """Raise CacheError, with an id, unless a role's texts have a vector and are unchanged.

    Those in which the teacher's ``skip`` is found need none.
    """
    missing = np.flatnonzero(~cache.covers(texts.keys(role, skip)))
    if len(missing):
        first = next(islice(texts.read(role, skip), int(missing[0]), None))
        raise CacheError(
            f"{cache.folder} has no vector of text {first.id!r} ({len(missing)} texts have none); "
            "run `jaspertc teach RECIPE`, or take the text out of [texts]"
        )


def given(teacher: TeacherConfig, texts: Mapping[str, Sequence[Text]]) -> dict[str, list[Text]]:
    """The texts, by role, without those that a teacher skips."""
    return {role: [text for text in rows if not teacher.skips(text.text)] for role, rows in texts.items()}


def fit_fusion(teacher: TeacherConfig, sample: FloatArray) -> Fusion:
    """A teacher's part, fitted on S of its vectors, shape (S, E)."""
    return Fusion(teacher.build_reducers(), teacher.weight).fit(sample)


class Targets:
    """Targets of texts by id, from the caches of all teachers of a recipe.

    Reducers are fitted on the same texts each time, so that every process and run has the same targets.

    Args:
        recipe: names teachers, reducers, weights and cache.
        texts: the recipe's texts, if they were read already.
        verify: compare the checksums of all shards.

    Raises:
        CacheError: a cache is missing or damaged, or a text of the recipe has no vector there.
    """

    def __init__(self, recipe: Recipe, texts: RecipeTexts | None = None, *, verify: bool = True) -> None:
        self.recipe = recipe
        self._caches: dict[Path, VectorCache] = {}
        for teacher in recipe.teachers:
            for role in recipe.roles:
                folder = recipe.cache.folder / teacher.folder_of(role)
                if folder not in self._caches:
                    self._caches[folder] = VectorCache(folder, verify=verify)
        read = RecipeTexts(recipe) if texts is None else texts
        for teacher in recipe.teachers:
            for role in recipe.roles:
                require_all(self._cache(teacher, role), read, role, teacher.skip)
        self._skipped = {
            teacher.name: Skipped(read, recipe.texts.pairs, teacher.skip)
            for teacher in recipe.teachers
            if teacher.skip
        }
        sample = read.sample(recipe.fusion.fit_texts)
        self.parts = [
            fit_fusion(
                teacher,
                self._teacher_vectors(
                    teacher,
                    {role: [text.id for text in spoken] for role, spoken in given(teacher, sample).items()},
                ),
            )
            for teacher in recipe.teachers
        ]

    def vectors(self, ids: Sequence[str], role: str = "document") -> FloatArray:
        """Unit targets of texts of one role, in the order given: N ids -> (N, R), float32.

        Raises:
            CacheError: a text has no vector of some teacher; both are named.
            ConfigError: the role is not one of the recipe's texts.
        """
        if role not in self.recipe.roles:
            raise ConfigError(f"role is {role!r}, the texts have {', '.join(self.recipe.roles)}")
        sides = [self._teacher_vectors(teacher, {role: ids}) for teacher in self.recipe.teachers]
        return fuse(self.parts, sides)

    @property
    def identity(self) -> dict[str, Any]:
        """What they are made of, by teacher: vectors of each role, reducers, weight."""
        teachers = {
            teacher.name: {
                "vectors": {role: self._cache(teacher, role).content_identity for role in self.recipe.roles},
                "reducers": teacher.reducers,
                "weight": teacher.weight,
                **({"skip": teacher.skip} if teacher.skip else {}),
            }
            for teacher in self.recipe.teachers
        }
        return {"teachers": teachers, "fusion": asdict(self.recipe.fusion)}

    @property
    def dims(self) -> int:
        """R, the width of the targets."""
        return sum(self.widths)

    @property
    def widths(self) -> list[int]:
        """How many dimensions of the targets each teacher gives."""
        return [
            check_widths(
                teacher, self._cache(teacher, self.recipe.roles[0]).dims, self.recipe.fusion.fit_texts
            )
            for teacher in self.recipe.teachers
        ]

    def _cache(self, teacher: TeacherConfig, role: str) -> VectorCache:
        return self._caches[self.recipe.cache.folder / teacher.folder_of(role)]

    def _teacher_vectors(self, teacher: TeacherConfig, ids: Mapping[str, Sequence[str]]) -> FloatArray:
        parts = [self._vectors(teacher, role, names) for role, names in ids.items()]
        return np.concatenate(parts).astype(np.float32)

    def _vectors(self, teacher: TeacherConfig, role: str, ids: Sequence[str]) -> FloatArray:
        """A teacher's vectors, (N, E); of a text it skips the other's of a parallel pair, or zeros."""
        cache = self._cache(teacher, role)
        if not teacher.skip:
            return cache.vectors(ids)
        skipped, rows = self._skipped[teacher.name].find(ids)
        result = np.zeros((len(ids), cache.dims), np.float32)
        result[~skipped] = cache.vectors([name for name, left_out in zip(ids, skipped) if not left_out])
        roles = self._skipped[teacher.name].roles[rows]
        for other in self.recipe.roles:
            here = skipped & (roles == other)
            keys = self._skipped[teacher.name].sources[rows[here]]
            result[here] = self._cache(teacher, other).vectors_of(keys)
        return result
