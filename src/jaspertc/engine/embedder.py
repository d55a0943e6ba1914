"""The public way to embed text.

Shape legend: N texts, L tokens of one text, E width of the vectors.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from jaspertc.checkpoint import Checkpoint, load_checkpoint
from jaspertc.config import ModelConfig
from jaspertc.engine import options as inputs
from jaspertc.engine.ahead import ahead
from jaspertc.engine.batching import plan_batches
from jaspertc.engine.fitting import Fitted, Fitting
from jaspertc.engine.options import EncodeOptions
from jaspertc.engine.pictures import PictureSide
from jaspertc.engine.pieces import TextPieces
from jaspertc.engine.precision import check_finite, normalized, similarity, to_precision
from jaspertc.engine.runtimes import build_runtime
from jaspertc.engine.runtimes.torch_runtime import TorchRuntime
from jaspertc.errors import InputError
from jaspertc.model.lengths import Ratio
from jaspertc.text.packing import pack
from jaspertc.types import FloatArray, IntArray, VectorArray


class Embedder:
    """Texts to vectors, with the compression ratio chosen at each call.

    Nothing of a call is remembered: ratio, threshold, prompt and lengths are arguments, and a vector does
    not depend on which other texts are in the call. Safe to use from several threads.

    Example:
        >>> from jaspertc import Embedder
        >>> model = Embedder.load("mini")
        >>> model.encode(["a cat on the mat", "一只猫在垫子上"], ratio=0.33).shape[0]
        2
    """

    similarity = staticmethod(similarity)

    def __init__(self, checkpoint: Checkpoint, runtime: TorchRuntime) -> None:
        self.checkpoint = checkpoint
        self.runtime = runtime
        self.fitting = Fitting(checkpoint, runtime)
        self.pictures = PictureSide(checkpoint, runtime)

    @classmethod
    def load(
        cls,
        name: str | Path = "mini",
        *,
        device: str = "auto",
        dtype: str = "auto",
        runtime: str = "auto",
        pooler: str | None = None,
    ) -> "Embedder":
        """Load a model.

        Args:
            name: ``mini`` (in the package), a checkpoint folder, or a hub name such as ``org/model``.
            device: ``auto``, ``cpu``, ``cuda``, ``cuda:1`` ...
            dtype: ``auto``, ``float32`` or ``bfloat16``.
            runtime: what computes: ``torch``, ``openvino`` (CPU) or ``auto``; see ``build_runtime``.
            pooler: overrides the folder's pooling (``mean``, ``last``, ``first``).

        Raises:
            CheckpointError: the model is missing, incomplete, corrupt or of an unsupported kind.
            InputError: device, dtype or runtime is not available.
        """
        checkpoint = load_checkpoint(name, pooler=pooler, keep_int8=True)
        return cls(checkpoint, build_runtime(runtime, checkpoint, device=device, dtype=dtype))

    def __repr__(self) -> str:
        return (
            f"Embedder({self.checkpoint.name!r}, dims={self.dims}, device={str(self.runtime.device)!r}, "
            f"runtime={self.runtime.name!r})"
        )

    @property
    def config(self) -> ModelConfig:
        """The model's architecture."""
        return self.checkpoint.info.config

    @property
    def dims(self) -> int:
        """E, the width of the vectors."""
        return self.config.embedding_dims

    @property
    def max_length(self) -> int | None:
        """Tokens kept per text unless a call says otherwise; ``None`` keeps all.

        A model without a compressor keeps no more than it has positions.
        """
        return self.fitting.max_length

    @property
    def long_texts(self) -> str:
        """What is done with long texts unless a call says otherwise: ``pieces`` or ``compress``."""
        return self.fitting.long_texts

    @property
    def piece_length(self) -> int:
        """Tokens of a piece, prompt and special tokens included, where long texts are cut into pieces."""
        return self.fitting.piece_length

    @property
    def prompts(self) -> dict[str, str]:
        """Prompt texts by name."""
        return dict(self.checkpoint.info.prompts)

    @property
    def fingerprint(self) -> str:
        """Hash of weights, configuration and tokenizer."""
        return self.checkpoint.fingerprint

    @property
    def default_ratio(self) -> float:
        """The ratio used when a call gives none; 1 for a model without a compressor."""
        return self.config.compressor.ratio if self.fitting.can_compress else 1.0

    @property
    def default_threshold(self) -> int:
        """The length threshold used when a call gives none, in tokens."""
        return self.config.compressor.threshold

    def encode(
        self,
        texts: str | Iterable[str],
        *,
        prompt: str | None = None,
        prompt_name: str | None = None,
        ratio: Ratio | None = None,
        threshold: int | None = None,
        max_compressed: int | None = None,
        max_length: int | None = None,
        dims: int | None = None,
        normalize: bool | None = None,
        precision: str = "float32",
        long_texts: str | None = None,
        show_progress: bool = False,
    ) -> VectorArray:
        """Embed texts.

        Args:
            texts: one string, or any iterable of strings, read lazily.
            prompt: text put before each text; ``""`` for none. Default: ``prompt_name``'s, else the
                model's own default prompt.
            prompt_name: name of one of ``self.prompts``.
            ratio: compression ratio in (0, 1] for tokens above the threshold; one, or one per text.
            threshold: texts up to this many tokens are not compressed, >= 1.
            max_compressed: choose a lower ratio for any text that would cost more than this many tokens.
            max_length: keep this many tokens of each text, before compression; default ``self.max_length``.
            dims: cut vectors to this width, if the model was trained for it (then normalise again).
            normalize: unit length; default as the model's folder says.
            precision: ``float32``, ``float16``, ``int8`` or ``ubinary``; see ``to_precision``.
            long_texts: ``pieces``: a text longer than the model reads well (``self.piece_length``) is cut at
                ends of sentences into rows of their own, which share its compressed tokens; its vector is
                their mean, earlier ones counting more. ``compress``: what exceeds the positions is compressed
                further. ``truncate``: it loses its end. Default: ``self.long_texts``. A ``LongTextWarning``
                counts texts that were cut or compressed further.
            show_progress: draw a progress bar on standard error.

        Returns:
            Shape (N, E), or (E,) for one string; float32 unless ``precision`` says otherwise.
            No text gives shape (0, E). An empty text is a text: its vector is the model's for its
            special tokens and prompt.

        Raises:
            InputError: a text is not a string (its index is named), or an argument is not allowed.
            RatioError: ratio, threshold or max_compressed is out of range.
        """
        single = isinstance(texts, str)
        items: Iterable[str] = [texts] if isinstance(texts, str) else texts
        options = EncodeOptions(
            prompt=prompt,
            prompt_name=prompt_name,
            ratio=ratio,
            threshold=threshold,
            max_compressed=max_compressed,
            max_length=max_length,
            dims=dims,
            normalize=normalize,
            precision=precision,
            long_texts=long_texts,
            show_progress=show_progress,
        )
        found = list(self._blocks(items, options))
        vectors = np.concatenate(found) if found else self._finish(self._no_vectors(), options)
        return vectors[0] if single else vectors

    def encode_query(self, texts: str | Iterable[str], **options: Any) -> VectorArray:
        """``encode`` with the model's ``query`` prompt, if it has one."""
        return self.encode(texts, **self._named_prompt("query", options))

    def encode_document(self, texts: str | Iterable[str], **options: Any) -> VectorArray:
        """``encode`` with the model's ``document`` (or ``passage``) prompt, if it has one."""
        name = "document" if "document" in self.prompts else "passage"
        return self.encode(texts, **self._named_prompt(name, options))

    def encode_stream(self, texts: Iterable[str], **options: Any) -> Iterator[VectorArray]:
        """``encode`` in constant memory: yields (n, E) blocks in order, reading texts one block ahead.

        Args:
            texts: as ``encode``'s, but no single string. They are read in the thread that takes the blocks.
            options: as ``encode``'s, and ``block_size``: texts a block, 4096 by default; fewer if long.

        Raises:
            InputError: as ``encode``, in the place of the block; arguments are checked at once.
        """
        if isinstance(texts, str):
            raise InputError("texts is a str, encode_stream needs an iterable of strings")
        return self._blocks(texts, EncodeOptions(**options))

    def encode_pieces(self, texts: Iterable[str], **options: Any) -> Iterator[TextPieces]:
        """The pieces of each text in one pass, in constant memory: a vector and the characters of each.

        A text up to ``self.piece_length`` tokens is one piece. Before normalisation, the weighted mean of a
        text's pieces is its vector in ``encode`` (``long_texts="pieces"``).

        Args:
            texts: as ``encode_stream``'s.
            options: as ``encode_stream``'s, but ``long_texts``. ``ratio``, ``threshold`` and
                ``max_compressed`` are for each text as a whole.

        Raises:
            InputError: as ``encode_stream``.

        >>> model = Embedder.load("mini")
        >>> found = next(model.encode_pieces(["One sentence of a long story. " * 200]))
        >>> len(found.vectors), found.spans[-1].tolist()[1]
        (4, 6000)
        """
        if isinstance(texts, str):
            raise InputError("texts is a str, encode_pieces needs an iterable of strings")
        if "long_texts" in options:
            raise InputError("encode_pieces always cuts long texts into pieces; leave long_texts out")
        chosen = EncodeOptions(**options, long_texts="pieces")
        return (
            TextPieces(vectors=self._finish(part, chosen), spans=spans)
            for block, vectors in self._embedded(texts, chosen)
            for (_, part), spans in zip(block.texts.each(vectors), block.spans)
        )

    def _blocks(self, texts: Iterable[str], options: EncodeOptions) -> Iterator[VectorArray]:
        return (
            self._finish(block.texts.combine(rows), options) for block, rows in self._embedded(texts, options)
        )

    def _embedded(self, texts: Iterable[str], options: EncodeOptions) -> Iterator[tuple[Fitted, FloatArray]]:
        """Check everything that can be checked before a text is read, then read on demand."""
        inputs.check_iterable(texts)
        inputs.check_dims(options.dims, (*self.config.head.matryoshka, self.dims))
        prefix = self.prompt_text(options.prompt, options.prompt_name)
        ratios = self._ratios(options.ratio, texts)
        return self._read_blocks(texts, options, prefix, ratios)

    def _read_blocks(
        self, texts: Iterable[str], options: EncodeOptions, prefix: str, ratios: Any
    ) -> Iterator[tuple[Fitted, FloatArray]]:
        """Blocks of texts, and the raw vectors of their rows."""

        def fitted(chunk: tuple[int, list[str]]) -> Fitted:
            begin, block = chunk
            rows = self.tokenize(block, prompt=prefix, max_length=options.max_length, first_index=begin)
            part = ratios if ratios.ndim == 0 else ratios[begin : begin + len(block)]
            return self.fitting.fit(rows, part, options, texts=block, prompt=prefix)

        done = cut = compressed = 0
        blocks = ahead(fitted, inputs.chunks(texts, options.block_size))
        with inputs.progress(texts, options.show_progress) as advance, closing(blocks):
            for block in blocks:
                vectors = self._embed_rows(block.texts.rows, block.targets, block.texts.told(advance))
                check_finite(block.texts.combine(vectors), "text", done)
                yield block, vectors
                done, cut = done + len(block.texts), cut + block.cut
                compressed += block.compressed
        self.fitting.warn_of_long_texts(cut, compressed, done)

    def encode_image(
        self,
        pictures: Any,
        *,
        tokens: int | None = None,
        dims: int | None = None,
        normalize: bool | None = None,
        precision: str = "float32",
        show_progress: bool = False,
    ) -> VectorArray:
        """Embed pictures into the space of the texts.

        Args:
            pictures: one, or a sequence: paths, file contents, PIL images, or uint8 arrays of shape (H, W),
                (H, W, 3) or (H, W, 4). Of several frames the first is taken; what is transparent is white.
            tokens: of each picture, k x k: 1, 4, 9 ... up to ``pictures.tower.most_tokens``; more are
                slower and see more. Default: the model's.
            dims, normalize, precision, show_progress: as in ``encode``.

        Returns:
            Shape (N, E), or (E,) for one picture.

        Raises:
            CheckpointError: the model knows texts only.
            PictureError: a picture cannot be read, or is too large.
            InputError: an argument is not allowed.
        """
        inputs.check_dims(dims, (*self.config.head.matryoshka, self.dims))
        options = EncodeOptions(dims=dims, normalize=normalize, precision=precision)
        single = not isinstance(pictures, Sequence) or isinstance(pictures, (str, bytes))
        items = [pictures] if single else pictures
        with inputs.progress(items, show_progress) as advance:
            vectors = self._finish(self.pictures.embed_all(items, tokens, advance), options)
        return vectors[0] if single else vectors

    def encode_ids(
        self,
        rows: Iterable[Sequence[int] | IntArray],
        *,
        ratio: Ratio | None = None,
        threshold: int | None = None,
        max_compressed: int | None = None,
        normalize: bool | None = None,
    ) -> FloatArray:
        """Embed token ids, as they are: no prompt, special tokens or tokenizer.

        Args:
            rows: N sequences of token ids of this model's vocabulary, each with at least one.
            ratio: as in ``encode``.
            threshold: as in ``encode``.
            max_compressed: as in ``encode``.
            normalize: ``False`` gives the head's raw output.

        Returns:
            Shape (N, E), float32.

        Raises:
            InputError: a row is empty, not integers, or has an id outside the vocabulary.
        """
        inputs.check_iterable(rows)
        ids = [inputs.token_ids(index, row) for index, row in enumerate(rows)]
        if not ids:
            return self._no_vectors()
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
        fitted = self.fitting.fit(ids, self._ratios(ratio, ids), options)
        self.fitting.warn_of_long_texts(0, fitted.compressed, len(ids))
        vectors = check_finite(self._embed_rows(ids, fitted.targets), "row")
        return normalized(vectors) if (self.config.normalize if normalize is None else normalize) else vectors

    def tokenize(
        self, texts: Sequence[str], *, prompt: str = "", max_length: int | None = None, first_index: int = 0
    ) -> list[IntArray]:
        """Token ids of each text with ``prompt`` before it, shape (L,) each, at most ``max_length`` kept.

        Raises:
            InputError: a text is not a string; its index (from ``first_index``) is named.
        """
        inputs.check_strings(texts, first_index)
        return self.checkpoint.tokenizer.encode_batch(
            [prompt + text for text in texts] if prompt else texts, max_length=max_length
        )

    def target_lengths(
        self,
        lengths: IntArray,
        *,
        ratio: Ratio | None = None,
        threshold: int | None = None,
        max_compressed: int | None = None,
    ) -> IntArray:
        """Tokens computed for texts with these token counts, all pieces together, (N,) -> (N,)."""
        return self.fitting.target_lengths(
            lengths,
            ratio=self.default_ratio if ratio is None else ratio,
            threshold=threshold,
            max_compressed=max_compressed,
        )

    def prompt_text(self, prompt: str | None = None, prompt_name: str | None = None) -> str:
        """The text put before each text.

        Raises:
            InputError: both are given, or the name is not one of ``self.prompts``.
        """
        if prompt is not None and prompt_name is not None:
            raise InputError("give prompt (a text) or prompt_name, not both")
        if prompt is not None:
            return prompt
        name = self.checkpoint.info.default_prompt_name if prompt_name is None else prompt_name
        if name is None:
            return ""
        if name not in self.prompts:
            raise InputError(
                f"prompt_name is {name!r}, this model has {', '.join(self.prompts) or 'no prompts'}"
            )
        return self.prompts[name]

    def _named_prompt(self, name: str, options: dict[str, Any]) -> dict[str, Any]:
        if "prompt" in options or "prompt_name" in options:
            return options
        if name in self.prompts:
            return {**options, "prompt_name": name}
        return {**options, "prompt": ""}

    def _ratios(self, ratio: Ratio | None, texts: Any) -> Any:
        return inputs.checked_ratios(self.default_ratio if ratio is None else ratio, texts)

    def _embed_rows(
        self,
        rows: Sequence[IntArray],
        targets: IntArray,
        advance: Callable[[IntArray], None] = lambda rows: None,
    ) -> FloatArray:
        """Raw vectors in the order given; ``advance`` is told of the rows of each batch."""
        lengths = np.array([len(row) for row in rows], dtype=np.int64)
        vectors = np.empty((len(rows), self.dims), dtype=np.float32)
        pieces = plan_batches(targets, lengths, token_budget=self.runtime.token_budget)
        batches = ((pack([rows[i] for i in index]), targets[index]) for index in pieces)
        for index, found in zip(pieces, self.runtime.embed_all(batches)):
            vectors[index] = found
            advance(index)
        return vectors

    def _no_vectors(self) -> FloatArray:
        return np.empty((0, self.dims), dtype=np.float32)

    def _finish(self, vectors: FloatArray, options: EncodeOptions) -> VectorArray:
        vectors = vectors[:, : options.dims]
        if self.config.normalize if options.normalize is None else options.normalize:
            vectors = normalized(vectors)
        return to_precision(vectors, options.precision)
