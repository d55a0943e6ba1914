"""Rows as JSON lines or parquet, written whole or not at all."""

import gzip
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, cast

from jaspertc.errors import DataFileError
from jaspertc.files.aside import unique_part, written_aside
from jaspertc.files.parquet import arrow as pyarrow

SUFFIXES = (".jsonl", ".jsonl.gz")
ROW_SUFFIXES = (*SUFFIXES, ".parquet")
PARQUET_ROWS = 8192

RowWriter = Callable[[Mapping[str, Any]], None]


def json_line(row: Mapping[str, Any]) -> bytes:
    """One line of UTF-8; where a string holds a lone surrogate, which UTF-8 has not, of JSON's escapes.

    >>> json_line({"text": "é"}).decode()
    '{"text": "é"}\\n'
    """
    try:
        return json.dumps(row, ensure_ascii=False).encode() + b"\n"
    except UnicodeEncodeError:
        return json.dumps(row).encode() + b"\n"


@contextmanager
def lines_aside(path: Path, *, unique: str = "") -> Iterator[IO[bytes]]:
    """A file that becomes ``path`` when all of it is on disk; compressed if ``path`` ends in .gz.

    The same lines give the same bytes. ``unique`` is as in ``written_aside``.
    """
    with written_aside(path, unique=unique) as file:
        if path.suffix.lower() != ".gz":
            yield file
            return
        with gzip.GzipFile(filename="", fileobj=file, mode="wb", compresslevel=6, mtime=0) as packed:
            yield cast(IO[bytes], packed)


@contextmanager
def rows_aside(output: Path, id_field: str, text_field: str) -> Iterator[RowWriter]:
    """What takes the rows of a corpus, each a mapping, and makes ``output`` of them once all are there.

    Args:
        output: ends in one of ``ROW_SUFFIXES``; parquet has two columns of strings, id and text.
        id_field: the key, and the column, of the id.
        text_field: likewise of the text.

    Raises:
        MissingExtraError: it is parquet and pyarrow is not installed.
    """
    if output.suffix.lower() != ".parquet":
        with lines_aside(output, unique=unique_part()) as lines:
            yield lambda row: _write_line(lines, row)
        return
    arrow = pyarrow()
    schema = arrow.schema([(id_field, arrow.string()), (text_field, arrow.string())])
    columns: list[list[str]] = [[], []]
    unique = unique_part()
    with (
        written_aside(output, unique=unique) as file,
        arrow.parquet.ParquetWriter(file, schema) as writer,
    ):

        def flush() -> None:
            arrays = [arrow.array(column, arrow.string()) for column in columns]
            writer.write_table(arrow.Table.from_arrays(arrays, schema=schema))
            for column in columns:
                column.clear()

        def write(row: Mapping[str, Any]) -> None:
            columns[0].append(str(row[id_field]))
            columns[1].append(row[text_field])
            if len(columns[0]) >= PARQUET_ROWS:
                flush()

        yield write
        flush()


def _write_line(lines: IO[bytes], row: Mapping[str, Any]) -> None:
    lines.write(json_line(row))


def check_new_file(path: Path, option: str, suffixes: Sequence[str] = SUFFIXES, *, overwrite: bool) -> None:
    """Find out early whether ``path`` could be made.

    Raises:
        DataFileError: it has another ending than ``suffixes``, is there already and not to be overwritten,
            or its folder is missing or cannot be written to; ``option`` names what to change.
    """
    if not path.name.lower().endswith(tuple(suffixes)):
        raise DataFileError(f"{option} is {path}, it must end in {', '.join(suffixes)}")
    if path.is_dir():
        raise DataFileError(f"{path} is a folder; give a file name in {option}")
    if path.exists() and not overwrite:
        raise DataFileError(f"{path} exists already; give another {option}, or --overwrite to replace it")
    if not path.parent.is_dir():
        raise DataFileError(f"{path.parent} is no folder; make it first, or give another {option}")
    if not os.access(path.parent, os.W_OK):
        raise DataFileError(f"{path.parent} cannot be written to; give another {option}")
