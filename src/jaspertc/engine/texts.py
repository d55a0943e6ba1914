"""Texts to vectors: token ids, rows that fit the model, batches, what the runtime gives.

Shape legend: N texts, L tokens of one text, E width of the vectors.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import replace
from typing import Any

import numpy as np

from jaspertc.checkpoint import Checkpoint
from jaspertc.engine import options as inputs
from jaspertc.engine.ahead import ahead
from jaspertc.engine.batching import plan_batches
from jaspertc.engine.fitting import Fitted, Fitting
from jaspertc.engine.options import EncodeArguments, EncodeOptions
from jaspertc.engine.pieces import TextPieces
from jaspertc.engine.precision import check_finite, normalized, to_precision
from jaspertc.engine.processes import computing
from jaspertc.engine.runtimes.base import Runtime
from jaspertc.errors import InputError
from jaspertc.model.lengths import Ratio
from jaspertc.text.packing import pack
from jaspertc.types import FloatArray, IntArray, VectorArray

CHARACTERS = 5  # of a token at most, when a text is so short that one look at its tokens is worth it


class TextSide:
    """The text side of a model that is loaded."""

    def __init__(self, checkpoint: Checkpoint, runtime: Runtime) -> None:
        self._checkpoint, self.runtime = checkpoint, runtime
        self.fitting = Fitting(checkpoint, runtime)

    @property
    def prompts(self) -> Mapping[str, str]:
        """Prompt texts by name."""
        return self._checkpoint.info.prompts

    @property
    def default_ratio(self) -> float:
        """See ``Embedder.default_ratio``."""
        return self._checkpoint.info.config.compressor.ratio if self.fitting.can_compress else 1.0

    @property
    def _no_vectors(self) -> FloatArray:
        """Shape (0, E)."""
        return np.empty((0, self._checkpoint.info.config.embedding_dims), dtype=np.float32)

    def tokenize(
        self, texts: Sequence[str], *, prompt: str = "", max_length: int | None = None, first_index: int = 0
    ) -> list[IntArray]:
        """Token ids of each text, shape (L,); see ``Embedder.tokenize``.

        Raises:
            InputError: a text is not a string; its index (from ``first_index``) is named.
        """
        texts = list(texts) if isinstance(texts, Iterator) else texts
        inputs.check_strings(texts, first_index)
        with computing:
            return self._checkpoint.tokenizer.encode_batch(
                [prompt + text for text in texts] if prompt else texts, max_length=max_length
            )

    def prompt_text(self, prompt: str | None, prompt_name: str | None) -> str:
        """See ``Embedder.prompt_text``."""
        if prompt is not None and prompt_name is not None:
            raise InputError("give prompt (a text) or prompt_name, not both")
        if prompt is not None:
            return prompt
        name = self._checkpoint.info.default_prompt_name if prompt_name is None else prompt_name
        if name is None:
            return ""
        if name not in self.prompts:
            raise InputError(
                f"prompt_name is {name!r}, this model has {', '.join(self.prompts) or 'no prompts'}"
            )
        return self.prompts[name]

    def with_prompt(self, names: Sequence[str], arguments: EncodeArguments) -> EncodeArguments:
        """The arguments, with the first of these prompts that the model has unless they name one."""
        if "prompt" in arguments or "prompt_name" in arguments:
            return arguments
        known = [name for name in names if name in self.prompts]
        return {**arguments, "prompt_name": known[0]} if known else {**arguments, "prompt": ""}

    def embed(self, texts: Iterable[str], options: EncodeOptions) -> Iterator[VectorArray]:
        """Blocks of vectors, in order. All that can be checked before a text is read is checked at once."""
        return (self.finish(block.combine(rows), options) for block, rows in self._embedded(texts, options))

    def embed_all(self, texts: Iterable[str], options: EncodeOptions) -> VectorArray:
        """Vectors of all texts, shape (N, E)."""
        alone = self._alone(texts, options)
        if alone is not None:
            return self.finish(alone, options)
        blocks = list(self.embed(texts, options))
        return np.concatenate(blocks) if blocks else self.finish(self._no_vectors, options)

    def _alone(self, texts: Iterable[str], options: EncodeOptions) -> FloatArray | None:
        """The raw vector, shape (1, E), of a single short text that keeps all of its tokens, such as a query.

        The shorter way of what ``_embed_blocks`` does; ``None``: this needs the longer one.
        """
        text = texts[0] if isinstance(texts, (list, tuple)) and len(texts) == 1 else None
        most = self.fitting.whole_up_to(options)
        if not isinstance(text, str) or len(text) > CHARACTERS * most or options.show_progress:
            return None
        self.check_dims(options.dims)
        prefix = self.prompt_text(options.prompt, options.prompt_name)
        self.ratios(options.ratio, [text])
        (ids,) = self.tokenize([text], prompt=prefix, max_length=options.max_length)
        if len(ids) > most:
            return None
        return check_finite(self.runtime.embed_one(ids))

    def embed_pieces(self, texts: Iterable[str], options: EncodeOptions) -> Iterator[TextPieces]:
        """The pieces of each text, in order; checked as ``embed`` does."""
        if options.long_texts is not None:
            raise InputError("encode_pieces always cuts long texts into pieces; leave long_texts out")
        options = replace(options, long_texts="pieces")
        return (
            TextPieces(vectors=self.finish(part, options), spans=spans)
            for block, vectors in self._embedded(texts, options)
            for (_, part), spans in zip(block.texts.each(vectors), block.spans)
        )

    def _embedded(self, texts: Iterable[str], options: EncodeOptions) -> Iterator[tuple[Fitted, FloatArray]]:
        inputs.check_texts(texts)
        self.check_dims(options.dims)
        prefix = self.prompt_text(options.prompt, options.prompt_name)
        ratios = self.ratios(options.ratio, texts)
        return self._embed_blocks(texts, options, prefix, ratios)

    def _embed_blocks(
        self, texts: Iterable[str], options: EncodeOptions, prefix: str, ratios: Any
    ) -> Iterator[tuple[Fitted, FloatArray]]:
        """Blocks of texts, and the raw vectors of their rows."""

        def fitted(chunk: tuple[int, list[str]]) -> Fitted:
            begin, block = chunk
            rows = self.tokenize(block, prompt=prefix, max_length=options.max_length, first_index=begin)
            part = ratios if ratios.ndim == 0 else ratios[begin : begin + len(block)]
            with computing:  # long texts are tokenised again, in pieces
                return self.fitting.fit(rows, part, options, texts=block, prompt=prefix)

        done = cut = compressed = 0
        blocks = ahead(fitted, inputs.chunks(texts, options.block_size))
        with inputs.progress(texts, options.show_progress) as advance, closing(blocks):
            for block in blocks:
                vectors = self._embed_rows(block.texts.rows, block.targets, block.texts.told(advance))
                check_finite(block.combine(vectors), "text", done)
                yield block, vectors
                done, cut = done + len(block.texts), cut + block.cut
                compressed += block.compressed
        self.fitting.warn_of_long_texts(cut, compressed, done)

    def embed_ids(
        self,
        rows: Iterable[Sequence[int] | IntArray],
        ratio: Ratio | None,
        threshold: int | None,
        max_compressed: int | None,
        normalize: bool | None,
    ) -> FloatArray:
        """See ``Embedder.encode_ids``."""
        inputs.check_rows(rows)
        vocabulary = self._checkpoint.info.config.backbone.vocab_size
        ids = [inputs.token_ids(index, row, vocabulary) for index, row in enumerate(rows)]
        if not ids:
            return self._no_vectors
        lengths = np.array([len(row) for row in ids], dtype=np.int64)
        over = np.flatnonzero(lengths > self.fitting.positions)
        if len(over) and not self.fitting.can_compress:
            raise InputError(
                f"row {over[0]} has {lengths[over[0]]} tokens, this model has {self.fitting.positions} "
                "positions and no compressor; cut the row"
            )
        # A limit on the length of texts is no reason to cut ids: max_length=longest switches it off.
        options = EncodeOptions(
            threshold=threshold, max_compressed=max_compressed, max_length=int(lengths.max())
        )
        fitted = self.fitting.fit(ids, self.ratios(ratio, ids), options)
        self.fitting.warn_of_long_texts(0, fitted.compressed, len(ids))
        vectors = check_finite(self._embed_rows(ids, fitted.targets), "row")
        return normalized(vectors) if self._normalizes(normalize) else vectors

    def ratios(self, ratio: Ratio | None, texts: Any) -> Any:
        """Checked, shape () or (N,)."""
        return inputs.checked_ratios(self.default_ratio if ratio is None else ratio, texts)

    def check_dims(self, dims: int | None) -> None:
        """Raise InputError unless the model was trained for vectors of this width."""
        config = self._checkpoint.info.config
        inputs.check_dims(dims, (*config.head.matryoshka, config.embedding_dims))

    def finish(self, vectors: FloatArray, options: EncodeOptions) -> VectorArray:
        """Raw vectors, shape (N, E), of the width, length and precision that are asked for."""
        vectors = vectors[:, : options.dims]
        if self._normalizes(options.normalize):
            vectors = normalized(vectors)
        return to_precision(vectors, options.precision)

    def _normalizes(self, asked: bool | None) -> bool:
        inputs.check_normalize(asked)
        return self._checkpoint.info.config.normalize if asked is None else asked

    def _embed_rows(
        self,
        rows: Sequence[IntArray],
        targets: IntArray,
        advance: Callable[[IntArray], None] = lambda rows: None,
    ) -> FloatArray:
        """Raw vectors in the order given; ``advance`` is told of the rows of each batch."""
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        vectors = np.empty((len(rows), self._no_vectors.shape[1]), dtype=np.float32)
        pieces = plan_batches(targets, lengths, token_budget=self.runtime.token_budget)
        batches = ((pack([rows[i] for i in index]), targets[index]) for index in pieces)
        for index, found in zip(pieces, self.runtime.embed_all(batches)):
            vectors[index] = found
            advance(index)
        return vectors
