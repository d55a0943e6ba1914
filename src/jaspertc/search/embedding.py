"""What an index asks of a model: vectors of documents, passage by passage, and of queries.

Shape legend: N passages, E width.
"""

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from jaspertc.engine.precision import directions
from jaspertc.errors import IndexFileError, InputError, RatioError
from jaspertc.model.lengths import check_ratio
from jaspertc.search.passages import Passage, cut
from jaspertc.search.rows import Content, stored_content
from jaspertc.search.schema import IndexInfo
from jaspertc.types import FloatArray

if TYPE_CHECKING:  # so that opening an index is quick where PyTorch is not needed yet
    from jaspertc.engine.embedder import Embedder

SAME_COSINE = 0.98  # of one text by one model, computed in whatever precision
QUERY_RATIO = 1.0  # queries are short: to compress them saves nothing
# Of its document's first passage in each passage's vector: what a document is about is said there, and not
# said again. Chosen on training texts: docs/reports/search.md.
FIRST = 0.35


class Embedding:
    """A model, with the options of one index."""

    def __init__(self, embedder: "Embedder", info: IndexInfo) -> None:
        self.embedder = embedder
        self._info = info

    def contents(
        self, connection: sqlite3.Connection, texts: Mapping[bytes, str], ratio: float
    ) -> dict[bytes, Content]:
        """Passages and vectors of texts by hash: those of a stored document with that text, or new ones."""
        contents: dict[bytes, Content] = {}
        for text_hash in texts:
            content = stored_content(connection, self._info.layout, text_hash, ratio)
            if content is not None:
                contents[text_hash] = content
        new = [text_hash for text_hash in texts if text_hash not in contents]
        passages = [self.passages(texts[text_hash]) for text_hash in new]
        parts = [part.of(texts[text_hash]) for text_hash, cuts in zip(new, passages) for part in cuts]
        vectors = self.documents(parts, ratio)
        begin = 0
        for text_hash, cuts in zip(new, passages):
            end = begin + len(cuts)
            found = with_first(vectors[begin:end], vectors[begin])
            contents[text_hash] = Content(passages=cuts, ratio=ratio, vectors=found)
            begin = end
        return contents

    def pictures(self, files: Mapping[bytes, tuple[str, Path]]) -> dict[bytes, Content]:
        """One passage each of pictures by hash, given what is shown of each and its file.

        Raises:
            CheckpointError: the model knows no pictures.
            PictureError: one cannot be read.
        """
        if not files:
            return {}
        vectors = self.embedder.encode_image([path for _, path in files.values()], normalize=True)
        return {
            name: Content(passages=[Passage(0, len(text))], ratio=QUERY_RATIO, vectors=vector[None])
            for (name, (text, _)), vector in zip(files.items(), np.asarray(vectors, np.float32))
        }

    def passages(self, text: str) -> list[Passage]:
        """A text as the index cuts it."""
        if not self._info.passage_tokens:
            return [Passage(0, len(text))]
        return cut(text, self._info.passage_tokens, self._count_tokens)

    def documents(self, texts: Sequence[str], ratio: float) -> FloatArray:
        """Unit vectors of passages, shape (N, E).

        Raises:
            InputError: the model gives a vector that is not finite; the text is shown.
        """
        if not texts:
            return np.zeros((0, self._info.dims), dtype=np.float32)
        vectors = self.embedder.encode_document(
            texts, ratio=ratio, threshold=self._info.threshold, normalize=True
        )
        for text, vector in zip(texts, vectors):
            if not np.isfinite(vector).all():
                raise InputError(f"the model gives no finite vector for the text {text!r:.80}")
        rows: FloatArray = np.asarray(vectors, dtype=np.float32)
        return rows

    def query(self, text: str, vector: FloatArray | None = None) -> FloatArray:
        """Unit vector of a query, shape (E,), unless somebody has computed it already.

        Raises:
            InputError: it is no vector of numbers, has another width, or is not finite.
        """
        if vector is None:
            query: FloatArray = self.embedder.encode_query(
                text, ratio=QUERY_RATIO, threshold=self._info.threshold, normalize=True
            ).astype(np.float32, copy=False)
            if not np.isfinite(query).all():
                raise InputError(f"the model gives no finite vector for the query {text!r:.80}")
            return query
        try:
            given = np.asarray(vector, dtype=np.float64)
        except (TypeError, ValueError) as error:
            raise InputError(f"vector is {vector!r:.80}, it must be an array of numbers") from error
        if given.shape != (self._info.dims,):
            raise InputError(f"vector has shape {given.shape}, it must have ({self._info.dims},)")
        if not np.isfinite(given).all():
            raise InputError("vector has values that are not finite; give the query's own vector")
        return directions(given)

    def _count_tokens(self, texts: Sequence[str]) -> list[int]:
        return [len(row) for row in self.embedder.tokenize(texts)]


def with_first(vectors: FloatArray, first: FloatArray) -> FloatArray:
    """Vectors of a document's passages that know of its first, shape (N, E); that one's own stays as it is.

    Args:
        first: the first passage's vector, shape (E,), or one for each of ``vectors``, shape (N, E).
    """
    mixed = (1 - FIRST) * vectors + FIRST * first
    lengths = np.linalg.norm(mixed, axis=1, keepdims=True)
    mixed /= np.maximum(lengths, np.finfo(np.float32).tiny)
    same = (vectors == first).all(axis=1, keepdims=True)
    result: FloatArray = np.where(same, vectors, mixed).astype(np.float32)
    return result


def checked_ratio(embedder: "Embedder", ratio: float) -> float:
    """A ratio as a Python number, which a database takes.

    Raises:
        RatioError: it is out of range, not one number, or below 1 for a model without a compressor.
    """
    value = check_ratio(ratio)
    if value.ndim:
        raise RatioError(f"ratio is {ratio!r:.80}, it must be one number: an index has one for all documents")
    if value < 1 and not embedder.checkpoint.compressor.can_compress:
        raise RatioError(f"ratio is {ratio}, but this model has no compressor; leave it out, or graft one on")
    return float(value)


def recognised(connection: sqlite3.Connection, info: IndexInfo, embedder: "Embedder") -> IndexInfo:
    """What an index says about itself, with today's fingerprint where one of format 1 is of this model.

    Then the fingerprint was made by another rule; what tells is whether the model gives the stored vectors of
    a few short texts.
    """
    if info.format > 1 or info.fingerprint == embedder.fingerprint or info.dims != embedder.dims:
        return info
    rows = connection.execute(
        "SELECT text, vector FROM documents JOIN vectors ON number = document "
        "ORDER BY text = '', length(text), number LIMIT 3"
    ).fetchall()
    if not rows:
        return info
    stored = np.stack([np.frombuffer(vector, dtype=np.float32) for _, vector in rows])
    given = embedder.encode_document(
        [text for text, _ in rows], ratio=info.ratio, threshold=info.threshold, normalize=True
    )
    same = np.einsum("ne,ne->n", stored, np.asarray(given, dtype=np.float32)).min() >= SAME_COSINE
    return replace(info, fingerprint=embedder.fingerprint) if same else info


def check_same(path: Path, info: IndexInfo, embedder: "Embedder") -> None:
    """Raise IndexFileError unless the index's vectors are comparable with what the embedder gives."""
    if info.fingerprint != embedder.fingerprint:
        raise IndexFileError(
            f"{path} was built with the model {info.model!r} (fingerprint {info.fingerprint}), not "
            f"{embedder.checkpoint.name!r} (fingerprint {embedder.fingerprint}); vectors of different models "
            f"cannot be compared: load {info.model!r}, or build a new index at another path"
        )
    if info.dims != embedder.dims:
        raise IndexFileError(
            f"{path} has vectors of {info.dims} dims, the model {embedder.checkpoint.name!r} gives "
            f"{embedder.dims}; load the model it was built with, or build a new index at another path"
        )


def check_options(path: Path, info: IndexInfo, storage: str | None, passage_tokens: int | None) -> None:
    """Raise IndexFileError if an index that exists was made with other options."""
    for name, wanted, has in (
        ("storage", storage, info.storage),
        ("passage_tokens", passage_tokens, info.passage_tokens),
    ):
        if wanted is not None and wanted != has:
            raise IndexFileError(
                f"{path} was built with {name} {has}, not {wanted}; leave it out to use {has}, "
                "or build a new index at another path"
            )
