"""Vectors that several contenders share.

Shape legend: N texts, E width of the vectors.
"""

import json
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from jaspertc.teachers.adapters import Teacher

FloatArray = npt.NDArray[np.float32]
Encode = Callable[["Teacher", Sequence[str], str], FloatArray]


def encode_afresh(teacher: "Teacher", texts: Sequence[str], prompt: str) -> FloatArray:
    """The teacher's vectors, shape (N, E)."""
    return teacher.encode(texts, prompt)


class Memory:
    """What teachers have embedded since it was last cleared."""

    def __init__(self) -> None:
        self._kept: dict[tuple[str, str, str], FloatArray] = {}

    def encode(self, teacher: "Teacher", texts: Sequence[str], prompt: str) -> FloatArray:
        """The teacher's vectors, shape (N, E); each text is embedded once."""
        name = json.dumps(teacher.identity, sort_keys=True, default=str)
        keys = [(name, prompt, text) for text in texts]
        missing = [key for key in dict.fromkeys(keys) if key not in self._kept]
        if missing:
            vectors = teacher.encode([text for _, _, text in missing], prompt)
            self._kept.update(zip(missing, np.asarray(vectors, dtype=np.float32)))
        return np.stack([self._kept[key] for key in keys])

    def clear(self) -> None:
        """Forget all."""
        self._kept.clear()
