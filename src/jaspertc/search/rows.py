"""The SQL of documents and their passages: reading, writing, removing."""

import hashlib
import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Self

import numpy as np

from jaspertc.search.blocks import Layout, read_vectors, write_vectors
from jaspertc.search.documents import Document, Scalar
from jaspertc.search.passages import Passage
from jaspertc.search.schema import transaction
from jaspertc.search.terms import terms
from jaspertc.types import FloatArray, IntArray

# A bound on "?" in one statement that every SQLite keeps.
MARKS = 500


@dataclass(frozen=True, kw_only=True)
class Content:
    """What is embedded of a document.

    Attributes:
        passages: at least one.
        ratio: at which their vectors were made.
        vectors: one a passage, unit length, shape (N, E).
    """

    passages: Sequence[Passage]
    ratio: float
    vectors: FloatArray


@dataclass(frozen=True, kw_only=True)
class Row:
    """A document as it is stored.

    Attributes:
        id: the document's.
        text: the document's.
        text_hash: tells whether a text is the one stored, without reading that.
        metadata: JSON with sorted keys.
        labels: the metadata once more, as ``to_label`` gives it, for filters.
        source: the file or folder it is from; ``None``: none that is followed.
        content: ``None`` leaves text and vectors as they are.
    """

    id: str
    text: str
    text_hash: bytes
    metadata: str
    labels: Mapping[str, str]
    source: str | None
    content: Content | None = None

    @classmethod
    def of(cls, document: Document) -> Self:
        """Without its content, which a model has to compute."""
        return cls(
            id=document.id,
            text=document.text,
            text_hash=_content_hash(document),
            metadata=json.dumps(dict(document.metadata), ensure_ascii=False, sort_keys=True),
            labels={key: to_label(value) for key, value in document.metadata.items()},
            source=document.source,
        )


def _content_hash(document: Document) -> bytes:
    """Of what is embedded: the text, or a picture's file."""
    if document.picture is None:
        return hashlib.blake2b(document.text.encode(), digest_size=16).digest()
    return hashlib.blake2b(document.picture.read_bytes(), digest_size=16, person=b"picture").digest()


@dataclass(frozen=True)
class Stored:
    """What is compared with a document to see whether it has changed."""

    text_hash: bytes
    metadata: str
    source: str | None


def to_label(value: Scalar) -> str:
    """Equal texts for equal values: 2 and 2.0 are equal, True and 1 are not.

    >>> to_label(2.0), to_label(True), to_label("2"), to_label(None)
    ('2', 'true', '"2"', 'null')
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, ensure_ascii=False)


def stored_rows(connection: sqlite3.Connection, ids: Sequence[str]) -> dict[str, Stored]:
    """Those documents that are stored, by id."""
    rows = connection.execute(
        "SELECT id, text_hash, metadata, name FROM documents LEFT JOIN sources ON source = sources.number "
        f"WHERE id IN ({_marks(ids)})",
        ids,
    )
    return {name: Stored(*rest) for name, *rest in rows}


def stored_content(
    connection: sqlite3.Connection, layout: Layout, text_hash: bytes, least_ratio: float
) -> Content | None:
    """The passages and vectors of a stored document with this text, made at ``least_ratio`` or above."""
    rows = connection.execute(
        "SELECT number, start, stop, heading, ratio FROM passages WHERE document = ("
        "SELECT number FROM documents WHERE text_hash = ? LIMIT 1) ORDER BY number",
        (text_hash,),
    ).fetchall()
    if not rows or min(row[4] for row in rows) < least_ratio:
        return None
    numbers = np.array([row[0] for row in rows], dtype=np.int64)
    return Content(
        passages=[Passage(start, stop, heading) for _, start, stop, heading, _ in rows],
        ratio=min(row[4] for row in rows),
        vectors=read_vectors(connection, layout, numbers),
    )


def write_rows(connection: sqlite3.Connection, layout: Layout, rows: Sequence[Row]) -> None:
    """Insert or update all rows, or none."""
    run = connection.executemany
    with transaction(connection):
        changed = [row for row in rows if row.content is not None]
        _remove_passages(connection, [row.id for row in changed])
        sources = {row.source for row in rows if row.source is not None}
        run("INSERT OR IGNORE INTO sources (name) VALUES (?)", ((name,) for name in sources))
        run(
            "INSERT INTO documents (id, text_hash, metadata, text) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (id) DO UPDATE SET text_hash = excluded.text_hash, text = excluded.text",
            ((row.id, row.text_hash, row.metadata, row.text) for row in changed),
        )
        _write_passages(connection, layout, changed)
        run(
            "UPDATE documents SET metadata = ?, source = (SELECT number FROM sources WHERE name = ?) "
            "WHERE id = ?",
            ((row.metadata, row.source, row.id) for row in rows),
        )
        run(
            "DELETE FROM labels WHERE document = (SELECT number FROM documents WHERE id = ?)",
            ((row.id,) for row in rows),
        )
        run(
            "INSERT INTO labels SELECT number, ?, ? FROM documents WHERE id = ?",
            ((key, label, row.id) for row in rows for key, label in row.labels.items()),
        )
        _count(connection)


def remove_rows(connection: sqlite3.Connection, ids: Iterable[str]) -> int:
    """Remove these documents as far as they are stored, or none; how many they were."""
    removed = 0
    with transaction(connection):
        for name in ids:
            number = connection.execute("SELECT number FROM documents WHERE id = ?", (name,)).fetchone()
            if number is None:
                continue
            _remove_passages(connection, [name])
            connection.execute("DELETE FROM labels WHERE document = ?", number)
            connection.execute("DELETE FROM documents WHERE number = ?", number)
            removed += 1
        _count(connection)
    return removed


def replace_vectors(
    connection: sqlite3.Connection, layout: Layout, numbers: IntArray, ratio: float, vectors: FloatArray
) -> None:
    """New vectors, at another ratio, for passages that are there; inside a transaction."""
    write_vectors(connection, layout, numbers, vectors)
    connection.executemany(
        "UPDATE passages SET ratio = ? WHERE number = ?", ((ratio, number) for number in numbers.tolist())
    )


def _write_passages(connection: sqlite3.Connection, layout: Layout, rows: Sequence[Row]) -> None:
    contents = [(row, row.content) for row in rows if row.content is not None]
    count = sum(len(content.passages) for _, content in contents)
    if not count:
        return
    numbers = _take_numbers(connection, count)
    pending = iter(numbers)
    passages, indexed = [], []
    for row, content in contents:
        for passage in content.passages:
            number = next(pending)
            passages.append(
                (number, passage.start, passage.stop, passage.heading, content.ratio, row.id)
            )  # fmt: skip
            indexed.append((number, indexed_terms(row.text, passage)))
    connection.executemany(
        "INSERT INTO passages (number, start, stop, heading, ratio, document) "
        "VALUES (?, ?, ?, ?, ?, (SELECT number FROM documents WHERE id = ?))",
        passages,
    )
    connection.executemany("INSERT INTO terms (rowid, words) VALUES (?, ?)", indexed)
    vectors = np.concatenate([content.vectors for _, content in contents])
    write_vectors(connection, layout, np.array(numbers, dtype=np.int64), vectors)


def indexed_terms(text: str, passage: Passage) -> str:
    """What full-text search knows of a passage."""
    return " ".join(terms(passage.of(text)))


def _remove_passages(connection: sqlite3.Connection, ids: Sequence[str]) -> None:
    """Their numbers become holes; their terms must be given again to be forgotten."""
    for begin in range(0, len(ids), MARKS):
        part = ids[begin : begin + MARKS]
        rows = connection.execute(
            "SELECT passages.number, text, start, stop, heading FROM documents "
            f"JOIN passages ON document = documents.number WHERE id IN ({_marks(part)})",
            part,
        ).fetchall()
        connection.executemany(
            "INSERT INTO terms (terms, rowid, words) VALUES ('delete', ?, ?)",
            ((number, indexed_terms(text, Passage(*rest))) for number, text, *rest in rows),
        )
        numbers = [(row[0],) for row in rows]
        connection.executemany("DELETE FROM passages WHERE number = ?", numbers)
        connection.executemany("INSERT INTO holes VALUES (?)", numbers)


def _take_numbers(connection: sqlite3.Connection, count: int) -> list[int]:
    """Numbers for new passages, ascending: holes first, then the ones after the last."""
    holes = connection.execute("SELECT number FROM holes ORDER BY number LIMIT ?", (count,)).fetchall()
    connection.executemany("DELETE FROM holes WHERE number = ?", holes)
    (last,) = connection.execute(
        "SELECT max(coalesce((SELECT max(number) FROM passages), 0), "
        "coalesce((SELECT max(number) FROM holes), 0))"
    ).fetchone()
    numbers = [row[0] for row in holes]
    last = max([last, *numbers])
    return numbers + list(range(last + 1, last + 1 + count - len(numbers)))


def _marks(values: Sequence[str]) -> str:
    return ",".join("?" * len(values))


def _count(connection: sqlite3.Connection) -> None:
    connection.execute(
        "INSERT INTO meta VALUES ('writes', 1) ON CONFLICT (key) DO UPDATE SET value = value + 1"
    )
    connection.execute("UPDATE meta SET value = (SELECT count(*) FROM documents) WHERE key = 'documents'")
