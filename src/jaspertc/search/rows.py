"""The SQL of documents: reading, writing, removing and ranking them."""

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from jaspertc.search.database import transaction
from jaspertc.search.documents import Scalar

MAX_INTEGER = 2**63 - 1


@dataclass(frozen=True, kw_only=True)
class Row:
    """A document as it is stored.

    Attributes:
        id: the document's.
        text: the document's.
        text_hash: tells whether a text is the one stored, without reading that.
        metadata: JSON with sorted keys.
        labels: the metadata once more, as ``to_label`` gives it, for filters.
        vector: float32 values of unit length; ``None`` leaves text and vector as they are.
    """

    id: str
    text: str
    text_hash: bytes
    metadata: str
    labels: Mapping[str, str]
    vector: bytes | None


def to_label(value: Scalar) -> str:
    """Equal texts for equal values: 2 and 2.0 are equal, True and 1 are not.

    >>> to_label(2.0), to_label(True), to_label("2"), to_label(None)
    ('2', 'true', '"2"', 'null')
    """
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    return json.dumps(value, ensure_ascii=False)


def stored_content(connection: sqlite3.Connection, ids: Sequence[str]) -> dict[str, tuple[bytes, str]]:
    """Text hash and metadata of those documents that are stored."""
    marks = ",".join("?" * len(ids))
    rows = connection.execute(f"SELECT id, text_hash, metadata FROM documents WHERE id IN ({marks})", ids)
    return {name: (digest, metadata) for name, digest, metadata in rows}


def write_rows(connection: sqlite3.Connection, rows: Sequence[Row]) -> None:
    """Insert or update all rows, or none."""
    run = connection.executemany
    with transaction(connection):
        run(
            "INSERT INTO documents (id, text_hash, metadata, text) VALUES (?, ?, ?, ?) "
            "ON CONFLICT (id) DO UPDATE SET text_hash = excluded.text_hash, text = excluded.text",
            ((row.id, row.text_hash, row.metadata, row.text) for row in rows if row.vector is not None),
        )
        run(
            "INSERT OR REPLACE INTO vectors SELECT number, ? FROM documents WHERE id = ?",
            ((row.vector, row.id) for row in rows if row.vector is not None),
        )
        run("UPDATE documents SET metadata = ? WHERE id = ?", ((row.metadata, row.id) for row in rows))
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
            connection.execute("DELETE FROM labels WHERE document = ?", number)
            connection.execute("DELETE FROM vectors WHERE document = ?", number)
            connection.execute("DELETE FROM documents WHERE number = ?", number)
            removed += 1
        _count(connection)
    return removed


def nearest(
    connection: sqlite3.Connection, vector: bytes, k: int, labels: Mapping[str, str]
) -> list[tuple[str, float, str, str]]:
    """Id, cosine, text and metadata of the k documents nearest to a vector that have all labels.

    The filter comes first and distances are computed for its rows only: exact however selective it is.
    """
    condition = " AND ".join(
        ["document IN (SELECT document FROM labels WHERE key = ? AND value = ?)"] * len(labels)
    )
    sql = (
        "SELECT id, 1 - distance, text, metadata FROM ("
        # A vector of zeros has no cosine, which gives NULL, which would sort before everything.
        "SELECT document, coalesce(vec_distance_cosine(vector, ?), 1) AS distance FROM vectors "
        f"WHERE {condition or '1'} ORDER BY distance, document LIMIT ?"
        ") JOIN documents ON number = document ORDER BY distance, document"
    )
    pairs = [part for pair in labels.items() for part in pair]
    return connection.execute(sql, (vector, *pairs, min(k, MAX_INTEGER))).fetchall()


def _count(connection: sqlite3.Connection) -> None:
    connection.execute("UPDATE meta SET value = (SELECT count(*) FROM documents) WHERE key = 'documents'")
