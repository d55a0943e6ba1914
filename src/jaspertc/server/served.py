"""One model as the server sees it: what ``Embedder.encode`` does, in the steps that a scheduler needs.

Shape legend: N texts, L tokens of one text, E width of the vectors.
"""

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from jaspertc.checkpoint.vision import has_vision
from jaspertc.corpus.pictures import read_picture
from jaspertc.engine.embedder import Embedder
from jaspertc.engine.pieces import TextRows
from jaspertc.engine.precision import normalized
from jaspertc.errors import JasperError, RequestError
from jaspertc.model.cost import text_flops, token_flops
from jaspertc.text.packing import offsets_of, pack
from jaspertc.types import FloatArray, IntArray

MAX_TEXT_TOKENS = 32768
CHARACTERS_PER_TOKEN = 16  # a text with more of them per allowed token is refused before it is tokenised

Names = Callable[[int], str]  # what a client calls each text: a field, and a number where it has several


def input_name(index: int) -> str:
    """A text of the field ``input``."""
    return f"input {index}"


def field_of(name: str) -> str:
    """The field that a text's name begins with."""
    return name.partition(" ")[0]


class ServedModel:
    """The model under its public name.

    Args:
        embedder: what computes.
        name: what clients call it.
        max_text_tokens: tokens per text; ``None`` takes the model's limit, else 32768.
    """

    def __init__(self, embedder: Embedder, *, name: str, max_text_tokens: int | None = None) -> None:
        self.embedder = embedder
        self.name = name
        limits = [limit for limit in (max_text_tokens, embedder.max_length) if limit is not None]
        self.max_text_tokens = min(limits, default=MAX_TEXT_TOKENS)
        backbone = embedder.config.backbone
        self.token_operations = token_flops(backbone)
        if self.sees:  # read and compiled now, not for the first client
            embedder.encode_image(np.zeros((1, 1), np.uint8))
        self._cost = lru_cache(maxsize=65536)(lambda length: text_flops(backbone, length))

    @property
    def can_compress(self) -> bool:
        """Whether a ratio below 1 is possible."""
        return self.embedder.checkpoint.compressor.can_compress

    @property
    def widths(self) -> list[int]:
        """Widths of vectors that the model was trained for, ascending."""
        return sorted({*self.embedder.config.head.matryoshka, self.embedder.dims})

    def check_characters(self, texts: Sequence[str], names: Names) -> None:
        """Refuse texts that cannot be within the limit of tokens; ``names`` is what the client calls each.

        Raises:
            RequestError: a text is far too long; its index and the limit are named.
        """
        most = CHARACTERS_PER_TOKEN * self.max_text_tokens
        for index, text in enumerate(texts):
            if len(text) > most:
                raise RequestError(
                    f"{names(index)} has {len(text):,} characters, the limit is {most:,} "
                    f"({CHARACTERS_PER_TOKEN} for each of {self.max_text_tokens:,} tokens); split the text",
                    param=field_of(names(index)),
                    code="context_length_exceeded",
                )

    def tokenize(self, texts: Sequence[str], prefix: str) -> TextRows:
        """Token ids of each text with ``prefix`` before it, never cut short; long texts in pieces."""
        return self.embedder.fitting.text_rows(self.embedder.tokenize(texts, prompt=prefix), texts, prefix)

    def check_lengths(self, lengths: IntArray, names: Names, *, most_together: int) -> None:
        """Refuse texts of these token counts, shape (N,), above the limits; names as in ``check_characters``.

        Raises:
            RequestError: a text, or all together, have too many tokens; the limit is named.
        """
        for index, length in enumerate(lengths.tolist()):
            if length > self.max_text_tokens:
                raise RequestError(
                    f"{names(index)} has {length:,} tokens with its prompt, the limit is "
                    f"{self.max_text_tokens:,}; split the text",
                    param=field_of(names(index)),
                    code="context_length_exceeded",
                )
        total = int(lengths.sum())
        if total > most_together:
            raise RequestError(
                f"the request has {total:,} tokens, the limit is {most_together:,}; send fewer texts at once",
                param=field_of(names(0)),
                code="max_tokens_per_request",
            )

    def check_ids(self, rows: Sequence[Sequence[int]]) -> TextRows:
        """Client's token ids, one row a text.

        Raises:
            RequestError: an id is outside the vocabulary, or the model has too few positions for a row.
        """
        vocabulary = self.embedder.config.backbone.vocab_size
        positions = self.embedder.config.backbone.max_positions
        checked = []
        for index, row in enumerate(rows):
            wrong = next((item for item in row if not 0 <= item < vocabulary), None)
            if wrong is not None:
                raise RequestError(
                    f"input {index} has the token id {wrong}, this model's vocabulary has {vocabulary:,} "
                    "tokens; were the ids made by another model's tokenizer? Send text instead "
                    "(langchain-openai: check_embedding_ctx_length=False)",
                    param="input",
                )
            if len(row) > positions and not self.can_compress:
                raise RequestError(
                    f"input {index} has {len(row):,} token ids, this model has {positions:,} positions and "
                    "no compressor; send fewer",
                    param="input",
                    code="context_length_exceeded",
                )
            checked.append(np.array(row, dtype=np.int64))
        return TextRows.whole(checked)

    def targets(
        self, texts: TextRows, *, ratio: float, threshold: int | None, max_compressed: int | None
    ) -> IntArray:
        """Compressed tokens of each row of the texts, shape (R,)."""
        return self.embedder.fitting.row_targets(
            texts, ratio=ratio, threshold=threshold, max_compressed=max_compressed
        )

    def check_dial(self, *, ratio: float | None, threshold: int | None, max_compressed: int | None) -> None:
        """Ask the model whether it can do what a request wants, before anything is tokenised.

        Raises:
            RequestError: the model has no compressor.
        """
        try:
            self.embedder.target_lengths(
                np.array([self.max_text_tokens]),
                ratio=ratio,
                threshold=threshold,
                max_compressed=max_compressed,
            )
        except JasperError as error:
            param = "compression_ratio" if str(error).startswith("ratio") else "max_compressed"
            raise RequestError(str(error), param=param) from error

    def costs(self, targets: IntArray) -> list[int]:
        """Operations per text, each > 0."""
        return [self._cost(length) for length in targets.tolist()]

    def compute(self, rows: Sequence[IntArray], targets: IntArray) -> FloatArray:
        """Raw vectors of one batch, shape (N, E)."""
        return self.embedder.runtime.embed(pack(rows), targets)

    @property
    def sees(self) -> bool:
        """Whether the model knows pictures."""
        return has_vision(self.embedder.checkpoint.folder)

    @property
    def picture_tokens(self) -> list[int]:
        """Numbers of tokens that a picture may have, ascending; none where the model knows texts only."""
        most = self.embedder.pictures.tower.encoder.grid if self.sees else 0
        return [side**2 for side in range(1, most + 1)]

    def see(self, files: Sequence[bytes], tokens: int | None, *, most_pixels: int) -> tuple[FloatArray, int]:
        """Raw vectors of pictures, shape (N, E), and their tokens together.

        Raises:
            RequestError: the model knows no pictures, or one cannot be read or has too many pixels.
        """
        if not self.sees:
            raise RequestError("this model knows texts only", param="input", code="no_pictures")
        tower = self.embedder.pictures.tower
        tokens = tower.config.tokens if tokens is None else tokens
        try:
            tower.side_of(tokens)
        except JasperError as error:
            raise RequestError(f"image_{error}", param="image_tokens") from error
        images = []
        for index, content in enumerate(files):
            try:
                images.append(
                    read_picture(content, most_pixels=most_pixels, reduced_to=tower.encoder.image_size)
                )
            except JasperError as error:
                raise RequestError(
                    f"input {index}: {error}", param="input", code="image_not_readable"
                ) from error
        return self.embedder.pictures.embed_all(images, tokens), tokens * len(images)

    def finish(self, vectors: FloatArray, dims: int | None) -> FloatArray:
        """Raw vectors cut to ``dims`` and, if the model says so, at unit length."""
        vectors = vectors[:, :dims]
        return normalized(vectors) if self.embedder.config.normalize else vectors

    def described(self, rows: Sequence[IntArray], targets: IntArray) -> dict[str, Any]:
        """The tokens of a text, row after row, and the windows, first and end token each, made of them."""
        ids = np.concatenate(rows)
        window_bounds = self.embedder.checkpoint.compressor.window_bounds
        firsts = offsets_of(np.array([len(row) for row in rows]))
        return {
            "ids": ids,
            "pieces": self.embedder.checkpoint.tokenizer.pieces(ids),
            "compressed": int(targets.sum()),
            "windows": [
                (first + begin, first + end)
                for first, row, target in zip(firsts.tolist(), rows, targets.tolist())
                for begin, end in window_bounds(row, target)
            ],
        }
