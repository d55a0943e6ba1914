"""What an Embedder asks of a runtime.

Shape legend: N texts, L tokens of one text, C compressed tokens, D model width, E width of the vectors.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from jaspertc.text.packing import PackedBatch, pack
from jaspertc.types import FloatArray, IntArray

# Compressed tokens per batch that keep the device busy; more only costs memory, since nothing is padded.
TOKEN_BUDGET = {"cpu": 2048, "cuda": 32768}


class Runtime(ABC):
    """Vectors from packed batches.

    Attributes:
        device: what computes; it has a ``type``, such as ``cpu``.
        precision: what products are computed in, such as ``int8``.
        token_budget: compressed tokens of a batch.
    """

    name: str
    device: Any
    precision: str
    token_budget: int

    def adjusted(self, targets: IntArray, *, most: IntArray) -> IntArray:
        """The compressed lengths computed in place of ``targets``, shape (N,), each up to ``most``."""
        return targets

    @abstractmethod
    def embed(self, batch: PackedBatch, targets: IntArray) -> FloatArray:
        """Vectors before normalisation, shape (N, E), float32, on the host."""

    def embed_all(self, batches: Iterable[tuple[PackedBatch, IntArray]]) -> Iterator[FloatArray]:
        """``embed`` of each batch, in order."""
        return (self.embed(batch, targets) for batch, targets in batches)

    @property
    def compiles_late(self) -> bool:
        """Whether layers are compiled when they are first needed, and not when the model is loaded."""
        return False

    def embed_one(self, ids: IntArray) -> FloatArray:
        """As ``embed``'s, of one text that keeps all of its tokens: ids, shape (L,) -> (1, E)."""
        return self.embed(pack([ids]), np.array([len(ids)], dtype=np.int64))

    @abstractmethod
    def embed_rows(self, rows: Any, lengths: IntArray) -> FloatArray:
        """Vectors before normalisation, shape (N, E), of rows that stand for compressed tokens, shape (C, D).

        Args:
            lengths: rows of each text or picture, shape (N,).
        """
