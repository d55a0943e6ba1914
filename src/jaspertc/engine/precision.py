"""Smaller vectors, and similarity between any of them.

Shape legend: N vectors, M other vectors, E width.
"""

import numpy as np

from jaspertc.errors import InputError, VectorError
from jaspertc.types import FloatArray, VectorArray

PRECISIONS = ("float32", "float16", "int8", "ubinary")


def normalized(vectors: FloatArray) -> FloatArray:
    """Unit length along the last axis; a zero vector stays zero."""
    norms = np.linalg.norm(vectors, axis=-1, keepdims=True)
    unit: FloatArray = vectors / np.maximum(norms, np.finfo(np.float32).tiny)
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
        InputError: widths differ, or one side is binary and the other is not.
    """
    a, b = np.atleast_2d(a), np.atleast_2d(b)
    if a.dtype.kind not in "fiu" or b.dtype.kind not in "fiu":
        raise InputError(f"cannot compare {a.dtype} with {b.dtype}; give arrays of vectors")
    if a.ndim > 2 or b.ndim > 2 or a.shape[1] != b.shape[1] or (a.dtype == np.uint8) != (b.dtype == np.uint8):
        raise InputError(
            f"cannot compare vectors of shape {a.shape} {a.dtype} with {b.shape} {b.dtype}; "
            "both sides need the same model, dims and precision"
        )
    if a.dtype == np.uint8:
        signs_a, signs_b = (np.unpackbits(part, axis=1).astype(np.float32) * 2 - 1 for part in (a, b))
        agreement: FloatArray = signs_a @ signs_b.T / signs_a.shape[1]
        return agreement
    left, right = (normalized(part.astype(np.float32)) for part in (a, b))
    cosines: FloatArray = left @ right.T
    return cosines
