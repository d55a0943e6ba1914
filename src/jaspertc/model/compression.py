"""How long a text becomes, and which tokens each compressed token averages. Host arithmetic only.

Everything here is computed for the whole batch at once from lengths known on the host, so that no
device has to be asked (the released code needs one synchronisation per text).

Shape legend: N texts, T tokens, C compressed tokens, G gathered tokens (windows overlap, so G >= T).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from jaspertc.errors import RatioError
from jaspertc.text.packing import IntArray, offsets_of

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
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < least:
        raise RatioError(f"{name} is {value!r}, it must be an integer >= {least}")


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


@dataclass(frozen=True, kw_only=True)
class Windows:
    """Which tokens each compressed token averages, for a whole batch.

    Attributes:
        gather: positions in the packed row, window after window, shape (G,).
        starts: where each window begins in ``gather``, shape (C,).
        lengths: compressed tokens per text, shape (N,).
    """

    gather: IntArray
    starts: IntArray
    lengths: IntArray


def windows(lengths: IntArray, targets: IntArray) -> Windows:
    """AdaptiveAvgPool1d's windows: output i averages tokens floor(i L / T) ... ceil((i+1) L / T) - 1.

    Args:
        lengths: tokens per text, shape (N,).
        targets: compressed tokens per text, shape (N,), each in [1, length].
    """
    assert len(lengths) == len(targets)
    assert ((targets >= 1) & (targets <= lengths)).all()
    offsets, target_offsets = offsets_of(lengths), offsets_of(targets)
    text = np.repeat(np.arange(len(targets)), targets)
    index = np.arange(target_offsets[-1]) - target_offsets[text]
    first, end = window_edges(index, lengths[text], targets[text])
    size = end - first
    ends = np.cumsum(size)
    starts = ends - size
    gather = np.arange(ends[-1]) + np.repeat(offsets[text] + first - starts, size)
    return Windows(gather=gather, starts=starts, lengths=targets)


def window_edges(index: Any, length: Any, target: Any) -> tuple[Any, Any]:
    """AdaptiveAvgPool1d's window of output ``index``, end excluded, for any integers that can be divided.

    >>> window_edges(1, 5, 3)
    (1, 4)
    """
    return (index * length) // target, ((index + 1) * length + target - 1) // target


def window_bounds(length: int, target: int) -> list[tuple[int, int]]:
    """The windows of one text as (first, end) pairs, end excluded.

    >>> window_bounds(5, 3)
    [(0, 2), (1, 4), (3, 5)]
    """
    return [window_edges(i, length, target) for i in range(target)]
