"""How well vectors order sentence pairs and find answers.

Shape legend: N pairs, Q queries, D documents, E width of the vectors.
"""

from collections.abc import Iterable, Sequence

import numpy as np
import numpy.typing as npt

from jaspertc.errors import InputError
from jaspertc.teachers.fusion import unit
from jaspertc.types import FloatArray

QUERIES_AT_ONCE = 256
CUT = 10


def cosines(first: FloatArray, second: FloatArray) -> FloatArray:
    """Cosine of each pair of rows, (N, E) and (N, E) -> (N,)."""
    scores: FloatArray = (unit(first) * unit(second)).sum(axis=1)
    return scores


def spearman(first: npt.ArrayLike, second: npt.ArrayLike) -> float:
    """Rank correlation of N numbers with N others, in [-1, 1]; ties share their mean rank.

    Returns ``nan`` where one side is constant.

    >>> round(spearman([1, 2, 3, 4], [1, 4, 9, 9]), 4)
    0.9487
    """
    ranks = [_ranks(np.asarray(values, dtype=np.float64)) for values in (first, second)]
    a, b = (rank - rank.mean() for rank in ranks)
    scale = float(np.sqrt((a @ a) * (b @ b)))
    return float(a @ b) / scale if scale > 0 else float("nan")


def _ranks(values: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    _, numbers, counts = np.unique(values, return_inverse=True, return_counts=True)
    ends = np.cumsum(counts)
    ranks: npt.NDArray[np.float64] = ((2 * ends - counts - 1) / 2)[numbers]
    return ranks


def retrieval_scores(
    queries: FloatArray, documents: FloatArray, relevant: Sequence[set[int]]
) -> tuple[float, float]:
    """Recall@1 (the best document is relevant) and nDCG@10, means over queries, in [0, 1].

    A document as near as a relevant one counts as found before it, so that equal vectors earn nothing.

    Args:
        queries: shape (Q, E).
        documents: shape (D, E).
        relevant: the rows of each query's relevant documents, at least one.

    Raises:
        InputError: there are no queries.

    >>> retrieval_scores(np.eye(2, dtype="f4"), np.eye(2, dtype="f4"), [{0}, {0}])[0]
    0.5
    """
    if not len(queries):
        raise InputError("there are no queries to score; give at least one")
    queries, documents = unit(queries), unit(documents)
    first, gains = 0, 0.0
    for begin in range(0, len(queries), QUERIES_AT_ONCE):
        scores = queries[begin : begin + QUERIES_AT_ONCE] @ documents.T
        for row, wanted in zip(scores, relevant[begin : begin + QUERIES_AT_ONCE]):
            ranks = _places(row, wanted)
            first += ranks[0] == 0
            best = _gain(range(min(len(wanted), CUT)))
            gains += _gain(rank for rank in ranks if rank < CUT) / best
    return first / len(queries), gains / len(queries)


def _places(row: FloatArray, wanted: set[int]) -> list[int]:
    """Ranks of the relevant documents, best first."""
    rows = sorted(wanted, key=lambda index: -row[index])
    others = np.ones(len(row), np.bool_)
    others[rows] = False
    return [rank + int((row[others] >= row[index]).sum()) for rank, index in enumerate(rows)]


def _gain(ranks: Iterable[int]) -> float:
    return float(sum(1 / np.log2(2 + rank) for rank in ranks))
