"""Texts that a teacher skips, and whose vector stands for theirs where they are half of a parallel pair.

Shape legend: N texts, M that are skipped.
"""

from collections.abc import Sequence

import numpy as np

from jaspertc.recipe.texts import PairTexts
from jaspertc.teaching.keys import KeyIndex, keys_of
from jaspertc.teaching.recipe_texts import RecipeTexts
from jaspertc.types import BoolArray, IntArray, KeyArray

NO_ROLE = ""


class Skipped:
    """The texts of a recipe that a teacher's ``skip`` is found in.

    Args:
        texts: the recipe's.
        pairs: its ``[[texts.pairs]]``, the last files of ``texts``.
        skip: of a teacher of the recipe.

    Attributes:
        sources: keys of the texts that say the same, shape (M, 3).
        roles: the roles of these, ``NO_ROLE`` where there is none, shape (M,).
    """

    def __init__(self, texts: RecipeTexts, pairs: Sequence[PairTexts], skip: str) -> None:
        keys, sources, roles = [], [], []
        first = len(texts.files) - 2 * len(pairs)
        for number, item in enumerate(texts.files):
            chosen = item.skipped[skip] & ~item.repeats
            keys.append(item.keys[chosen])
            source, role = np.zeros_like(item.keys), np.full(len(item.keys), NO_ROLE, object)
            if number >= first and pairs[(number - first) // 2].parallel:
                other = texts.files[number + 1 if (number - first) % 2 == 0 else number - 1]
                known = ~other.skipped[skip]
                source[known], role[known] = other.keys[known], other.file.role
            sources.append(source[chosen])
            roles.append(role[chosen])
        self._index = KeyIndex(np.concatenate(keys))
        self.sources: KeyArray = np.concatenate(sources)
        self.roles = np.concatenate(roles)

    def find(self, ids: Sequence[str]) -> tuple[BoolArray, IntArray]:
        """Which of N texts are skipped, shape (N,), and their rows in ``sources``, shape (N,)."""
        rows, found = self._index.find(keys_of(ids))
        return found, rows
