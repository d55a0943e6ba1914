"""Which tokens each compressed token is made of, for a whole batch at once. Host arithmetic only.

From lengths that the host knows, so that no device has to be asked (the released code needs one
synchronisation per text).

Shape legend: N texts, C compressed tokens, G gathered tokens (windows may overlap, so G >= T).
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from jaspertc.text.packing import offsets_of
from jaspertc.types import IntArray

Edges = Callable[[Any, Any, Any], tuple[Any, Any]]
Shares = Callable[[Any, Any, Any, Any], Any]


@dataclass(frozen=True, kw_only=True)
class Windows:
    """Runs of tokens, one for each compressed token.

    Attributes:
        gather: positions in the packed row, window after window, shape (G,).
        starts: where each window begins in ``gather``, shape (C,).
        lengths: compressed tokens per text, shape (N,).
        weights: share of each gathered token in its window, shape (G,); ``None``: all alike.
    """

    gather: IntArray
    starts: IntArray
    lengths: IntArray
    weights: npt.NDArray[np.float32] | None = None

    def bounds(self) -> list[tuple[int, int]]:
        """First token and end of each window, end excluded, counted from the batch's first token."""
        first, ends = self.gather[self.starts], np.append(self.starts[1:], len(self.gather))
        return list(zip(first.tolist(), (self.gather[ends - 1] + 1).tolist()))


def packed_windows(
    edges: Edges, lengths: IntArray, targets: IntArray, *, shares: Shares | None = None
) -> Windows:
    """The windows of a batch by the rule for one of them.

    Args:
        edges: as ``Compressor.window_edges``.
        shares: as ``Compressor.token_shares``; ``None``: all tokens of a window count alike.
        lengths: tokens per text, shape (N,).
        targets: compressed tokens per text, shape (N,), each in [1, length].
    """
    assert len(lengths) == len(targets)
    assert ((targets >= 1) & (targets <= lengths)).all()
    offsets, target_offsets = offsets_of(lengths), offsets_of(targets)
    text = np.repeat(np.arange(len(targets)), targets)
    index = np.arange(target_offsets[-1]) - target_offsets[text]
    first, end = edges(index, lengths[text], targets[text])
    size = end - first
    ends = np.cumsum(size)
    starts = ends - size
    gather = np.arange(ends[-1]) + np.repeat(offsets[text] + first - starts, size)
    if shares is None:
        return Windows(gather=gather, starts=starts, lengths=targets)
    token = gather - np.repeat(offsets[text], size)
    share = shares(token, *(np.repeat(each, size) for each in (index, lengths[text], targets[text])))
    weights = share / np.repeat(np.add.reduceat(share, starts), size)
    return Windows(gather=gather, starts=starts, lengths=targets, weights=weights.astype(np.float32))
