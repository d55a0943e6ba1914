"""Packed texts as rows for attention, one text in each, for runtimes that compute on rectangles.

Only attention needs rows; everything else works token by token on the packed tokens. Widths are multiples of
16 and a text begins where its row begins: so its sums are added up in the same order in every batch.

Shape legend: N texts, C tokens of some texts, R rows, S width of a row.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from jaspertc.text.packing import offsets_of
from jaspertc.types import IntArray

STEP = 16  # widths are multiples of this
CELL = 1 / 1000  # what a pair of query and key costs, in tokens through the rest of the layers
CALL = 20  # what one more call costs, in such tokens
FAR = np.float32(-1e9)  # added to the scores of what a token must not see


@dataclass(frozen=True, kw_only=True)
class Rows:
    """Some texts of a packed batch, of similar length, and where their tokens lie among R x S cells.

    Numbers of tokens and rows are rounded up, by a thirty-second and an eighth at most, so that few different
    shapes occur: a runtime prepares itself for each. What is added is computed and not used.

    Attributes:
        tokens: their tokens in the batch, shape (used,); ``used`` <= C.
        cells: the token in each cell, 0 in empty cells, shape (R, S), int32.
        places: the cell of each token, shape (C,), int32.
        positions: 0 ... L - 1 within each text, shape (C,), int32.
        lengths: tokens of each row's text, 0 for none, shape (R,).
    """

    tokens: IntArray
    cells: np.ndarray
    places: np.ndarray
    positions: np.ndarray
    lengths: IntArray

    def mask(self, *, causal: bool) -> np.ndarray:
        """0 where a token may look and ``FAR`` elsewhere: (1, 1, S, S) if causal, else (R, 1, 1, S).

        With one text at the beginning of each row, no token that looks only back sees an empty cell.
        """
        columns = np.arange(self.cells.shape[1])
        hidden = (columns > columns[:, None])[None] if causal else columns >= self.lengths[:, None, None]
        return np.where(hidden, FAR, np.float32(0))[:, None]


def plan_rows(lengths: IntArray, apart: int = 0) -> list[Rows]:
    """Divide texts by length into rectangles, so that little is computed in vain.

    Args:
        lengths: tokens of each text, >= 1, shape (N,).
        apart: no rectangle holds both texts of up to so many tokens and longer ones.

    >>> [rows.cells.shape for rows in plan_rows(np.array([20, 500, 30, 490]))]
    [(2, 512), (2, 32)]
    """
    if len(lengths) == 1:
        return [one_row(int(lengths[0]))]
    order = np.argsort(-lengths, kind="stable")
    offsets = offsets_of(lengths)
    longer = int((lengths > apart).sum())
    planned = []
    for texts in filter(len, (order[:longer], order[longer:])):
        widths, first = np.unique(-(-lengths[texts] // STEP) * -STEP, return_index=True)
        edges = np.append(first, len(texts))
        planned += [
            rectangle(texts[edges[begin] : edges[end]], int(-widths[begin]), lengths, offsets)
            for begin, end in _cuts((-widths).tolist(), edges.tolist())
        ]
    return planned


@lru_cache(maxsize=64)
def one_row(length: int, step: int = STEP) -> Rows:
    """A single text as a row whose width is a multiple of ``step``: queries come alone, in few lengths."""
    lengths = np.array([length])
    return rectangle(np.array([0]), -(-length // step) * step, lengths, offsets_of(lengths), step)


def _cuts(widths: list[int], edges: list[int]) -> list[tuple[int, int]]:
    """The cheapest division of widths, widest first; texts ``edges[i]:edges[i + 1]`` have ``widths[i]``."""
    best, cut = [0.0], [0]
    for end in range(1, len(widths) + 1):
        costs = [
            best[begin] + CALL + CELL * (edges[end] - edges[begin]) * widths[begin] ** 2
            for begin in range(end)
        ]
        cut.append(int(np.argmin(costs)))
        best.append(costs[cut[end]])
    cuts = []
    end = len(widths)
    while end:
        cuts.append((cut[end], end))
        end = cut[end]
    return cuts[::-1]


def rectangle(texts: IntArray, width: int, lengths: IntArray, offsets: IntArray, step: int = STEP) -> Rows:
    """Some texts of a packed batch as rows of one width.

    Args:
        texts: which, shape (R,).
        width: S, at least the longest one's tokens.
        lengths: tokens of each text of the batch, shape (N,).
        offsets: where each begins in the batch, shape (N + 1,).
        step: the number of tokens is a multiple of it.
    """
    text_lengths = lengths[texts]
    used, rows = int(text_lengths.sum()), _up(len(texts), 1, 8)
    total = _up(used, step, 32)
    within = np.arange(used) - np.repeat(offsets_of(text_lengths)[:-1], text_lengths)
    sources, positions = np.zeros((2, total), dtype=np.int32)
    sources[:used] = np.repeat(np.arange(len(texts)) * width, text_lengths) + within
    positions[:used] = within
    cells = np.zeros(rows * width, dtype=np.int32)
    cells[sources[:used]] = np.arange(used)
    return Rows(
        tokens=np.repeat(offsets[texts], text_lengths) + within,
        cells=cells.reshape(rows, width),
        places=sources,
        positions=positions,
        lengths=np.concatenate([text_lengths, np.zeros(rows - len(texts), dtype=np.int64)]),
    )


def _up(value: int, least: int, parts: int) -> int:
    """``value`` rounded up to a multiple of ``least`` or of a power of two up to ``value / parts``."""
    step = max(least, 1 << max(0, (value // parts).bit_length() - 1))
    return -(-value // step) * step
