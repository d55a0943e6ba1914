"""The kinds of array and of number, once for all rooms."""

from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
KeyArray = npt.NDArray[np.uint64]
VectorArray = npt.NDArray[Any]  # vectors as stored or given out: float32, float16, int8 or uint8


def is_integer(value: object) -> bool:
    """Whether ``value`` is an integer, Python's or NumPy's, and not a boolean."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)
