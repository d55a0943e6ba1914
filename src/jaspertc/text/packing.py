"""Token ids of several texts in one row, without padding.

Shape legend: T tokens of all texts together, N texts.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from jaspertc.errors import InputError
from jaspertc.types import IntArray


@dataclass(frozen=True, kw_only=True)
class PackedBatch:
    """Texts laid end to end. All three arrays live on the host, where lengths are known.

    Attributes:
        ids: token ids of all texts, shape (T,), int64.
        lengths: tokens per text, shape (N,), int64, each >= 1.
        offsets: where each text begins, and T at the end, shape (N + 1,), int64.
    """

    ids: IntArray
    lengths: IntArray
    offsets: IntArray

    def __len__(self) -> int:
        return len(self.lengths)


def offsets_of(lengths: IntArray) -> IntArray:
    """Starts of consecutive runs of these lengths, with the total at the end: shape (N,) -> (N + 1,).

    >>> offsets_of(np.array([3, 1, 2])).tolist()
    [0, 3, 4, 6]
    """
    offsets = np.zeros(len(lengths) + 1, dtype=np.int64)
    np.cumsum(lengths, out=offsets[1:])
    return offsets


def pack(rows: Sequence[Sequence[int] | IntArray]) -> PackedBatch:
    """Lay token-id rows end to end.

    Args:
        rows: N sequences of token ids, none of them empty.

    Raises:
        InputError: there is no row, or a row has no token.

    >>> pack([[7, 8], [9]]).ids.tolist()
    [7, 8, 9]
    """
    if not len(rows):
        raise InputError("cannot pack an empty list of texts; give at least one")
    lengths = np.fromiter((len(row) for row in rows), dtype=np.int64, count=len(rows))
    if not lengths.all():
        raise InputError(
            f"text {int(lengths.argmin())} has no token ids; give each text at least one token id"
        )
    ids = np.concatenate([np.asarray(row, dtype=np.int64) for row in rows])
    return PackedBatch(ids=ids, lengths=lengths, offsets=offsets_of(lengths))
