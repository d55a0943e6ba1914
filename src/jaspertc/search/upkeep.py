"""Looking after an index file, without a model: what is in it, removing, damage, space, export."""

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaspertc.errors import DataFileError, IndexFileError
from jaspertc.files.aside import unique_part, written_aside
from jaspertc.files.lines import check_new_file
from jaspertc.files.parquet import arrow as pyarrow
from jaspertc.files.parquet import open_parquet
from jaspertc.search.blocks import read_vectors
from jaspertc.search.reading import source_name
from jaspertc.search.rows import remove_rows
from jaspertc.search.schema import (
    DAMAGED,
    FORMAT,
    IndexInfo,
    connect,
    is_empty,
    migrate,
    read_info,
    sqlite_errors,
    transaction,
    waiting,
)
from jaspertc.search.usage import STABLE_QUERIES, past_queries

EXPORTED_ROWS = 1024
EXPORTS = (".parquet",)
COLUMNS = ("id", "passage", "start", "stop", "heading", "text", "metadata", "ratio", "embedding")


@dataclass(frozen=True)
class Contents:
    """What an index holds.

    Attributes:
        info: what it says about itself.
        sources: documents by file or folder; ``None`` for those that are from none.
        ratios: passages by the ratio of their vectors.
        queries: how many searches it has learned from.
        centring: ``on``, ``off``, or how many more queries it waits for.
    """

    info: IndexInfo
    sources: dict[str | None, int]
    ratios: dict[float, int]
    queries: int
    centring: str


@contextmanager
def opened(path: Path, action: str) -> Iterator[tuple[sqlite3.Connection, IndexInfo]]:
    """A connection to an index, of whatever model, brought to today's format."""
    with closing(connect(path, "rw")) as connection, sqlite_errors(path, action):
        info = read_info(connection, path)
        if info.format < FORMAT:
            migrate(connection, path)
            info = read_info(connection, path)
        yield connection, info


def contents(path: Path) -> Contents:
    """What is in an index."""
    with opened(path, "read") as (connection, info):
        sources = dict(
            connection.execute(
                "SELECT name, count(*) FROM documents LEFT JOIN sources ON source = sources.number "
                "GROUP BY name ORDER BY name"
            )
        )
        ratios = dict(
            connection.execute("SELECT ratio, count(*) FROM passages GROUP BY ratio ORDER BY ratio")
        )
        queries, _, is_on = past_queries(connection)
    waiting = f"after {STABLE_QUERIES - queries} more queries" if queries < STABLE_QUERIES else "on"
    return Contents(info, sources, ratios, queries, waiting if is_on else "off")


def remove(path: Path, names: Sequence[str]) -> int:
    """Remove documents by id, or files and folders with all their documents; how many documents they were.

    Raises:
        IndexFileError: a name is neither; nothing is removed.
    """
    ids: list[str] = []
    with opened(path, "remove documents from") as (connection, _):
        for name in names:
            present = [
                row[0]
                for row in connection.execute(
                    "SELECT id FROM documents WHERE id = ? OR source IN "
                    "(SELECT number FROM sources WHERE name IN (?, ?))",
                    (name, name, source_name(Path(name), path.parent)),
                )
            ]
            if not present:
                raise IndexFileError(
                    f"{path} has neither a document nor a file {name!r}; nothing was removed; "
                    f"jaspertc index --output {path} --list shows its files"
                )
            ids += present
        return _remove(connection, ids)


def prune(path: Path) -> int:
    """Remove the documents of files and folders that are not on disk any more; how many they were."""
    with opened(path, "remove documents from") as (connection, _):
        names = [row[0] for row in connection.execute("SELECT name FROM sources")]
        gone = [name for name in names if not (path.parent / name).exists()]
        ids = [
            row[0]
            for name in gone
            for row in connection.execute(
                "SELECT id FROM documents WHERE source = (SELECT number FROM sources WHERE name = ?)", (name,)
            )
        ]
        return _remove(connection, ids)


def remove_empty(path: Path) -> None:
    """Remove an index, if it has no documents and nobody else has it open."""
    with suppress(IndexFileError, OSError):
        with closing(connect(path, "rw")) as connection, sqlite_errors(path, "remove"):
            if read_info(connection, path).documents:
                return
            with waiting(connection, 0):
                connection.execute("PRAGMA journal_mode = DELETE")  # fails where others have it open
        path.unlink()


def set_centring(path: Path, is_on: bool) -> None:
    """Whether searches use the mean of past queries."""
    with opened(path, "write to") as (connection, _), transaction(connection):
        connection.execute("INSERT OR REPLACE INTO meta VALUES ('centring', ?)", (int(is_on),))


def check(path: Path) -> None:
    """Read all of an index.

    Raises:
        IndexFileError: it is damaged; what was found is said.
    """
    with opened(path, "check") as (connection, info):
        problems = [row[0] for row in connection.execute("PRAGMA integrity_check") if row[0] != "ok"]
        connection.execute("INSERT INTO terms (terms) VALUES ('integrity-check')")
        for sentence, query in _RULES.items():
            (count,) = connection.execute(query).fetchone()
            if count:
                problems.append(f"{count} {sentence}")
        numbers = connection.execute("SELECT number FROM passages ORDER BY number")
        broken = 0
        while part := numbers.fetchmany(EXPORTED_ROWS):
            vectors = read_vectors(connection, info.layout, np.array([row[0] for row in part]))
            broken += int((~np.isfinite(vectors).all(1)).sum())
        if broken:
            problems.append(f"{broken} vectors are not finite")
    if problems:
        raise IndexFileError(f"{path} is damaged: {'; '.join(problems[:5])}; {DAMAGED}")


_RULES = {
    "documents have no passage": "SELECT count(*) FROM documents WHERE number NOT IN "
    "(SELECT document FROM passages)",
    "passages have no document": "SELECT count(*) FROM passages WHERE document NOT IN "
    "(SELECT number FROM documents)",
    "numbers are both used and free": "SELECT count(*) FROM passages JOIN holes USING (number)",
    "numbers are neither used nor free": "SELECT coalesce((SELECT max(number) FROM passages), 0) "
    "- (SELECT count(*) FROM passages) - (SELECT count(*) FROM holes "
    "WHERE number < (SELECT max(number) FROM passages))",
    "documents are not counted": "SELECT abs((SELECT count(*) FROM documents) "
    "- (SELECT value FROM meta WHERE key = 'documents'))",
    "labels have no document": "SELECT count(*) FROM labels WHERE document NOT IN "
    "(SELECT number FROM documents)",
}


def compact(path: Path) -> tuple[int, int]:
    """Give back the space of what was removed; the file's size in bytes before and after."""
    with opened(path, "compact") as (connection, _):
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        before = path.stat().st_size
        connection.execute("INSERT INTO terms (terms) VALUES ('optimize')")
        connection.execute("VACUUM")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return before, path.stat().st_size


def check_export(path: Path, output: Path) -> None:
    """Find out early whether an index, or one to be made, can be written to ``output``.

    Raises:
        MissingExtraError: pyarrow is not installed.
        DataFileError: ``output`` does not end in .parquet, its folder is missing or cannot be written to, it
            is or lies in a source of the index, or is there already and no export.
        IndexFileError: the index cannot be read.
    """
    check_new_file(output, "--export", EXPORTS, overwrite=True)
    pyarrow()
    for name in _sources(path) if path.exists() else []:
        source = path.parent / name
        if source.is_file() and output.exists() and output.samefile(source):
            raise DataFileError(f"{output} is a source of {path}; give another --export")
        if source.is_dir() and source.resolve() in output.resolve().parents:
            raise DataFileError(f"{output} is in {source}, a source of {path}; give another --export")
    if output.exists():
        file = open_parquet(output)
        if file.schema_arrow.names != [*COLUMNS]:
            raise DataFileError(
                f"{output} exists already and is no export of an index; give another --export"
            )


def _sources(path: Path) -> list[str]:
    """The files and folders an index follows, as it names them; none of format 1, or an empty file."""
    with closing(connect(path, "rw")) as connection, sqlite_errors(path, "read"):
        if is_empty(connection) or read_info(connection, path).format < FORMAT:
            return []
        return [row[0] for row in connection.execute("SELECT name FROM sources")]


def export(path: Path, output: Path) -> int:
    """Write an index as parquet, a row a passage, sorted by number; how many rows there are.

    Columns: id (the document's), passage (from 0), start, stop (characters), heading, text (the passage's),
    metadata (JSON), ratio, and embedding (float32, unit length but for rounding). An earlier export is
    replaced.

    Raises:
        MissingExtraError, DataFileError, IndexFileError: as ``check_export``.
    """
    check_export(path, output)
    arrow = pyarrow()
    count = 0
    with opened(path, "export") as (connection, info), written_aside(output, unique=unique_part()) as file:
        kinds = [
            arrow.string(),
            *[arrow.int32()] * 3,
            *[arrow.string()] * 3,
            arrow.float32(),
            arrow.list_(arrow.float32(), info.dims),
        ]
        schema = arrow.schema([*zip(COLUMNS, kinds)])
        rows = connection.execute(
            "SELECT passages.number, id, "
            "row_number() OVER (PARTITION BY document ORDER BY passages.number) - 1, "
            "start, stop, heading, text, metadata, ratio FROM passages "
            "JOIN documents ON document = documents.number ORDER BY passages.number"
        )
        with arrow.parquet.ParquetWriter(file, schema) as writer:
            while part := rows.fetchmany(EXPORTED_ROWS):
                vectors = read_vectors(connection, info.layout, np.array([row[0] for row in part]))
                columns = [list(column) for column in zip(*(row[1:] for row in part))]
                columns[5] = [text[start:stop] for text, start, stop in zip(columns[5], *columns[2:4])]
                arrays = [arrow.array(column, kind) for column, kind in zip(columns, schema.types)]
                arrays.append(
                    arrow.FixedSizeListArray.from_arrays(arrow.array(vectors.reshape(-1)), info.dims)
                )
                writer.write_table(arrow.Table.from_arrays(arrays, schema=schema))
                count += len(part)
    return count


def _remove(connection: sqlite3.Connection, ids: Sequence[str]) -> int:
    removed = remove_rows(connection, ids)
    with transaction(connection):
        connection.execute(
            "DELETE FROM sources WHERE number NOT IN (SELECT source FROM documents WHERE source IS NOT NULL)"
        )
    return removed
