"""Documents and their vectors in one SQLite file."""

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from jaspertc.errors import IndexFileError, InputError, RatioError
from jaspertc.search import database
from jaspertc.search.database import IndexInfo, sqlite_errors
from jaspertc.search.documents import Document, Scalar, check_document, check_metadata, check_unicode
from jaspertc.search.rows import Row, nearest, remove_rows, stored_content, to_label, write_rows

if TYPE_CHECKING:  # so that opening an index is quick where PyTorch is not needed yet
    from jaspertc.engine.embedder import Embedder
    from jaspertc.engine.precision import Vectors

BATCH_DOCUMENTS = 256


@dataclass(frozen=True)
class AddReport:
    """How many documents were new, had another text or metadata than before, or were there already."""

    added: int
    updated: int
    unchanged: int


@dataclass(frozen=True)
class Hit:
    """A document found: its cosine similarity to the query, in [-1, 1], and what was stored."""

    id: str
    score: float
    text: str
    metadata: dict[str, Scalar]


class SearchIndex:
    """An index that belongs to one model at one compression ratio; vectors of others are refused.

    Search is exact: every vector (that matches the filter) is compared. One file, no server. Use an index
    from the thread that opened it; several processes may have the file open.

    Example:
        >>> from jaspertc import Embedder, SearchIndex
        >>> from jaspertc.search.documents import Document
        >>> with SearchIndex.create_or_open("notes.db", Embedder.load("mini")) as index:
        ...     report = index.add([Document("1", "a cat on the mat", {"lang": "en"})])
        ...     hits = index.search("猫", k=3, where={"lang": "en"})
    """

    def __init__(
        self, connection: sqlite3.Connection, path: Path, embedder: "Embedder", info: IndexInfo
    ) -> None:
        """For ``open`` and ``create_or_open``."""
        self.path = path
        self.info = info
        self._connection = connection
        self._embedder = embedder

    @classmethod
    def open(cls, path: str | Path, embedder: "Embedder", *, ratio: float | None = None) -> Self:
        """Open an index that exists.

        Args:
            path: the file.
            embedder: the model it was built with.
            ratio: ``None`` takes the index's; anything else must be equal to it.

        Raises:
            IndexFileError: the file is missing, no index, damaged or of a newer format; or it was built with
                another model, width or ratio.
        """
        return cls._open(Path(path), embedder, ratio, None)

    @classmethod
    def create_or_open(cls, path: str | Path, embedder: "Embedder", *, ratio: float | None = None) -> Self:
        """``open``, or create the file if it is missing or empty.

        Args:
            path: the file; its folder must exist.
            embedder: the model to build the index with.
            ratio: compression ratio in (0, 1] of documents and queries; ``None`` takes the existing
                index's, or the model's own for a new one.

        Raises:
            IndexFileError: as ``open``; or the file cannot be created.
            RatioError: ratio is out of range, or below 1 for a model without a compressor.
        """
        wanted = embedder.default_ratio if ratio is None else ratio
        _check_ratio(embedder, wanted)
        new = IndexInfo(
            format=database.FORMAT,
            model=embedder.checkpoint.name,
            fingerprint=embedder.fingerprint,
            dims=embedder.dims,
            ratio=float(wanted),
            threshold=embedder.default_threshold,
            documents=0,
        )
        return cls._open(Path(path), embedder, ratio, new)

    @classmethod
    def _open(cls, path: Path, embedder: "Embedder", ratio: float | None, new: IndexInfo | None) -> Self:
        connection = database.connect(path, create=new is not None)
        try:
            with sqlite_errors(path, "open"):
                if new is not None:
                    database.create_if_empty(connection, new)
                info = database.read_info(connection, path)
            _check_same(path, info, embedder, ratio)
        except BaseException:
            connection.close()
            raise
        return cls(connection, path, embedder, info)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"SearchIndex({str(self.path)!r}, model={self.info.model!r}, ratio={self.info.ratio:g})"

    def __len__(self) -> int:
        """How many documents there are."""
        with sqlite_errors(self.path, "read"):
            row = self._connection.execute("SELECT value FROM meta WHERE key = 'documents'").fetchone()
        return int(row[0])

    def close(self) -> None:
        """Close the file; closing twice is fine."""
        self._connection.close()

    def add(self, documents: Iterable[Document], *, show_progress: bool = False) -> AddReport:
        """Store documents that are new or differ from the ones stored under their ids.

        Only a new or changed text is embedded. Batches of 256 are written whole or not at all, also when
        the process is killed; running again with the same documents adds what is missing.

        Args:
            documents: read lazily; ids are remembered for the time of the call.
            show_progress: draw a progress bar on standard error.

        Raises:
            InputError: a document cannot be stored, or an id comes twice; it is named. Batches before it
                are kept.
            IndexFileError: the file cannot be written (disk full, read-only, in use); earlier batches are
                kept.
        """
        counts = {"added": 0, "updated": 0, "unchanged": 0}
        outcome = "nothing of the current batch was written, earlier batches are kept"
        with _progress(documents, show_progress) as tracked:
            items = _checked(tracked)
            while batch := list(islice(items, BATCH_DOCUMENTS)):
                with sqlite_errors(self.path, "add documents to", outcome):
                    for kind in self._add_batch(batch):
                        counts[kind] += 1
        return AddReport(**counts)

    def _add_batch(self, batch: Sequence[Document]) -> list[str]:
        """Store a batch; for each document ``added``, ``updated`` or ``unchanged``."""
        stored = stored_content(self._connection, [document.id for document in batch])
        rows = [_to_row(document) for document in batch]
        new_text = [row for row in rows if row.id not in stored or stored[row.id][0] != row.text_hash]
        # Before the transaction, which would keep other writers waiting for as long as the model runs.
        vectors = self._embed(new_text)
        rows = [replace(row, vector=vectors.get(row.id)) for row in rows]
        same = {row.id for row in rows if stored.get(row.id) == (row.text_hash, row.metadata)}
        if len(same) < len(rows):
            write_rows(self._connection, [row for row in rows if row.id not in same])
        return ["unchanged" if row.id in same else "updated" if row.id in stored else "added" for row in rows]

    def remove(self, ids: Iterable[str]) -> int:
        """Remove documents, all of them or (if anything fails) none.

        Args:
            ids: those that are not in the index are ignored.

        Returns:
            How many were removed.

        Raises:
            InputError: ids is one string, or has something that is not a string.
            IndexFileError: the file cannot be written.
        """
        names = [ids] if isinstance(ids, (str, bytes)) else list(ids)
        if isinstance(ids, (str, bytes)) or not all(isinstance(name, str) for name in names):
            raise InputError(f"ids is {ids!r:.80}, it must be a list of strings")
        for name in names:
            check_unicode(f"document {name!r:.80}", "id", name)
        with sqlite_errors(self.path, "remove documents from", "none was removed"):
            return remove_rows(self._connection, names)

    def search(self, query: str, *, k: int = 10, where: Mapping[str, Scalar] | None = None) -> list[Hit]:
        """The documents nearest to a query, best first; equally near ones in the order they were added.

        Args:
            query: a text, not blank; embedded with the model's query prompt at the index's ratio.
            k: how many at most, >= 1.
            where: only documents whose metadata has all these keys with equal values. ``2`` equals ``2.0``;
                ``True`` equals only ``True``; ``None`` needs the key to be there with the value ``None``.

        Raises:
            InputError: query, k or where is not acceptable.
            IndexFileError: the file cannot be read.
        """
        if not isinstance(query, str) or not query.strip():
            raise InputError(f"query is {query!r:.80}, it must be a string that is not blank")
        check_unicode(f"query {query!r:.80}", "it", query)
        if isinstance(k, bool) or not isinstance(k, int) or k < 1:
            raise InputError(f"k is {k!r}, it must be an integer >= 1")
        labels = dict(where or {})
        check_metadata("where", labels)
        vector = self._embedder.encode_query(query, **self._options)
        if not np.isfinite(vector).all():
            raise InputError(f"the model gives no finite vector for the query {query!r:.80}")
        with sqlite_errors(self.path, "search"):
            found = nearest(
                self._connection,
                _to_bytes(vector),
                k,
                {key: to_label(value) for key, value in labels.items()},
            )
        return [Hit(name, score, text, json.loads(metadata)) for name, score, text, metadata in found]

    @property
    def _options(self) -> dict[str, Any]:
        return {"ratio": self.info.ratio, "threshold": self.info.threshold, "normalize": True}

    def _embed(self, rows: Sequence[Row]) -> dict[str, bytes]:
        """Vectors by id."""
        if not rows:
            return {}
        vectors = self._embedder.encode_document([row.text for row in rows], **self._options)
        for row, vector in zip(rows, vectors):
            if not np.isfinite(vector).all():
                raise InputError(f"the model gives no finite vector for document {row.id!r:.80}")
        return {row.id: _to_bytes(vector) for row, vector in zip(rows, vectors)}


def _check_ratio(embedder: "Embedder", ratio: float) -> None:
    if isinstance(ratio, bool) or not isinstance(ratio, (int, float)) or not 0 < ratio <= 1:
        raise RatioError(f"ratio is {ratio!r}, it must be a number in (0, 1]; 1 keeps every token")
    if ratio < 1 and not embedder.checkpoint.encoder.compressor.can_compress:
        raise RatioError(f"ratio is {ratio}, but this model has no compressor; leave it out, or graft one on")


def _check_same(path: Path, info: IndexInfo, embedder: "Embedder", ratio: float | None) -> None:
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
    if ratio is not None and ratio != info.ratio:
        raise IndexFileError(
            f"{path} was built at ratio {info.ratio}, not {ratio}; leave the ratio out to use {info.ratio}, "
            "or build a new index at another path"
        )


def _checked(documents: Iterable[Document]) -> Iterator[Document]:
    seen: set[str] = set()
    for document in documents:
        check_document(document)
        if document.id in seen:
            raise InputError(
                f"document id {document.id!r:.80} comes twice; give each document its own id, or add the "
                "second one in another call to replace the first"
            )
        seen.add(document.id)
        yield document


def _to_row(document: Document) -> Row:
    return Row(
        id=document.id,
        text=document.text,
        text_hash=hashlib.blake2b(document.text.encode(), digest_size=16).digest(),
        metadata=json.dumps(dict(document.metadata), ensure_ascii=False, sort_keys=True),
        labels={key: to_label(value) for key, value in document.metadata.items()},
        vector=None,
    )


def _to_bytes(vector: "Vectors") -> bytes:
    return np.asarray(vector, dtype=np.float32).tobytes()


@contextmanager
def _progress(documents: Iterable[Document], show: bool) -> Iterator[Iterable[Document]]:
    if not show:
        yield documents
        return
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    total = len(documents) if isinstance(documents, Sized) else None
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    # A context, so that the bar is gone before an error is printed.
    with Progress(*columns, console=Console(stderr=True)) as progress:
        yield progress.track(documents, total=total, description="indexing")
