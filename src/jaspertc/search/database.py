"""The file under a search index: opening it, its tables, and SQLite's errors in words one can act on."""

import logging
import math
import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from jaspertc.errors import IndexFileError

logger = logging.getLogger(__name__)

APPLICATION_ID = 0x4A545849  # "JTXI", in the SQLite header: tells our files from other SQLite databases
FORMAT = 1
LOCK_SECONDS = 30
# Vectors are read from first to last at every search; large pages halve that time and waste less space.
PAGE_BYTES = 65536

# Vectors have their own table, so that a search does not read texts. ``labels`` repeats the metadata, one
# row a key, so that a filter is an index look-up and equality does not depend on SQLite's JSON numbers.
TABLES = (
    "CREATE TABLE meta (key TEXT PRIMARY KEY, value NOT NULL) WITHOUT ROWID",
    "CREATE TABLE documents (number INTEGER PRIMARY KEY, id TEXT NOT NULL UNIQUE, "
    "text_hash BLOB NOT NULL, metadata TEXT NOT NULL, text TEXT NOT NULL)",
    "CREATE TABLE vectors (document INTEGER PRIMARY KEY, vector BLOB NOT NULL)",
    "CREATE TABLE labels (document INTEGER NOT NULL, key TEXT NOT NULL, value TEXT NOT NULL, "
    "PRIMARY KEY (document, key)) WITHOUT ROWID",
    "CREATE INDEX labels_by_value ON labels (key, value)",
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
_DAMAGED = "restore a copy, or delete it and build the index again"


@dataclass(frozen=True, kw_only=True)
class IndexInfo:
    """What an index file says about itself.

    Attributes:
        format: version of the tables.
        model: the name the model was loaded by.
        fingerprint: hash of the model's weights, configuration and tokenizer.
        dims: width of the vectors.
        ratio: compression ratio of documents and queries.
        threshold: texts up to this many tokens are not compressed.
        documents: how many there were when this was read.
    """

    format: int
    model: str
    fingerprint: str
    dims: int
    ratio: float
    threshold: int
    documents: int


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
def transaction(connection: sqlite3.Connection) -> Iterator[None]:
    """All or nothing: what is executed inside is written together, or not at all if anything is raised."""
    connection.execute("BEGIN IMMEDIATE")
    try:
        yield
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:  # a full disk makes SQLite roll back by itself
            connection.execute("ROLLBACK")
        raise


def load_vector_functions(connection: sqlite3.Connection) -> str:
    """Give a connection ``vec_distance_cosine``; returns whose it is, ``sqlite-vec`` or ``numpy``.

    NumPy's is for Pythons whose sqlite3 cannot load extensions and for installs without the extra; it
    gives the same results, slower.
    """
    try:
        import sqlite_vec

        connection.enable_load_extension(True)
        sqlite_vec.load(connection)
        connection.enable_load_extension(False)
    except (ImportError, AttributeError, sqlite3.Error) as error:
        connection.create_function("vec_distance_cosine", 2, _cosine_distance, deterministic=True)
        logger.info("vector distances: numpy, since sqlite-vec cannot be loaded (%s)", error)
        return "numpy"
    logger.info("vector distances: sqlite-vec")
    return "sqlite-vec"


def _cosine_distance(a: bytes, b: bytes) -> float | None:
    """1 - cosine of two float32 vectors, ``None`` where it is not defined."""
    left, right = (np.frombuffer(part, dtype=np.float32) for part in (a, b))
    norms = float(left @ left) * float(right @ right)
    return None if norms == 0 else 1.0 - float(left @ right) / math.sqrt(norms)


def connect(path: Path, *, create: bool = False) -> sqlite3.Connection:
    """Open a file for searching and writing; the caller closes it.

    Args:
        path: the file.
        create: make it if there is none.

    Raises:
        IndexFileError: there is no such file, or it cannot be opened.
    """
    connection = _connect(path, "rwc" if create else "rw")
    load_vector_functions(connection)
    return connection


def describe(path: str | Path) -> IndexInfo:
    """What an index file says about itself, without a model and without sqlite-vec.

    Raises:
        IndexFileError: no such file, not an index, or of a newer format.
    """
    path = Path(path)
    with closing(_connect(path, "rw")) as connection, sqlite_errors(path, "read"):
        return read_info(connection, path)


def read_info(connection: sqlite3.Connection, path: Path) -> IndexInfo:
    """``describe`` for an open connection."""
    application = connection.execute("PRAGMA application_id").fetchone()[0]
    if application != APPLICATION_ID:
        what = "an empty file" if is_empty(connection) else "an SQLite database of another application"
        raise IndexFileError(f"{path} is {what}, not a jaspertc search index; give another path")
    found = dict(connection.execute("SELECT key, value FROM meta"))
    if not isinstance(found.get("format"), int):
        raise IndexFileError(f"{path} does not say which format it has: it is damaged; {_DAMAGED}")
    if found["format"] > FORMAT:
        raise IndexFileError(
            f"{path} has format {found['format']}, this jaspertc reads up to {FORMAT}; upgrade jaspertc"
        )
    for name, kind in IndexInfo.__annotations__.items():
        if not isinstance(found.get(name), kind):
            raise IndexFileError(
                f"{path} says {name} is {found.get(name)!r}, not a {kind.__name__}: it is damaged; {_DAMAGED}"
            )
    return IndexInfo(**{name: found[name] for name in IndexInfo.__annotations__})


def is_empty(connection: sqlite3.Connection) -> bool:
    """Whether a database has neither tables nor another application's mark."""
    marked = connection.execute("PRAGMA application_id").fetchone()[0]
    return not marked and not connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]


def create_if_empty(connection: sqlite3.Connection, info: IndexInfo) -> None:
    """Write the tables and what the index says about itself, unless the file has content already."""
    if not is_empty(connection):
        return
    connection.execute(f"PRAGMA page_size = {PAGE_BYTES}")
    with transaction(connection):
        if not is_empty(connection):  # another process was faster
            return
        for table in TABLES:
            connection.execute(table)
        connection.executemany("INSERT INTO meta VALUES (?, ?)", asdict(info).items())
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")


def _connect(path: Path, mode: str) -> sqlite3.Connection:
    if mode == "rw" and not path.exists():
        raise IndexFileError(f"no index at {path}; build one: jaspertc index FILES... --output {path}")
    with sqlite_errors(path, "open"):
        # isolation_level=None: transactions begin and end where we say, not where the module guesses.
        return sqlite3.connect(
            f"{path.absolute().as_uri()}?mode={mode}", uri=True, timeout=LOCK_SECONDS, isolation_level=None
        )
