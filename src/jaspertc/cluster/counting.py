"""Counting the tokens that a model is given."""

from collections.abc import Iterable, Iterator
from typing import Any

from jaspertc.text.packing import PackedBatch
from jaspertc.types import FloatArray, IntArray


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
        vectors: Iterator[FloatArray] = self._runtime.embed_all(self._counted(batches))
        return vectors

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
    counting = CountingRuntime(embedder.texts.runtime)
    embedder.texts.runtime = counting
    return counting
