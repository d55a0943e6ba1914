"""Token ids to what a compressor reads: embeddings, passed through its per-token transform.

Shape legend: T tokens, R rows of a table, C compressed tokens, V vocabulary, D width.
"""

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from jaspertc.errors import InputError
from jaspertc.model.compressors.windows import Windows
from jaspertc.model.int8 import Int8Embedding
from jaspertc.model.transfer import to_device
from jaspertc.pytorch import Tensor, nn, torch
from jaspertc.pytorch import functional as F
from jaspertc.types import IntArray

FOLDED_ROWS = 32  # rows of the folded table that are computed together

Table = nn.Embedding | Int8Embedding
Transform = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class TokenRows:
    """The transformed embeddings of a batch's T tokens, as rows of a table that may have many more.

    Attributes:
        table: shape (R, D).
        index: the row of each token, shape (T,); ``None``: the rows are the tokens, in order.
    """

    table: Tensor
    index: IntArray | None = None

    def each(self) -> Tensor:
        """Every token's row, shape (T, D)."""
        return self.table if self.index is None else self.table[to_device(self.index, self.table.device)]

    def pooled(self, windows: Windows) -> Tensor:
        """The (weighted) mean of each window, for the whole batch at once, shape (C, D)."""
        rows = windows.gather if self.index is None else self.index[windows.gather]
        gather, starts = (to_device(part, self.table.device) for part in (rows, windows.starts))
        if windows.weights is None:
            return F.embedding_bag(gather, self.table, starts, mode="mean")
        weights = to_device(windows.weights, self.table.device).to(self.table.dtype)
        return F.embedding_bag(gather, self.table, starts, mode="sum", per_sample_weights=weights)


class FoldedTable:
    """Token lookup and a compressor's transform as one table, filled as tokens first occur.

    Exact, since the transform depends on the token id alone. Filling on demand makes loading free and
    keeps only touched rows in memory; safe to use from several threads. A row is always computed in the same
    place of a product of the same shape, so its last bit does not depend on which rows were filled with it.

    Args:
        transform: (T, D) -> (T, D), row by row; ``None``: the identity.
    """

    def __init__(self, table: Table, transform: Transform | None) -> None:
        stored = table.weight.detach()
        self._lookup, self._transform = table, transform
        self._lock = threading.Lock()
        as_stored = transform is None and stored.is_floating_point()
        dtype = stored.dtype if stored.is_floating_point() else torch.float32
        self._table = stored if as_stored else torch.empty_like(stored, dtype=dtype)
        self._ready = np.full(len(stored), as_stored)

    def __call__(self, ids: IntArray) -> TokenRows:
        """The tokens with these ids, shape (T,)."""
        if not self._ready[ids].all():
            self._fill(ids)
        return TokenRows(self._table, ids)

    def _fill(self, ids: IntArray) -> None:
        with self._lock, torch.inference_mode():
            missing = np.unique(ids[~self._ready[ids]])
            for rows, slots in fixed_places(missing, FOLDED_ROWS):
                values = self._lookup(to_device(rows, self._table.device))
                if self._transform is not None:
                    values = self._transform(values)
                filled = to_device(rows[slots], values.device)
                self._table[filled] = values[to_device(slots, values.device)]
            self._ready[missing] = True


def check_ids(ids: IntArray, rows: int, where: str = "") -> None:
    """Raise InputError, beginning with ``where``, unless all ids, shape (T,), are rows of a table of so
    many."""
    lowest, highest = int(ids.min()), int(ids.max())
    if lowest < 0 or highest >= rows:
        wrong = lowest if lowest < 0 else highest
        raise InputError(
            f"{where}token id {wrong} is outside this model's vocabulary of {rows} tokens; "
            "were the ids made by another model's tokenizer?"
        )


def fixed_places(ids: IntArray, size: int) -> Iterator[tuple[IntArray, IntArray]]:
    """Groups of ``size`` ids in which each id i has place i % size; id 0 fills what is left.

    Yields the ids of a group, shape (size,), and the places of those asked for.

    >>> [(group.tolist(), places.tolist()) for group, places in fixed_places(np.array([1, 4, 6, 8]), 4)]
    [([4, 1, 6, 0], [0, 1, 2]), ([8, 0, 0, 0], [0])]
    """
    order = np.argsort(ids % size, kind="stable")
    ids = ids[order]
    slot = ids % size
    group = np.arange(len(ids)) - np.searchsorted(slot, slot)  # how many before it have its place
    for number in range(int(group.max(initial=-1)) + 1):
        chosen = group == number
        rows = np.zeros(size, dtype=np.int64)
        rows[slot[chosen]] = ids[chosen]
        yield rows, slot[chosen]
