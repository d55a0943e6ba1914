"""Following files: which documents they have lost."""

import sqlite3
from collections.abc import Iterable, Sequence
from types import TracebackType
from typing import Self

from jaspertc.errors import InputError
from jaspertc.search.documents import Document
from jaspertc.search.rows import remove_rows
from jaspertc.search.schema import transaction

REMOVED_AT_ONCE = 1024


class SeenIds:
    """The ids that one run has brought, on disk: there may be millions."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def __enter__(self) -> Self:
        self._connection.execute("CREATE TEMP TABLE seen (id TEXT PRIMARY KEY) WITHOUT ROWID")
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._connection.execute("DROP TABLE temp.seen")

    def add(self, ids: Iterable[str]) -> None:
        """Remember ids; one that was seen stays so."""
        self._connection.executemany("INSERT OR IGNORE INTO temp.seen VALUES (?)", ((name,) for name in ids))

    def add_new(self, documents: Sequence[Document]) -> None:
        """Remember the ids of documents.

        Raises:
            InputError: one comes for the second time; it is named, and its place where that is known.
        """
        for document in documents:
            try:
                self._connection.execute("INSERT INTO temp.seen VALUES (?)", (document.id,))
            except sqlite3.IntegrityError:
                where, fix = "", "add the second one in another call to replace the first"
                if document.place is not None:
                    where, fix = f"{document.place}: ", "remove one"
                raise InputError(
                    f"{where}document id {document.id!r:.80} comes twice; give each document its own id, "
                    f"or {fix}"
                ) from None


def remove_vanished(connection: sqlite3.Connection, sources: Sequence[str]) -> int:
    """Remove the documents of these sources whose ids are not among the seen ones; how many they were."""
    removed = 0
    for source in sources:
        while True:
            rows = connection.execute(
                "SELECT id FROM documents WHERE id NOT IN (SELECT id FROM temp.seen) AND "
                "(source = (SELECT number FROM sources WHERE name = ?) "
                "OR (source IS NULL AND id GLOB ? || '[0-9]*' AND id NOT GLOB ? || '*[^0-9]*')) LIMIT ?",
                (source, *[_format_1_ids(source)] * 2, REMOVED_AT_ONCE),
            ).fetchall()
            if not rows:
                break
            removed += remove_rows(connection, [row[0] for row in rows])
        with transaction(connection):
            connection.execute(
                "DELETE FROM sources WHERE name = ? AND number NOT IN "
                "(SELECT source FROM documents WHERE source IS NOT NULL)",
                (source,),
            )
    return removed


def _format_1_ids(source: str) -> str:
    """What ids of the lines of a file began with in format 1, which did not know sources, as a pattern."""
    name = source.rpartition("/")[2]
    return "".join(f"[{letter}]" if letter in "*?[" else letter for letter in name) + ":"
