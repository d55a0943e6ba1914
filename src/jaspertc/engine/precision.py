"""Smaller vectors, and similarity between any of them.

Shape legend: N vectors, M other vectors, E width.
"""

from typing import Any

import numpy as np
import numpy.typing as npt

from jaspertc.errors import InputError, VectorError
from jaspertc.types import FloatArray, VectorArray

PRECISIONS = ("float32", "float16", "int8", "ubinary")


def normalized(vectors: npt.NDArray[Any]) -> npt.NDArray[Any]:
    """Unit length along the last axis; a zero vector stays zero."""
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    unit: npt.NDArray[Any] = vectors / np.maximum(norms, np.finfo(np.float32).tiny)
    return unit


def directions(vectors: npt.NDArray[Any]) -> FloatArray:
    """``normalized`` in float32, of a caller's vectors, whose squares may be beyond all floats."""
    _, exponents = np.frexp(np.abs(vectors).max(axis=-1, keepdims=True, initial=0))
    unit: FloatArray = normalized(np.ldexp(vectors, -exponents)).astype(np.float32, copy=False)
    return unit


def check_finite(vectors: FloatArray, what: str = "text", first_index: int = 0) -> FloatArray:
    """The vectors, shape (N, E), as they are.

    Raises:
        VectorError: one has a value that is infinite or no number; it is named, counted from ``first_index``.
    """
    wrong = np.flatnonzero(~np.isfinite(vectors).all(axis=-1))
    if len(wrong):
        more = f" (and of {len(wrong) - 1} others)" if len(wrong) > 1 else ""
        raise VectorError(
            f"the vector of {what} {first_index + int(wrong[0])}{more} is not finite: the model's weights, "
            "or what they compute for it, overflow; load the model with dtype='float32', or copy its weights"
        )
    return vectors


def check_precision(precision: str) -> None:
    """Raise InputError unless ``precision`` is one of ``PRECISIONS``."""
    if precision not in PRECISIONS:
        raise InputError(f"precision is {precision!r}, it must be one of {', '.join(PRECISIONS)}")


def to_precision(vectors: FloatArray, precision: str) -> VectorArray:
    """Convert float32 vectors of shape (N, E).

    - ``float16``: same shape.
    - ``int8``: same shape, each vector scaled by its own largest value to +-127. Only the direction is
      kept, no calibration set is needed, and a vector does not depend on the others in the call.
    - ``ubinary``: shape (N, ceil(E / 8)), uint8; bit = value > 0, first value in the highest bit.
    """
    check_precision(precision)
    if precision == "float16":
        return vectors.astype(np.float16)
    if precision == "int8":
        largest = np.abs(vectors).max(axis=-1, keepdims=True, initial=0)
        scaled = vectors / np.maximum(largest, np.finfo(np.float32).tiny) * 127
        rounded: VectorArray = np.rint(scaled).astype(np.int8)
        return rounded
    if precision == "ubinary":
        packed: VectorArray = np.packbits(vectors > 0, axis=-1)
        return packed
    return vectors


def similarity(a: VectorArray, b: VectorArray) -> FloatArray:
    """Cosine similarity of every pair; for ``ubinary`` vectors 1 - 2 * (share of differing bits).

    Args:
        a: shape (N, E) or (E,).
        b: shape (M, E) or (E,), of the same precision as ``a``.

    Returns:
        Shape (N, M), in [-1, 1].

    Raises:
        InputError: widths differ, one side is binary and the other is not, or a side is no array of finite
            numbers.
    """
    a, b = _rows(a), _rows(b)
    if not (len(a) and len(b)):
        return np.zeros((len(a), len(b)), dtype=np.float32)
    if a.ndim > 2 or b.ndim > 2 or a.shape[1] != b.shape[1] or (a.dtype == np.uint8) != (b.dtype == np.uint8):
        raise InputError(
            f"cannot compare vectors of shape {a.shape} {a.dtype} with {b.shape} {b.dtype}; "
            "both sides need the same model, dims and precision"
        )
    if a.dtype == np.uint8:
        signs_a, signs_b = (np.unpackbits(part, axis=1).astype(np.float32) * 2 - 1 for part in (a, b))
        agreement: FloatArray = signs_a @ signs_b.T / signs_a.shape[1]
        return agreement
    wide = [part if part.dtype == np.float64 else part.astype(np.float32) for part in (a, b)]
    left, right = map(directions, wide)
    cosines: FloatArray = left @ right.T
    return np.clip(cosines, -1, 1, out=cosines)


def _rows(vectors: VectorArray) -> VectorArray:
    """One or more vectors as rows; no vectors as no rows."""
    try:
        rows = np.asarray(vectors)
    except (TypeError, ValueError, RuntimeError) as error:  # the last: tensors that need gradients
        raise InputError(
            f"cannot compare a {type(vectors).__name__} ({error}); give an array of vectors, of a tensor "
            ".detach().float().numpy()"
        ) from error
    if rows.dtype.kind not in "fiu":
        raise InputError(f"cannot compare {rows.dtype}; give arrays of vectors")
    if rows.ndim < 2:
        rows = rows.reshape(1, -1) if rows.size else rows.reshape(0, 0)
    if not np.isfinite(rows).all():
        raise InputError("cannot compare vectors with values that are not finite")
    return rows
