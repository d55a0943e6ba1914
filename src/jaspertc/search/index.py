"""Documents and their vectors in one SQLite file."""

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Self

from jaspertc.errors import InputError
from jaspertc.search import schema
from jaspertc.search.blocks import check_storage
from jaspertc.search.connections import Connections
from jaspertc.search.documents import Document, Scalar, check_unicode, checked
from jaspertc.search.embedding import Embedding, check_options, check_same, checked_ratio, recognised
from jaspertc.search.finding import Hit, Query, find
from jaspertc.search.ranking import TermCounts
from jaspertc.search.rows import Row, remove_rows, stored_rows, write_rows
from jaspertc.search.schema import IndexInfo, sqlite_errors
from jaspertc.search.sources import SeenIds, remove_vanished
from jaspertc.search.usage import Usage
from jaspertc.types import FloatArray, is_integer

if TYPE_CHECKING:  # so that opening an index is quick where PyTorch is not needed yet
    from jaspertc.engine.embedder import Embedder

BATCH_DOCUMENTS = 256
KEPT = "nothing of the current batch was written, earlier batches are kept"


@dataclass(frozen=True)
class AddReport:
    """How many documents were new, had another text, metadata or file than before, were there already, or
    have vanished from their file."""

    added: int
    updated: int
    unchanged: int
    removed: int = 0


class SearchIndex:
    """An index that belongs to one model; vectors of others are refused.

    Any thread may use it, several at a time, and several processes may have the file open: a writer does not
    block readers.

    Example:
        >>> from jaspertc import Document, Embedder, SearchIndex
        >>> with SearchIndex.create_or_open("notes.db", Embedder.load("mini")) as index:
        ...     report = index.add([Document("1", "a cat on the mat", {"lang": "en"})])
        ...     hits = index.search("猫", k=3, where={"lang": "en"})
    """

    def __init__(
        self, connections: Connections, embedder: "Embedder", info: IndexInfo, ratio: float | None
    ) -> None:
        """For ``open`` and ``create_or_open``."""
        self.path = connections.path
        self.info = info
        self.ratio = info.ratio if ratio is None else ratio
        self.connections = connections
        self.embedding = Embedding(embedder, info)
        self._usage = Usage(connections)
        self._term_counts = TermCounts()

    @classmethod
    def open(cls, path: str | Path, embedder: "Embedder", *, ratio: float | None = None) -> Self:
        """Open an index that exists; a file of an older format is brought to today's.

        Args:
            path: the file.
            embedder: the model it was built with.
            ratio: compression ratio of documents that are added, in (0, 1]; ``None`` takes the index's.

        Raises:
            IndexFileError: the file is missing, no index, damaged or of a newer format; or it was built with
                another model or width.
            InputError: path or embedder is of another type.
            RatioError: ratio is out of range, or below 1 for a model without a compressor.
        """
        _check_types(path, embedder)
        if ratio is not None:
            ratio = checked_ratio(embedder, ratio)
        return cls._open(Path(path), embedder, ratio)

    @classmethod
    def create_or_open(
        cls,
        path: str | Path,
        embedder: "Embedder",
        *,
        ratio: float | None = None,
        storage: str | None = None,
        passage_tokens: int | None = None,
    ) -> Self:
        """``open``, or create the file if it is missing or empty.

        Args:
            path: the file; its folder must exist.
            embedder: the model to build the index with.
            ratio: compression ratio of documents that are added, in (0, 1]; ``None`` takes the existing
                index's, or the model's own for a new one.
            storage: how vectors are kept: ``float32``, ``float16``, ``int8``, or ``ubinary``, which compares
                bits and then the int8 vectors of the best; ``None``: the existing index's, else ``float32``.
            passage_tokens: cut longer texts into passages of at most this many tokens, each with a vector; 0:
                never; ``None``: the existing index's, else 0.

        Raises:
            IndexFileError: as ``open``; or the file cannot be created, or has another storage or other
                passages.
            InputError: storage or passage_tokens is not allowed, or path or embedder is of another type.
            RatioError: ratio is out of range, or below 1 for a model without a compressor.
        """
        _check_types(path, embedder)
        path = Path(path)
        chosen = checked_ratio(embedder, embedder.default_ratio if ratio is None else ratio)
        check_storage(storage or "float32")
        if passage_tokens is not None:
            if not is_integer(passage_tokens) or passage_tokens < 0:
                raise InputError(
                    f"passage_tokens is {passage_tokens!r}, it must be an integer >= 1, or 0 for whole texts"
                )
            passage_tokens = int(passage_tokens)
        new = IndexInfo(
            format=schema.FORMAT,
            model=embedder.checkpoint.name,
            fingerprint=embedder.fingerprint,
            dims=embedder.dims,
            ratio=chosen,
            threshold=embedder.default_threshold,
            documents=0,
            storage=storage or "float32",
            passage_tokens=passage_tokens or 0,
        )
        with sqlite_errors(path, "open"), closing(schema.connect(path, "rwc")) as connection:
            schema.create_if_empty(connection, new)
        opened = cls._open(path, embedder, None if ratio is None else chosen)
        try:
            check_options(opened.path, opened.info, storage, passage_tokens)
        except BaseException:
            opened.close()
            raise
        return opened

    @classmethod
    def _open(cls, path: Path, embedder: "Embedder", ratio: float | None) -> Self:
        connections = Connections(path)
        try:
            with sqlite_errors(path, "open"), connections.borrowed() as connection:
                info = schema.read_info(connection, path)
                info = recognised(connection, info, embedder)
                check_same(path, info, embedder)
                if info.format < schema.FORMAT:
                    schema.migrate(connection, path, info.fingerprint)
                    info = schema.read_info(connection, path)
        except BaseException:
            connections.close()
            raise
        return cls(connections, embedder, info, ratio)

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
        with sqlite_errors(self.path, "read"), self.connections.borrowed() as connection:
            row = connection.execute("SELECT value FROM meta WHERE key = 'documents'").fetchone()
        return int(row[0])

    def close(self) -> None:
        """Write what was learned from searches, and close the file; closing twice is fine."""
        self._usage.write()
        self.connections.close()

    def add(self, documents: Iterable[Document], *, show_progress: bool = False) -> AddReport:
        """Store documents that are new or differ from the ones stored under their ids.

        Only a text that is not in the index yet is embedded. Batches of 256 are written whole or not at all,
        also when the process is killed; running again with the same documents adds what is missing.

        Args:
            documents: read lazily.
            show_progress: draw a progress bar on standard error.

        Raises:
            InputError: a document cannot be stored, or an id comes twice; it is named. Batches before it
                are kept.
            IndexFileError: the file cannot be written (disk full, read-only, in use); earlier batches are
                kept.
        """
        return self.sync(documents, [], show_progress=show_progress)

    def sync(
        self,
        documents: Iterable[Document],
        sources: Sequence[str],
        *,
        keep: Iterable[str] = (),
        show_progress: bool = False,
    ) -> AddReport:
        """``add``, then remove what these sources have lost: documents of them that did not come again.

        Nothing is removed before all documents were read, so that a killed or failed run loses nothing.

        Args:
            documents: all documents of the sources; they may be of others, too.
            sources: values of ``Document.source``.
            keep: ids of documents that stay though they did not come; read when all documents have been.
            show_progress: as in ``add``.

        Raises:
            InputError: as ``add``.
            IndexFileError: as ``add``.
        """
        counts = {"added": 0, "updated": 0, "unchanged": 0}
        with (
            sqlite_errors(self.path, "add documents to", KEPT),
            _progress(documents, show_progress) as tracked,
            self.connections.writing() as connection,
            SeenIds(connection) as seen,
        ):
            items = checked(tracked)
            while batch := list(islice(items, BATCH_DOCUMENTS)):
                seen.add_new(batch)
                for kind in self._add_batch(connection, batch):
                    counts[kind] += 1
            seen.add(keep)
            with sqlite_errors(self.path, "remove documents from", "what was added is kept"):
                removed = remove_vanished(connection, sources)
        return AddReport(**counts, removed=removed)

    def _add_batch(self, connection: sqlite3.Connection, batch: Sequence[Document]) -> list[str]:
        """Store a batch; for each document ``added``, ``updated`` or ``unchanged``."""
        stored = stored_rows(connection, [document.id for document in batch])
        rows = [Row.of(document) for document in batch]
        new_text = [row for row in rows if row.id not in stored or stored[row.id].text_hash != row.text_hash]
        # Before the transaction, which would keep other writers waiting for as long as the model runs.
        pictures = {row.id: document.picture for row, document in zip(rows, batch) if document.picture}
        texts = {row.text_hash: row.text for row in new_text if row.id not in pictures}
        contents = self.embedding.contents(connection, texts, self.ratio)
        contents |= self.embedding.pictures(
            {row.text_hash: (row.text, pictures[row.id]) for row in new_text if row.id in pictures}
        )
        changed = {row.id: replace(row, content=contents[row.text_hash]) for row in new_text}
        rows = [changed.get(row.id, row) for row in rows]
        same = {
            row.id
            for row in rows
            if row.id in stored
            and (row.text_hash, row.metadata, row.source)
            == (stored[row.id].text_hash, stored[row.id].metadata, stored[row.id].source)
        }
        if len(same) < len(rows):
            write_rows(connection, self.info.layout, [row for row in rows if row.id not in same])
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
        is_list = isinstance(ids, Iterable) and not isinstance(ids, (str, bytes, Mapping))
        names = list(ids) if is_list else []
        if not is_list or not all(isinstance(name, str) for name in names):
            raise InputError(f"ids is {ids!r:.80}, it must be a list of strings")
        for name in names:
            check_unicode(f"document {name!r:.80}", "id", name)
        with (
            sqlite_errors(self.path, "remove documents from", "none was removed"),
            self.connections.writing() as connection,
        ):
            return remove_rows(connection, names)

    def search(
        self,
        query: str,
        *,
        k: int = 10,
        where: Mapping[str, Scalar] | None = None,
        mode: str = "hybrid",
        vector: FloatArray | None = None,
    ) -> list[Hit]:
        """The documents that answer a query best, best first; equal ones in the order they were added.

        Args:
            query: a text, not blank; embedded with the model's query prompt at ratio 1.
            k: how many at most, >= 1.
            where: only documents whose metadata has all these keys with equal values. ``2`` equals ``2.0``;
                ``True`` equals only ``True``; ``None`` needs the key to be there with the value ``None``.
            mode: ``vector`` for cosines, ``text`` for shared words, ``hybrid`` for both.
            vector: the query's vector, if somebody else has computed it, shape (E,).

        Raises:
            InputError: query, k, where, mode or vector is not acceptable.
            IndexFileError: the file cannot be read.
        """
        wanted = Query(query, k, {} if where is None else where, mode)
        wanted.check()
        unit = None if mode == "text" else self.embedding.query(query, vector)
        with sqlite_errors(self.path, "search"), self.connections.reading() as connection:
            hits = find(connection, self.info.layout, wanted, unit, self._term_counts)
        if unit is not None:
            self._usage.note(unit, [hit.number for hit in hits])
        return hits


def _check_types(path: object, embedder: object) -> None:
    if not isinstance(path, (str, Path)):
        raise InputError(f"path is {path!r:.80} of type {type(path).__name__}, it must be a string or a Path")
    if not hasattr(embedder, "default_ratio"):
        raise InputError(
            f"embedder is {embedder!r:.80} of type {type(embedder).__name__}, it must be an Embedder, "
            "such as Embedder.load('mini')"
        )


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
