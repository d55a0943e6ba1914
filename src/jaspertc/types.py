"""The kinds of array, once for all rooms."""

from typing import Any

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float32]
IntArray = npt.NDArray[np.int64]
BoolArray = npt.NDArray[np.bool_]
KeyArray = npt.NDArray[np.uint64]
VectorArray = npt.NDArray[Any]  # vectors as stored or given out: float32, float16, int8 or uint8
