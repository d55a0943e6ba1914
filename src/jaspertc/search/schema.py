"""The file under a search index: its tables, what it says about itself, older formats brought to today's."""

import os
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from jaspertc.errors import IndexFileError
from jaspertc.search.blocks import Layout, write_vectors
from jaspertc.search.terms import terms

APPLICATION_ID = 0x4A545849  # "JTXI", in the SQLite header: tells our files from other SQLite databases
FORMAT = 2
LOCK_SECONDS = 30
# Vectors are read from first to last at every search; large pages halve that time and waste less space.
PAGE_BYTES = 65536
MIGRATED_ROWS = 2048

# A document is cut into one or more passages, whose number is also the slot of its vector in ``vectors``.
# ``labels`` repeats the metadata, one row a key, so that a filter is an index look-up and equality does not
# depend on SQLite's JSON numbers. ``holes`` are numbers of removed passages, to be given again.
TABLES = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID",
    "CREATE TABLE sources (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE)",
    "CREATE TABLE documents (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, source INTEGER, "
    "text_hash BLOB NOT NULL, metadata TEXT NOT NULL, text TEXT NOT NULL, found INTEGER NOT NULL DEFAULT 0)",
    "CREATE INDEX documents_by_source ON documents (source)",
    "CREATE INDEX documents_by_hash ON documents (text_hash)",
    "CREATE TABLE passages (number INTEGER PRIMARY KEY, document INTEGER NOT NULL, start INTEGER NOT NULL, "
    "stop INTEGER NOT NULL, heading TEXT NOT NULL, ratio REAL NOT NULL)",
    "CREATE INDEX passages_by_document ON passages (document)",
    "CREATE INDEX passages_by_ratio ON passages (ratio)",
    "CREATE TABLE holes (number INTEGER PRIMARY KEY)",
    "CREATE TABLE vectors (block INTEGER PRIMARY KEY, data BLOB NOT NULL)",
    "CREATE TABLE codes (block INTEGER PRIMARY KEY, data BLOB NOT NULL)",
    "CREATE TABLE labels (document INTEGER NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, "
    "PRIMARY KEY (document, key)) WITHOUT ROWID",
    "CREATE INDEX labels_by_value ON labels (key, value)",
    # Terms are made by terms.py; unicode61 has nothing left to do but to split at spaces.
    "CREATE VIRTUAL TABLE terms USING fts5 (words, content = '', tokenize = 'unicode61 remove_diacritics 0')",
    "CREATE VIRTUAL TABLE vocabulary USING fts5vocab ('terms', 'row')",
)

_HINTS = {
    sqlite3.SQLITE_FULL: "free some disk space and run it again",
    sqlite3.SQLITE_IOERR: "check the disk and run it again",
    sqlite3.SQLITE_READONLY: "make the file and its folder writable and run it again",
    sqlite3.SQLITE_BUSY: "another process is writing to it: run it again when that is done",
    sqlite3.SQLITE_CANTOPEN: "check that the path is a file, its folder exists and both are accessible",
    sqlite3.SQLITE_NOTADB: "it is not a jaspertc search index; give another path",
    sqlite3.SQLITE_CORRUPT: "the file is damaged; restore a copy, or delete it and build the index again",
}
DAMAGED = "restore a copy, or delete it and build the index again"


@dataclass(frozen=True, kw_only=True)
class IndexInfo:
    """What an index file says about itself.

    Attributes:
        format: version of the tables.
        model: the name the model was loaded by.
        fingerprint: hash of the model's weights, configuration and tokenizer.
        dims: width of the vectors.
        ratio: compression ratio of documents that are added.
        threshold: texts up to this many tokens are not compressed.
        documents: how many there were when this was read.
        storage: how vectors are kept, one of ``blocks.STORAGES``.
        passage_tokens: longer texts are cut into passages of at most this many tokens; 0: never.
    """

    format: int
    model: str
    fingerprint: str
    dims: int
    ratio: float
    threshold: int
    documents: int
    storage: str = "float32"
    passage_tokens: int = 0

    @property
    def layout(self) -> Layout:
        """How vectors lie in their blocks."""
        return Layout(self.dims, self.storage)


@contextmanager
def sqlite_errors(path: Path, action: str, outcome: str = "") -> Iterator[None]:
    """Turn SQLite's errors inside into ``IndexFileError``.

    Args:
        path: the file, for the message.
        action: what was tried, such as ``search``.
        outcome: what has become of the file's content.
    """
    try:
        yield
    except sqlite3.Error as error:
        # The low byte is the kind of error; the rest says where in SQLite it arose.
        hint = _HINTS.get(getattr(error, "sqlite_errorcode", 0) & 0xFF, "")
        parts = [f"cannot {action} {path}: {error}", outcome, hint]
        raise IndexFileError("; ".join(part for part in parts if part)) from error


@contextmanager
def transaction(connection: sqlite3.Connection, kind: str = "IMMEDIATE") -> Iterator[None]:
    """All or nothing: what is executed inside is written together, or not at all if anything is raised.

    What was written is then put into the file itself, as far as no reader still needs what was there before:
    beside it, it would be lost with a copy, and be taken for changes of a file put in its place.

    Args:
        connection: one that is in no transaction.
        kind: ``IMMEDIATE`` to write; ``DEFERRED`` to read all of one state, whoever writes meanwhile.
    """
    connection.execute(f"BEGIN {kind}")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk makes SQLite roll back by itself
            connection.execute("ROLLBACK")
        raise
    if kind == "IMMEDIATE":
        with waiting(connection, 0), suppress(sqlite3.Error):  # it is safe where it is
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")


@contextmanager
def waiting(connection: sqlite3.Connection, seconds: float) -> Iterator[None]:
    """Inside, wait so long for what others have locked."""
    (before,) = connection.execute("PRAGMA busy_timeout").fetchone()
    connection.execute(f"PRAGMA busy_timeout = {int(1000 * seconds)}")
    try:
        yield
    finally:
        connection.execute(f"PRAGMA busy_timeout = {before}")


def connect(path: Path, mode: str) -> sqlite3.Connection:
    """Open a file; the caller closes it. Any thread may use the connection, one at a time.

    Args:
        path: the file.
        mode: ``rw`` for one that exists, ``rwc`` to make it if there is none. A file in a folder that may
            not be written to is opened for reading.

    Raises:
        IndexFileError: there is no such file, or it cannot be opened.
    """
    if "\0" in str(path):  # SQLite would take what is before it
        raise IndexFileError(f"the path is {str(path)!r}, it cannot hold a NUL character; give another")
    if mode == "rw" and not os.path.exists(path):  # Path's own raises for a name that is too long
        raise IndexFileError(f"no index at {path}; build one: jaspertc index FILES... --output {path}")
    if not os.access(path.parent, os.W_OK) and not path.with_name(path.name + "-wal").exists():
        mode = "ro&immutable=1"  # else SQLite would want to make files beside it, even to read
    with sqlite_errors(path, "open"):
        # isolation_level=None: transactions begin and end where we say, not where the module guesses.
        return sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}",
            uri=True,
            timeout=LOCK_SECONDS,
            isolation_level=None,
            check_same_thread=False,
        )


def describe(path: str | Path) -> IndexInfo:
    """What an index file says about itself, without a model.

    Raises:
        IndexFileError: no such file, not an index, or of a newer format.
    """
    path = Path(path)
    with closing(connect(path, "rw")) as connection, sqlite_errors(path, "read"):
        return read_info(connection, path)


def read_info(connection: sqlite3.Connection, path: Path) -> IndexInfo:
    """``describe`` for an open connection."""
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    if application != APPLICATION_ID:
        what = "an empty file" if is_empty(connection) else "an SQLite database of another application"
        raise IndexFileError(f"{path} is {what}, not a jaspertc search index; give another path")
    values = dict(connection.execute("SELECT key, value FROM meta"))
    if not isinstance(values.get("format"), int):
        raise IndexFileError(f"{path} does not say which format it has: it is damaged; {DAMAGED}")
    if values["format"] > FORMAT:
        raise IndexFileError(
            f"{path} has format {values['format']}, this jaspertc reads up to {FORMAT}; upgrade jaspertc"
        )
    if values["format"] == 1:
        values |= {"storage": "float32", "passage_tokens": 0}
    for name, kind in IndexInfo.__annotations__.items():
        if not isinstance(values.get(name), kind):
            raise IndexFileError(
                f"{path} says {name} is {values.get(name)!r}, not a {kind.__name__}: it is damaged; {DAMAGED}"
            )
    return IndexInfo(**{name: values[name] for name in IndexInfo.__annotations__})


def is_empty(connection: sqlite3.Connection) -> bool:
    """Whether a database has neither tables nor another application's mark."""
    marked = connection.execute("PRAGMA application_id").fetchone()[0]
    return not marked and not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]


def create_if_empty(connection: sqlite3.Connection, info: IndexInfo) -> None:
    """Write the tables and what the index says about itself, unless the file has content already."""
    if not is_empty(connection):
        return
    connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    write_ahead(connection)
    with transaction(connection):
        if not is_empty(connection):  # another process was faster
            return
        for table in TABLES:
            connection.execute(table)
        connection.executemany("INSERT INTO meta VALUES (?, ?)", asdict(info).items())
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")


def write_ahead(connection: sqlite3.Connection) -> None:
    """Keep changes in a file beside until they are moved: readers and a writer do not wait for each other."""
    connection.execute("PRAGMA journal_mode = WAL")


def migrate(connection: sqlite3.Connection, path: Path, fingerprint: str | None = None) -> None:
    """Bring a file of format 1 to this format, or leave it as it is if anything fails.

    Documents, metadata and vectors stay; full-text terms are added.

    Args:
        fingerprint: the model's by today's rule, if that is known.
    """
    write_ahead(connection)
    with transaction(connection):
        info = read_info(connection, path)
        if info.format == FORMAT:  # another process was faster
            return
        connection.execute("ALTER TABLE vectors RENAME TO old_vectors")
        connection.execute("ALTER TABLE documents RENAME TO old_documents")
        for table in TABLES:
            name = table.split()[2]
            if name not in ("meta", "labels", "labels_by_value"):
                connection.execute(table)
        connection.execute(
            "INSERT INTO documents (number, id, text_hash, metadata, text) "
            "SELECT number, id, text_hash, metadata, text FROM old_documents"
        )
        _move_vectors(connection, info)
        connection.execute("DROP TABLE old_vectors")
        connection.execute("DROP TABLE old_documents")
        new: dict[str, str | int] = {"format": FORMAT, "fingerprint": fingerprint or info.fingerprint}
        new |= {"storage": info.storage, "passage_tokens": info.passage_tokens}
        connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", new.items())


def _move_vectors(connection: sqlite3.Connection, info: IndexInfo) -> None:
    """Each document becomes one passage with its number; numbers that are free become holes."""
    rows = connection.execute(
        "SELECT number, text, vector FROM old_documents JOIN old_vectors ON number = document ORDER BY number"
    )
    last = 0
    while part := rows.fetchmany(MIGRATED_ROWS):
        passages = [(number, number, 0, len(text), "", info.ratio) for number, text, _ in part]
        connection.executemany("INSERT INTO passages VALUES (?, ?, ?, ?, ?, ?)", passages)
        indexed = ((number, " ".join(terms(text))) for number, text, _ in part)
        connection.executemany("INSERT INTO terms (rowid, words) VALUES (?, ?)", indexed)
        numbers = np.array([number for number, _, _ in part], dtype=np.int64)
        vectors = np.frombuffer(b"".join(row[2] for row in part), dtype=np.float32)
        write_vectors(connection, info.layout, numbers, vectors.reshape(len(part), -1))
        free = set(range(last + 1, part[-1][0])) - {row[0] for row in part}
        connection.executemany("INSERT INTO holes VALUES (?)", ((number,) for number in free))
        last = part[-1][0]
