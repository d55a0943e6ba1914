"""What a worker adds to a model: tokens are counted, and vectors do not depend on what it did before."""

from collections.abc import Iterable, Iterator
from typing import Any

import numpy as np

from jaspertc.engine.precision import FloatArray
from jaspertc.text.packing import IntArray, PackedBatch

FOLDED_AT_ONCE = 4096


class CountingRuntime:
    """A runtime that counts on the way.

    Attributes:
        tokens: of all texts embedded, before compression.
        compressed: after it.
    """

    def __init__(self, runtime: Any) -> None:
        self._runtime = runtime
        self.tokens = self.compressed = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._runtime, name)

    def embed(self, batch: PackedBatch, targets: IntArray) -> FloatArray:
        """See ``TorchRuntime.embed``."""
        self._count(batch, targets)
        vectors: FloatArray = self._runtime.embed(batch, targets)
        return vectors

    def embed_all(self, batches: Iterable[tuple[PackedBatch, IntArray]]) -> Iterator[FloatArray]:
        """See ``TorchRuntime.embed_all``."""
        found: Iterator[FloatArray] = self._runtime.embed_all(self._counted(batches))
        return found

    def _counted(
        self, batches: Iterable[tuple[PackedBatch, IntArray]]
    ) -> Iterator[tuple[PackedBatch, IntArray]]:
        for batch, targets in batches:
            self._count(batch, targets)
            yield batch, targets

    def _count(self, batch: PackedBatch, targets: IntArray) -> None:
        self.tokens += int(batch.lengths.sum())
        self.compressed += int(targets.sum())


def count_tokens(embedder: Any) -> CountingRuntime:
    """Have an ``Embedder`` counted from now on."""
    counting = CountingRuntime(embedder.runtime)
    embedder.runtime = counting
    return counting


def fold_whole_table(embedder: Any) -> None:
    """Fill the table of the compressor's MLP now, in a fixed order.

    Rows filled as tokens first occur differ in their last bit with the tokens beside them; a shard must be
    the same whichever worker makes it, and whatever that worker did before.
    """
    encoder = embedder.checkpoint.encoder
    folded = getattr(encoder, "_folded", None)
    if folded is not None:
        tokens = np.arange(encoder.backbone.token_table.num_embeddings)
        for begin in range(0, len(tokens), FOLDED_AT_ONCE):
            folded.for_ids(tokens[begin : begin + FOLDED_AT_ONCE])
