"""How many tokens of a text are kept, in which rows, and how many of them the layers compute.

Shape legend: N texts, R rows of token ids, L tokens of one text.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaspertc.checkpoint import Checkpoint
from jaspertc.engine.options import EncodeOptions, warn_of_long_texts
from jaspertc.engine.pieces import TextRows
from jaspertc.engine.runtimes.base import Runtime
from jaspertc.model.lengths import Ratio
from jaspertc.types import FloatArray, IntArray

PIECE_LENGTH = 512  # of models that name none, where pieces are asked for


class Fitting:
    """A model's limits, and its rule for compressed lengths."""

    def __init__(self, checkpoint: Checkpoint, runtime: Runtime) -> None:
        self._runtime = runtime
        self._checkpoint = checkpoint  # its tokenizer is read when first used
        self._compressor = checkpoint.compressor
        self._limit = checkpoint.info.max_length
        self._threshold = checkpoint.info.config.compressor.threshold
        self._piece_length = checkpoint.info.piece_length
        self.positions = checkpoint.info.config.backbone.max_positions
        self.can_compress = self._compressor.can_compress

    @property
    def max_length(self) -> int | None:
        """Tokens kept per text unless a call says otherwise; ``None`` keeps all."""
        if self.can_compress or self._piece_length is not None:
            return self._limit
        return self.positions if self._limit is None else min(self._limit, self.positions)

    @property
    def long_texts(self) -> str:
        """What is done with long texts unless a call says otherwise."""
        return "compress" if self._piece_length is None else "pieces"

    @property
    def piece_length(self) -> int:
        """Tokens of a piece where texts are cut into pieces."""
        return min(self.positions, self._piece_length or PIECE_LENGTH)

    def whole_up_to(self, options: EncodeOptions) -> int:
        """A length up to which every text is one row that keeps all of its tokens; 0: not looked for."""
        if not self.can_compress or options.threshold is not None or options.max_compressed is not None:
            return 0  # arguments to be checked
        most = self.max_length
        return min(self._threshold, self.piece_length, self.positions if most is None else most)

    def target_lengths(
        self,
        lengths: IntArray,
        *,
        ratio: Ratio,
        threshold: int | None,
        max_compressed: int | None,
        long_texts: str | None = None,
    ) -> IntArray:
        """See ``Embedder.target_lengths``."""
        targets = self._wanted(lengths, ratio, threshold, max_compressed)
        if (long_texts or self.long_texts) == "pieces":
            return targets
        return self._computed(targets, lengths, max_compressed)

    def fit(
        self,
        rows: Sequence[IntArray],
        ratios: Any,
        options: EncodeOptions,
        *,
        texts: Sequence[str] = (),
        prompt: str = "",
    ) -> "Fitted":
        """Rows that fit the model, and their compressed lengths.

        Args:
            rows: token ids of N texts, shape (L,) each.
            ratios: shape () or (N,).
            texts: what the rows are from, without prompt; where there are none, no row is cut into pieces.
        """
        threshold = self._threshold if options.threshold is None else options.threshold
        in_pieces = (options.long_texts or self.long_texts) == "pieces" and len(texts) > 0
        whole = TextRows.whole(rows)
        keep = np.broadcast_to(self._tokens_kept(ratios, threshold, options, in_pieces), whole.lengths.shape)
        cut = np.flatnonzero(whole.lengths > keep)
        if len(cut):
            shorter = list(rows)
            for index in cut.tolist():
                shorter[index] = self._checkpoint.tokenizer.truncate(rows[index], int(keep[index]))
            whole = TextRows.whole(shorter)
        spans = []
        if in_pieces:
            pieces = self._pieces(whole, texts, prompt)
            most = self.max_length if options.max_length is None else options.max_length
            for number, length in enumerate(whole.lengths.tolist()):
                if number in pieces:
                    spans.append(pieces[number][1])
                elif most is not None and length >= most:
                    spans.append(self._cut(texts[number], prompt, length)[1])
                else:
                    spans.append(np.array([[0, len(texts[number])]]))
            whole = whole.with_pieces({number: rows for number, (rows, _) in pieces.items()})
        wanted = self._wanted(whole.lengths, ratios, threshold, options.max_compressed)
        return Fitted(
            texts=whole,
            spans=spans,
            targets=self._of_rows(whole, wanted, options.max_compressed),
            cut=len(cut),
            compressed=0 if in_pieces else int((wanted > self.positions).sum()),
        )

    def text_rows(self, rows: Sequence[IntArray], texts: Sequence[str], prompt: str) -> TextRows:
        """The rows of texts, never cut short, in pieces where this model reads long texts so."""
        whole = TextRows.whole(rows)
        if self.long_texts != "pieces":
            return whole
        pieces = self._pieces(whole, texts, prompt)
        return whole.with_pieces({number: found for number, (found, _) in pieces.items()})

    def row_targets(
        self,
        texts: TextRows,
        *,
        ratio: Ratio,
        threshold: int | None = None,
        max_compressed: int | None = None,
    ) -> IntArray:
        """Tokens computed for each row of texts, shape (R,); arguments are for each text as a whole."""
        wanted = self._wanted(texts.lengths, ratio, threshold, max_compressed)
        return self._of_rows(texts, wanted, max_compressed)

    def _pieces(
        self, whole: TextRows, texts: Sequence[str], prompt: str
    ) -> dict[int, tuple[list[IntArray], IntArray]]:
        """Rows and characters of the texts that are longer than a piece, by number."""
        return {
            number: self._cut(texts[number], prompt, int(whole.lengths[number]))
            for number in np.flatnonzero(whole.lengths > self.piece_length).tolist()
        }

    def _cut(self, text: str, prompt: str, length: int) -> tuple[list[IntArray], IntArray]:
        return self._checkpoint.tokenizer.cut(text, prompt=prompt, room=self.piece_length, max_length=length)

    def _of_rows(self, texts: TextRows, wanted: IntArray, max_compressed: int | None) -> IntArray:
        """Tokens computed for each row, shape (R,), from those wanted for each text, shape (N,)."""
        if not texts.in_pieces:
            return self._computed(wanted, texts.lengths, max_compressed)
        lengths = np.array([len(row) for row in texts.rows], dtype=np.int64)
        return self._computed(texts.row_targets(wanted), lengths, None)

    def warn_of_long_texts(self, cut: int, compressed: int, total: int) -> None:
        """A ``LongTextWarning`` for texts that ``fit`` cut, and one for those that it compressed further."""
        positions = f"{self.positions} positions"
        named = self._limit is not None and (self.can_compress or self._limit < self.positions)
        limit = f"limit of {self._limit} tokens" if named else positions
        warn_of_long_texts(cut, total, f"{limit} and were cut: their ends are not in their vectors")
        warn_of_long_texts(
            compressed,
            total,
            f"{positions} and were compressed further, to that many tokens each: the longer a text, the less "
            "of it is kept (of texts, not token ids, long_texts='pieces' loses less)",
        )

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

    def _tokens_kept(self, ratios: Any, threshold: int, options: EncodeOptions, in_pieces: bool) -> Any:
        """Tokens before compression at which a text is cut: one number, or one per text."""
        limit, most = self.positions, self.max_length
        keep = np.inf if options.max_length is not None or most is None else most
        if in_pieces or (self.can_compress and (options.long_texts or self.long_texts) != "truncate"):
            return keep
        if not self.can_compress or threshold >= limit:
            return min(keep, limit)
        return np.minimum(keep, threshold + np.floor((limit - threshold) / ratios))


@dataclass(frozen=True, kw_only=True)
class Fitted:
    """Texts as they are computed.

    Attributes:
        spans: characters of each text's pieces, first and end, shape (pieces, 2); none unless in pieces.
        targets: compressed tokens of each row, shape (R,).
        cut: how many texts lost their end.
        compressed: how many were compressed further than asked for, to fit the positions.
    """

    texts: TextRows
    spans: list[IntArray]
    targets: IntArray
    cut: int
    compressed: int

    def combine(self, vectors: FloatArray) -> FloatArray:
        """One vector a text from those of its rows, (R, E) -> (N, E); see ``TextRows.combine``."""
        return self.texts.combine(vectors, self.targets)
