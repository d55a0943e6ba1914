"""Texts as rows of token ids, a long text as several, and one vector a text from the rows' vectors.

Shape legend: N texts, R rows (pieces of texts), E width of the vectors.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TypeVar

import numpy as np

from jaspertc.text.packing import offsets_of
from jaspertc.text.pieces import shared_targets
from jaspertc.types import FloatArray, IntArray, VectorArray

Values = TypeVar("Values", IntArray, FloatArray)


@dataclass(frozen=True, kw_only=True)
class TextPieces:
    """What ``Embedder.encode_pieces`` gives of a text.

    Attributes:
        vectors: one a piece, in order, shape (pieces, E); as ``normalize``, ``dims`` and ``precision`` say.
        spans: the characters of each piece, first and end, shape (pieces, 2). They follow each other from
            the text's first character to its last, or to where ``max_length`` cut it.
    """

    vectors: VectorArray
    spans: IntArray


@dataclass(frozen=True, kw_only=True)
class TextRows:
    """Token ids of texts, one row after the other.

    Attributes:
        rows: R arrays of token ids, shape (L,) each; those of one text follow each other.
        starts: each text's first row, and R at the end, shape (N + 1,).
        lengths: tokens of each text as a whole, shape (N,); not what its pieces repeat of prompt and special
            tokens.
    """

    rows: list[IntArray]
    starts: IntArray
    lengths: IntArray

    @classmethod
    def whole(cls, rows: Sequence[IntArray]) -> "TextRows":
        """Each text one row."""
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        return cls(rows=list(rows), starts=np.arange(len(rows) + 1), lengths=lengths)

    @classmethod
    def joined(cls, parts: "Sequence[TextRows]") -> "TextRows":
        """Texts of several groups, one after the other."""
        counts = [np.diff(part.starts) for part in parts]
        return cls(
            rows=[row for part in parts for row in part.rows],
            starts=offsets_of(np.concatenate(counts)),
            lengths=np.concatenate([part.lengths for part in parts]),
        )

    def __len__(self) -> int:
        return len(self.lengths)

    @property
    def in_pieces(self) -> bool:
        """Whether any text has several rows."""
        return len(self.rows) != len(self.lengths)

    def each(self, values: Values) -> Iterator[tuple[list[IntArray], Values]]:
        """The rows of each text, and its part of ``values``, shape (R, ...)."""
        for begin, end in pairwise(self.starts.tolist()):
            yield self.rows[begin:end], values[begin:end]

    def told(self, advance: Callable[[int], None]) -> Callable[[IntArray], None]:
        """What to tell of rows that are done, by number: a text counts with its first row."""
        if not self.in_pieces:
            return lambda rows: advance(len(rows))
        return lambda rows: advance(int(np.isin(self.starts[:-1], rows).sum()))

    def with_pieces(self, pieces: dict[int, list[IntArray]]) -> "TextRows":
        """These texts, one row each so far, with several for some of them, by the text's number."""
        if not pieces:
            return self
        rows = [pieces.get(number, [row]) for number, row in enumerate(self.rows)]
        counts = np.array([len(part) for part in rows], dtype=np.int64)
        return replace(self, rows=[row for part in rows for row in part], starts=offsets_of(counts))

    def row_targets(self, targets: IntArray) -> IntArray:
        """The compressed tokens of each row, shape (R,), from those of each text, shape (N,).

        A text that keeps all its tokens keeps those that its pieces repeat, too.
        """
        if not self.in_pieces:
            return targets
        lengths = np.array([len(row) for row in self.rows], dtype=np.int64)
        for number in np.flatnonzero(targets < self.lengths):
            begin, end = self.starts[number], self.starts[number + 1]
            lengths[begin:end] = shared_targets(lengths[begin:end], int(targets[number]))
        return lengths

    def shares(self, targets: IntArray) -> FloatArray:
        """What part of its text's vector each row's is, shape (R,); those of a text add up to 1.

        In proportion to sqrt(tokens x compressed tokens / k) for the k-th piece: what a text is about is
        said early more often than late, and what was read closely says more (docs/reports/long-texts.md).

        Args:
            targets: the compressed tokens of each row, shape (R,).
        """
        shares = np.ones(len(self.rows), dtype=np.float32)
        for number in np.flatnonzero(np.diff(self.starts) > 1):
            begin, end = self.starts[number], self.starts[number + 1]
            tokens = np.array([len(row) for row in self.rows[begin:end]])
            weights = np.sqrt(tokens * targets[begin:end] / np.arange(1, end - begin + 1))
            shares[begin:end] = weights / weights.sum()
        return shares

    def combine(self, vectors: FloatArray, targets: IntArray) -> FloatArray:
        """One vector a text from those of its rows before normalisation, (R, E) -> (N, E): their mean by
        ``shares``.

        Vectors of texts of one row are returned as they are, bit by bit.

        Args:
            targets: the compressed tokens of each row, shape (R,).
        """
        if not self.in_pieces:
            return vectors
        result, shares = vectors[self.starts[:-1]], self.shares(targets)
        for number in np.flatnonzero(np.diff(self.starts) > 1):
            begin, end = self.starts[number], self.starts[number + 1]
            result[number] = shares[begin:end] @ vectors[begin:end]
        return result
