"""How many tokens of a text are kept, and how many of them the layers compute.

Shape legend: N texts, L tokens of one text.
"""

from typing import Any

import numpy as np

from jaspertc.checkpoint import Checkpoint
from jaspertc.engine.options import EncodeOptions, warn_of_long_texts
from jaspertc.engine.runtimes.torch_runtime import TorchRuntime
from jaspertc.model.compression import Ratio
from jaspertc.text.packing import IntArray


class Fitting:
    """A model's limits, and its rule for compressed lengths."""

    def __init__(self, checkpoint: Checkpoint, runtime: TorchRuntime) -> None:
        self._runtime = runtime
        self._checkpoint = checkpoint  # its tokenizer is read when first used
        self._compressor = checkpoint.encoder.compressor
        self._limit = checkpoint.info.max_length
        self._threshold = checkpoint.info.config.compressor.threshold
        self.positions = checkpoint.info.config.backbone.max_positions
        self.can_compress = self._compressor.can_compress

    @property
    def max_length(self) -> int | None:
        """Tokens kept per text unless a call says otherwise; ``None`` keeps all."""
        if self.can_compress:
            return self._limit
        return self.positions if self._limit is None else min(self._limit, self.positions)

    def target_lengths(
        self, lengths: IntArray, *, ratio: Ratio, threshold: int | None, max_compressed: int | None
    ) -> IntArray:
        """See ``Embedder.target_lengths``."""
        wanted = self._wanted(lengths, ratio, threshold, max_compressed)
        return self._computed(wanted, lengths, max_compressed)

    def fit(
        self, rows: list[IntArray], ratios: Any, options: EncodeOptions
    ) -> tuple[list[IntArray], IntArray, int, int]:
        """Rows that fit the model, their compressed lengths, how many were cut and how many compressed.

        Args:
            rows: token ids of N texts, shape (L,) each.
            ratios: shape () or (N,).
        """
        threshold = self._threshold if options.threshold is None else options.threshold
        keep = self._tokens_kept(ratios, threshold, options)
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        cut = np.flatnonzero(lengths > keep)
        if len(cut):
            most = np.broadcast_to(keep, lengths.shape)
            rows = list(rows)
            for index in cut:
                rows[index] = self._checkpoint.tokenizer.truncate(rows[index], int(most[index]))
                lengths[index] = len(rows[index])
        wanted = self._wanted(lengths, ratios, threshold, options.max_compressed)
        targets = self._computed(wanted, lengths, options.max_compressed)
        return rows, targets, len(cut), int((wanted > self.positions).sum())

    def warn_of_long_texts(self, cut: int, compressed: int, total: int) -> None:
        """A ``LongTextWarning`` for texts that ``fit`` cut, and one for those that it compressed further."""
        positions = f"{self.positions} positions"
        named = self._limit is not None and (self.can_compress or self._limit < self.positions)
        warn_of_long_texts(
            cut, total, f"{f'limit of {self._limit} tokens' if named else positions} and were cut"
        )
        warn_of_long_texts(compressed, total, f"{positions} and were compressed further")

    def _wanted(
        self, lengths: IntArray, ratio: Ratio, threshold: int | None, max_compressed: int | None
    ) -> IntArray:
        return self._compressor.target_lengths(
            lengths,
            ratio=ratio,
            threshold=self._threshold if threshold is None else threshold,
            max_compressed=max_compressed,
        )

    def _computed(self, wanted: IntArray, lengths: IntArray, max_compressed: int | None) -> IntArray:
        """The compressed lengths that fit the positions and suit the runtime."""
        limit = self.positions if max_compressed is None else min(self.positions, max_compressed)
        return self._runtime.adjusted(np.minimum(wanted, self.positions), most=np.minimum(lengths, limit))

    def _tokens_kept(self, ratios: Any, threshold: int, options: EncodeOptions) -> Any:
        """Tokens before compression at which a text is cut: one number, or one per text."""
        limit, most = self.positions, self.max_length
        keep = np.inf if options.max_length is not None or most is None else most
        if self.can_compress and options.long_texts == "compress":
            return keep
        if not self.can_compress or threshold >= limit:
            return min(keep, limit)
        return np.minimum(keep, threshold + np.floor((limit - threshold) / ratios))
