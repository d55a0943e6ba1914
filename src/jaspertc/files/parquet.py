"""Columns of Parquet files."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from jaspertc.errors import DataFileError, MissingExtraError
from jaspertc.files.opening import reading

ROWS = 1024  # of a batch


def arrow() -> Any:
    """The package ``pyarrow``, with ``pyarrow.parquet``.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow", "parquet", "reading or writing parquet") from error
    return pyarrow


@contextmanager
def reading_parquet(path: str | Path) -> Iterator[None]:
    """What is wrong with a Parquet file becomes a DataFileError that names it."""
    try:
        with reading(path):
            yield
    except UnicodeDecodeError as error:
        raise DataFileError(f"{path} holds a text that is not UTF-8; convert it") from error
    except (ValueError, arrow().ArrowException) as error:
        raise DataFileError(f"{path} is corrupt or no parquet file ({error}); copy it again") from error


def open_parquet(path: str | Path) -> Any:
    """A ``ParquetFile``, whose columns are read by ``read_columns``.

    Raises:
        DataFileError: it is no Parquet file.
    """
    parquet = arrow().parquet
    with reading_parquet(path):
        return parquet.ParquetFile(path)


def read_columns(path: Path, file: Any, names: Sequence[str]) -> Iterator[tuple[Any, ...]]:
    """The rows of some columns, a batch of them in memory.

    Raises:
        DataFileError: at once if two columns have one of the names; while reading if the file is corrupt.
    """
    for name in names:
        if file.schema_arrow.names.count(name) > 1:
            raise DataFileError(f"{path}: {name!r} is the name of two columns; rename one")
    return _rows(path, file, list(names))


def _rows(path: Path, file: Any, names: list[str]) -> Iterator[tuple[Any, ...]]:
    with reading_parquet(path):
        batches = file.iter_batches(batch_size=ROWS, columns=names)
    while True:
        with reading_parquet(path):
            batch = next(batches, None)
            columns = [] if batch is None else [batch.column(name).to_pylist() for name in names]
        if batch is None:
            return
        yield from zip(*columns)
