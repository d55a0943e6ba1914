"""Packed texts as rows of equal width, for runtimes that compute on rectangles.

Shape legend: N texts, C tokens of all texts, R rows, S width of a row.
"""

from dataclasses import dataclass

import numpy as np

from jaspertc.text.packing import IntArray

STEP = 16  # widths are multiples of this, so that few different shapes occur
NARROWEST = 256  # short texts share rows of this width


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Where each token of a packed batch lies among R x S cells.

    Attributes:
        count: R.
        width: S.
        cells: the cell of each token, in packed order, shape (C,).
        segments: which text each cell belongs to, -1 for none, shape (R, S), int32.
        positions: 0 ... L - 1 within each text, 0 in empty cells, shape (R, S), int32.
    """

    count: int
    width: int
    cells: IntArray
    segments: np.ndarray
    positions: np.ndarray

    @property
    def crowded(self) -> bool:
        """Whether attention needs a mask: a row holds several texts, or an empty cell."""
        return bool((self.segments != self.segments[:, :1]).any())


def plan_rows(lengths: IntArray) -> Rows:
    """Put texts into rows, longest first, each into the first row with room.

    Args:
        lengths: tokens of each text, >= 1, shape (N,).

    >>> plan_rows(np.array([200, 250, 50])).segments.shape
    (2, 256)
    """
    total, longest = int(lengths.sum()), int(lengths.max())
    width = max(_up(longest), min(NARROWEST, _up(total)))
    room: list[int] = []
    starts = np.empty(len(lengths), dtype=np.int64)
    open_from = 0  # rows before this one are full
    for text in np.argsort(-lengths, kind="stable").tolist():
        need = int(lengths[text])
        while open_from < len(room) and room[open_from] == 0:
            open_from += 1
        row = next((place for place in range(open_from, len(room)) if room[place] >= need), len(room))
        if row == len(room):
            room.append(width)
        starts[text] = row * width + width - room[row]
        room[row] -= need
    ends = np.cumsum(lengths)
    within = np.arange(total) - np.repeat(ends - lengths, lengths)
    cells = np.repeat(starts, lengths) + within
    segments = np.full(len(room) * width, -1, dtype=np.int32)
    positions = np.zeros(len(room) * width, dtype=np.int32)
    segments[cells] = np.repeat(np.arange(len(lengths)), lengths)
    positions[cells] = within
    shape = (len(room), width)
    return Rows(
        count=len(room),
        width=width,
        cells=cells,
        segments=segments.reshape(shape),
        positions=positions.reshape(shape),
    )


def _up(value: int) -> int:
    return -(-value // STEP) * STEP
