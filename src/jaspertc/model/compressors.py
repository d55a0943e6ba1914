"""What happens between token lookup and backbone. To add a compressor: a class and a line in ``COMPRESSORS``.

Shape legend: T tokens, C compressed tokens, V vocabulary, D width.
"""

import threading
from collections.abc import Iterator

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jaspertc.config import CompressorConfig
from jaspertc.errors import RatioError
from jaspertc.model.backbones.qwen3 import SwiGLU
from jaspertc.model.compression import Ratio, Windows, check_ratio, target_lengths
from jaspertc.model.int8 import Int8Embedding
from jaspertc.model.transfer import to_device
from jaspertc.text.packing import IntArray

FOLDED_ROWS = 32  # rows of the folded table that are computed together


class ResidualSwiGLU(SwiGLU):
    """x + SwiGLU(x) with a zero last matrix at the start, so that it begins as the identity."""

    def __init__(self, width: int, middle: int) -> None:
        super().__init__(width, middle)
        nn.init.zeros_(self.down_proj.weight)

    def forward(self, x: Tensor) -> Tensor:
        return x + super().forward(x)


class Compressor(nn.Module):
    """No compression: every text keeps all its tokens. Also the interface of the others."""

    can_compress = False

    def __init__(self, config: CompressorConfig, width: int) -> None:
        super().__init__()
        self.config = config

    def target_lengths(
        self, lengths: IntArray, *, ratio: Ratio, threshold: int, max_compressed: int | None
    ) -> IntArray:
        """Compressed tokens per text, shape (N,) -> (N,)."""
        if (check_ratio(ratio, len(lengths)) < 1).any():
            raise RatioError(
                f"ratio is {ratio}, but this model has no compressor; leave it out, or graft one on: "
                "jaspertc graft SOURCE OUT"
            )
        bound = target_lengths(lengths, ratio=1.0, threshold=threshold, max_compressed=max_compressed)
        if (bound < lengths).any():
            raise RatioError(
                f"max_compressed is {max_compressed}, but this model has no compressor to keep to it; use "
                "max_length to cut texts"
            )
        return lengths

    def transform(self, x: Tensor) -> Tensor:
        """What each token's embedding passes through before pooling, (T, D) -> (T, D).

        It must depend on the token alone, so that it folds into the lookup table.
        """
        return x


class AdaptiveAverage(Compressor):
    """The report's compressor (section 2.2): an MLP per token, then AdaptiveAvgPool1d windows."""

    can_compress = True

    def __init__(self, config: CompressorConfig, width: int) -> None:
        super().__init__(config, width)
        self.mlp: nn.Module = MLPS[config.mlp](width, config.mlp_size)

    def target_lengths(
        self, lengths: IntArray, *, ratio: Ratio, threshold: int, max_compressed: int | None
    ) -> IntArray:
        return target_lengths(lengths, ratio=ratio, threshold=threshold, max_compressed=max_compressed)

    def transform(self, x: Tensor) -> Tensor:
        out: Tensor = self.mlp(x)
        return out


def _no_mlp(width: int, middle: int) -> nn.Module:
    return nn.Identity()


MLPS = {"none": _no_mlp, "swiglu": SwiGLU, "residual-swiglu": ResidualSwiGLU}
COMPRESSORS: dict[str, type[Compressor]] = {"none": Compressor, "adaptive-average": AdaptiveAverage}


def pool_windows(table: Tensor, rows: Tensor, plan: Windows) -> Tensor:
    """Mean of table rows over each window, for the whole batch at once: (R, D), (G,) -> (C, D)."""
    return F.embedding_bag(rows, table, to_device(plan.starts, rows.device), mode="mean")


class FoldedTable:
    """Token lookup and the compressor's per-token transform as one table, filled as tokens first occur.

    Exact, since the transform depends on the token id alone. Filling on demand makes loading free and
    keeps only touched rows in memory; safe to use from several threads. A row is always computed in the same
    place of a product of the same shape, so its last bit does not depend on which rows were filled with it.
    """

    def __init__(self, table: nn.Embedding | Int8Embedding, compressor: Compressor) -> None:
        stored = table.weight.detach()
        self._lookup = table
        self._compressor = compressor
        self._lock = threading.Lock()
        self._identity = compressor.config.mlp == "none" and stored.is_floating_point()
        dtype = stored.dtype if stored.is_floating_point() else torch.float32
        self._table = stored if self._identity else torch.empty_like(stored, dtype=dtype)
        self._ready = np.full(len(stored), self._identity)

    @torch.inference_mode()
    def for_ids(self, ids: IntArray) -> Tensor:
        """The table, shape (V, D), with the rows of these ids, shape (T,), filled in."""
        if self._identity:
            return self._table
        with self._lock:
            missing = np.unique(ids[~self._ready[ids]])
            for rows, places in _fixed_places(missing, FOLDED_ROWS):
                made = self._compressor.transform(self._lookup(to_device(rows, self._table.device)))
                filled = to_device(rows[places], made.device)
                self._table[filled] = made[to_device(places, made.device)]
            self._ready[missing] = True
        return self._table


def _fixed_places(ids: IntArray, size: int) -> Iterator[tuple[IntArray, IntArray]]:
    """Groups of ``size`` ids in which each id i has place i % size; id 0 fills what is left.

    Yields the ids of a group, shape (size,), and the places of those asked for.

    >>> [(group.tolist(), places.tolist()) for group, places in _fixed_places(np.array([1, 4, 6, 8]), 4)]
    [([4, 1, 6, 0], [0, 1, 2]), ([8, 0, 0, 0], [0])]
    """
    order = np.argsort(ids % size, kind="stable")
    ids = ids[order]
    place = ids % size
    group = np.arange(len(ids)) - np.searchsorted(place, place)  # how many before it have its place
    for number in range(int(group.max(initial=-1)) + 1):
        chosen = group == number
        rows = np.zeros(size, dtype=np.int64)
        rows[place[chosen]] = ids[chosen]
        yield rows, place[chosen]
