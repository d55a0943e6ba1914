"""Which documents are most like a query, exactly, and which of them make good negatives. Pure arithmetic.

Shape legend: N queries, M documents, B documents of a block, D depth of the ranking, R width of vectors.
"""

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np

from jaspertc.types import BoolArray, FloatArray, IntArray

NOTHING = -1


class Ranking(NamedTuple):
    """The best D documents of each query, best first; ``NOTHING`` with score -inf where there are fewer.

    Attributes:
        documents: their numbers, shape (N, D).
        scores: their products with the query, shape (N, D).
    """

    documents: IntArray
    scores: FloatArray


def top_documents(queries: FloatArray, blocks: Iterable[FloatArray], depth: int) -> Ranking:
    """Rank all documents for each query by matrix products, in memory for one block of documents.

    Args:
        queries: shape (N, R).
        blocks: the documents' vectors in order, each block of shape (B, R), B >= 1.
        depth: D, >= 1.

    >>> top_documents(np.float32([[1, 0]]), [np.float32([[0, 1], [1, 0]]), np.float32([[2, 0]])], 2).documents
    array([[2, 1]])
    """
    best = Ranking(
        np.full((len(queries), depth), NOTHING, np.int64),
        np.full((len(queries), depth), -np.inf, np.float32),
    )
    first = 0
    for block in blocks:
        scores = queries @ block.T
        better = scores > best.scores[:, -1:]
        if block.shape[0] > depth and np.count_nonzero(better) > best.scores.size:
            columns = np.argpartition(scores, len(block) - depth, axis=1)[:, -depth:].ravel()
            rows = np.repeat(np.arange(len(queries)), depth)
        else:
            rows, columns = np.nonzero(better)
        if len(rows):
            best = _merged(best, rows, columns + first, scores[rows, columns])
        first += len(block)
    return best


def _merged(best: Ranking, rows: IntArray, documents: IntArray, scores: FloatArray) -> Ranking:
    """The best of ``best`` and of candidates given as (row, document, score); ties: the first document."""
    queries, depth = best.documents.shape
    all_rows = np.concatenate([np.repeat(np.arange(queries), depth), rows])
    all_documents = np.concatenate([best.documents.ravel(), documents])
    all_scores = np.concatenate([best.scores.ravel(), scores])
    order = np.lexsort((all_documents, -all_scores, all_rows))
    starts = np.searchsorted(all_rows[order], np.arange(queries))
    taken = order[starts[:, None] + np.arange(depth)]
    return Ranking(all_documents[taken], all_scores[taken])


def first_of_each_row(wanted: BoolArray, count: int) -> BoolArray:
    """Keep only the first ``count`` true values of each row, (N, D) -> (N, D).

    >>> first_of_each_row(np.array([[True, False, True, True]]), 2)
    array([[ True, False,  True, False]])
    """
    first: BoolArray = wanted & (np.cumsum(wanted, axis=1) <= count)
    return first


class KnownPairs:
    """Which documents answer which queries, where the same query can come several times.

    Args:
        queries: the number of each pair's query, equal for equal texts, shape (P,).
        documents: the number of each pair's document, shape (P,), each in [0, ``count``).
        count: M.
    """

    def __init__(self, queries: IntArray, documents: IntArray, count: int) -> None:
        self.count = count
        self.codes = np.unique(queries * count + documents)

    def hold(self, queries: IntArray, documents: IntArray) -> BoolArray:
        """Whether documents answer queries: shapes (N,), (N, D) -> (N, D)."""
        wanted = queries[:, None] * self.count + documents
        rows = np.minimum(np.searchsorted(self.codes, wanted), len(self.codes) - 1)
        known: BoolArray = self.codes[rows] == wanted
        return known
