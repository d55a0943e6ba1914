"""How long a text becomes: the report's Algorithm 1. Host arithmetic only.

Shape legend: N texts.
"""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from jaspertc.errors import RatioError
from jaspertc.types import IntArray, is_integer

LARGEST = int(np.iinfo(np.int64).max)

Ratio = float | Sequence[float] | npt.NDArray[np.float64]


def check_ratio(ratio: Ratio, texts: int | None = None) -> npt.NDArray[np.float64]:
    """Validate one ratio for all texts, shape (), or one per text, shape (N,).

    Raises:
        RatioError: not a number, not finite, outside (0, 1], or not one per text.
    """
    try:
        values = np.asarray(ratio)
    except ValueError:  # lists of unequal lengths
        values = np.empty(0, dtype=object)
    if values.dtype.kind not in "fiu":  # numpy would make numbers of strings and booleans
        raise RatioError(
            f"ratio is {ratio!r:.80}, it must be a number in (0, 1], or a list with one number per text"
        )
    values = values.astype(np.float64)
    wrong = ~((values > 0) & (values <= 1))  # written so that NaN is wrong too
    if wrong.any():
        at = "" if values.ndim == 0 else f" at text {int(np.flatnonzero(wrong)[0])}"
        raise RatioError(
            f"ratio is {float(values[wrong].flat[0])}{at}, it must lie in (0, 1]: 1 keeps every token, "
            "0.33 keeps a third of those above the threshold"
        )
    if values.ndim > 1 or (values.ndim == 1 and texts is not None and len(values) != texts):
        raise RatioError(
            f"ratio has shape {values.shape}, it must be one number or one for each text ({texts})"
        )
    return values


def _check_count(name: str, value: int | None, least: int = 1) -> None:
    if value is None:
        return
    if not is_integer(value) or value < least:
        raise RatioError(f"{name} is {value!r}, it must be an integer >= {least}")
    if value > LARGEST:
        raise RatioError(f"{name} is {value}, it must be at most {LARGEST}")


def target_lengths(
    lengths: IntArray, *, ratio: Ratio, threshold: int, max_compressed: int | None = None
) -> IntArray:
    """Compressed length of each text (report, Algorithm 1), shape (N,) -> (N,).

    Computed in float64: float32 differs in a few (L, ratio) pairs, half precision in many.

    Args:
        lengths: real tokens per text, prompt and special tokens included, each >= 1.
        ratio: in (0, 1], one for all or one per text.
        threshold: texts up to this many tokens keep all of them, >= 1.
        max_compressed: no text gets more than this many compressed tokens, >= 1; ``None`` for no bound.
            The bound holds below the threshold too.

    Raises:
        RatioError: an argument is out of range.

    >>> target_lengths(np.array([17, 80, 100, 1030]), ratio=1 / 3, threshold=80).tolist()
    [17, 80, 86, 396]
    """
    ratios = check_ratio(ratio, len(lengths))
    _check_count("threshold", threshold)
    _check_count("max_compressed", max_compressed)
    compressed = (threshold + (lengths - threshold) * ratios).astype(np.int64)
    targets: IntArray = np.where(lengths <= threshold, lengths, compressed)
    if max_compressed is not None:
        targets = np.minimum(targets, max_compressed)
    return targets
