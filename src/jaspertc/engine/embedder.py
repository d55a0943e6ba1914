"""The public way to embed text.

Shape legend: N texts, L tokens of one text, E width of the vectors.
"""

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Unpack

from jaspertc.checkpoint import Checkpoint, load_checkpoint, resolve
from jaspertc.config import ModelConfig
from jaspertc.engine import options as inputs
from jaspertc.engine.options import EncodeArguments, EncodeOptions, StreamArguments
from jaspertc.engine.pictures import PictureSide
from jaspertc.engine.pieces import TextPieces
from jaspertc.engine.precision import similarity
from jaspertc.engine.processes import Origin, computing, pickled, remember
from jaspertc.engine.runtimes import build_runtime
from jaspertc.engine.runtimes.base import Runtime
from jaspertc.engine.texts import TextSide
from jaspertc.errors import InputError
from jaspertc.model.lengths import Ratio
from jaspertc.types import FloatArray, IntArray, VectorArray, is_integer


class Embedder:
    """Texts to vectors, with the compression ratio chosen at each call.

    Nothing of a call is remembered: ratio, threshold, prompt and lengths are arguments, and a vector does
    not depend on which other texts are in the call. Safe to use from several threads, in forked processes
    (which compute with one thread), and pickled.

    Example:
        >>> from jaspertc import Embedder
        >>> model = Embedder.load("mini")
        >>> model.encode(["a cat on the mat", "一只猫在垫子上"], ratio=0.33).shape[0]
        2
    """

    similarity = staticmethod(similarity)

    def __init__(self, checkpoint: Checkpoint, runtime: Runtime) -> None:
        self.checkpoint = checkpoint
        self.runtime = runtime
        self.texts = TextSide(checkpoint, runtime)
        self.fitting = self.texts.fitting
        self.pictures = PictureSide(checkpoint, runtime)
        self.origin: Origin | None = None

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
            runtime: what computes: ``torch``, ``openvino`` or ``onnxruntime`` (both CPU) or ``auto``; see
                ``build_runtime``.
            pooler: overrides the folder's pooling (``mean``, ``last``, ``first``).

        Raises:
            CheckpointError: the model is missing, incomplete, corrupt or of an unsupported kind.
            InputError: device, dtype or runtime is not available.
        """
        folder = resolve(name)
        with computing:
            checkpoint = load_checkpoint(folder, pooler=pooler, keep_int8=True)
            checkpoint.name = str(name)
            embedder = cls(checkpoint, build_runtime(runtime, checkpoint, device=device, dtype=dtype))
        arguments = (("device", device), ("dtype", dtype), ("runtime", runtime), ("pooler", pooler))
        embedder.origin = Origin(str(name), folder.absolute(), arguments, checkpoint.stamps)
        remember(embedder)
        return embedder

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickled, a model is its folder (or name) and the arguments of ``load``; copied, it is itself."""
        return pickled(self)

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
        return self.texts.default_ratio

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
        vectors = self.texts.embed_all([texts] if isinstance(texts, str) else texts, options)
        return vectors[0] if isinstance(texts, str) else vectors

    def encode_query(self, texts: str | Iterable[str], **arguments: Unpack[EncodeArguments]) -> VectorArray:
        """``encode`` with the model's ``query`` prompt, if it has one."""
        return self.encode(texts, **self.texts.with_prompt(["query"], arguments))

    def encode_document(
        self, texts: str | Iterable[str], **arguments: Unpack[EncodeArguments]
    ) -> VectorArray:
        """``encode`` with the model's ``document`` (or ``passage``) prompt, if it has one."""
        return self.encode(texts, **self.texts.with_prompt(["document", "passage"], arguments))

    def encode_stream(
        self, texts: Iterable[str], **arguments: Unpack[StreamArguments]
    ) -> Iterator[VectorArray]:
        """``encode`` in constant memory: yields (n, E) blocks in order, reading texts one block ahead.

        Args:
            texts: as ``encode``'s, but no single string. They are read in the thread that takes the blocks.
            arguments: as ``encode``'s, and ``block_size``: texts a block, 4096 by default; fewer if long.

        Raises:
            InputError: as ``encode``, in the place of the block; arguments are checked at once.
        """
        inputs.check_texts(texts, several="encode_stream")
        return self.texts.embed(texts, EncodeOptions(**arguments))

    def encode_pieces(
        self, texts: Iterable[str], **arguments: Unpack[StreamArguments]
    ) -> Iterator[TextPieces]:
        """The pieces of each text in one pass, in constant memory: a vector and the characters of each.

        A text up to ``self.piece_length`` tokens is one piece. Before normalisation, the weighted mean of a
        text's pieces is its vector in ``encode`` (``long_texts="pieces"``).

        Args:
            texts: as ``encode_stream``'s.
            arguments: as ``encode_stream``'s, but ``long_texts``. ``ratio``, ``threshold`` and
                ``max_compressed`` are for each text as a whole.

        Raises:
            InputError: as ``encode_stream``.

        >>> model = Embedder.load("mini")
        >>> found = next(model.encode_pieces(["One sentence of a long story. " * 200]))
        >>> len(found.vectors), found.spans[-1].tolist()[1]
        (4, 6000)
        """
        inputs.check_texts(texts, several="encode_pieces")
        return self.texts.embed_pieces(texts, EncodeOptions(**arguments))

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
            PictureError: a picture cannot be read, or is too large; of several, its index is named.
            InputError: an argument is not allowed.
        """
        self.texts.check_dims(dims)
        options = EncodeOptions(dims=dims, normalize=normalize, precision=precision)
        single = not isinstance(pictures, Sequence) or isinstance(
            pictures, (str, bytes, bytearray, memoryview)
        )
        items = [pictures] if single else pictures
        with inputs.progress(items, show_progress) as advance:
            vectors = self.texts.finish(self.pictures.embed_all(items, tokens, advance), options)
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
        return self.texts.embed_ids(rows, ratio, threshold, max_compressed, normalize)

    def tokenize(
        self, texts: Sequence[str], *, prompt: str = "", max_length: int | None = None, first_index: int = 0
    ) -> list[IntArray]:
        """Token ids of each text with ``prompt`` before it, shape (L,) each, at most ``max_length`` kept.

        Raises:
            InputError: a text is not a string; its index (from ``first_index``) is named. Or an argument is
                not allowed.
        """
        inputs.check_texts(texts, several="tokenize")
        EncodeOptions(prompt=prompt, max_length=max_length)  # raises
        if not is_integer(first_index):
            raise InputError(f"first_index is {first_index!r}, it must be an integer")
        return self.texts.tokenize(texts, prompt=prompt, max_length=max_length, first_index=first_index)

    def target_lengths(
        self,
        lengths: Sequence[int] | IntArray,
        *,
        ratio: Ratio | None = None,
        threshold: int | None = None,
        max_compressed: int | None = None,
    ) -> IntArray:
        """Tokens computed for texts with these token counts, all pieces together, (N,) -> (N,).

        Raises:
            InputError: lengths are not integers >= 1.
            RatioError: ratio, threshold or max_compressed is out of range.
        """
        return self.fitting.target_lengths(
            inputs.token_counts(lengths),
            ratio=self.default_ratio if ratio is None else ratio,
            threshold=threshold,
            max_compressed=max_compressed,
        )

    def prompt_text(self, prompt: str | None = None, prompt_name: str | None = None) -> str:
        """The text put before each text.

        Raises:
            InputError: both are given, or the name is not one of ``self.prompts``.
        """
        return self.texts.prompt_text(prompt, prompt_name)
