"""A corpus on any file system, cut into units that workers read by themselves.

Where a unit begins and ends depends on the files and on the rows a unit may hold, never on the workers.
"""

import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from glob import has_magic
from itertools import groupby
from typing import Any, Literal

from jaspertc.cluster.storage import UrlFile, full_url, in_parallel, open_url
from jaspertc.errors import DataFileError, MissingExtraError
from jaspertc.files.json_lines import no_field
from jaspertc.files.opening import BOM, COMPRESSED, STDIN, opened, reading
from jaspertc.files.texts import (
    DEFAULT_ID_FIELD,
    SUFFIXES,
    WHOLE,
    csv_rows,
    ending_of,
)

FILES = "files"  # the kind of a unit that is several files, each one text
SAMPLE_BYTES = 1 << 20
CHANGED = ("ETag", "mtime", "LastModified", "last_modified", "updated", "created")

IdKind = Literal["none", "string", "integer"]


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A piece of one file, or several files that are one text each.

    Args:
        number: its place among all units, from 0.
        url: the file, or the first.
        kind: the file's ending without that of its compression, or ``FILES``.
        start: the first byte (.jsonl, .txt: lines that begin from there on), line or row (what is compressed,
            and .csv) or row of its row group (.parquet).
        stop: the first that is not in it any more.
        group: the row group; -1 for a file whose footer cannot be read.
        files: URL and id of each file that is one text.
    """

    number: int
    url: str
    kind: str
    start: int
    stop: int
    group: int = 0
    files: tuple[tuple[str, str], ...] = ()

    @property
    def packed(self) -> bool:
        """Whether its file is compressed."""
        return self.url.lower().endswith(COMPRESSED)

    def to_json(self) -> str:
        """As text, for the way to a worker."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Unit":
        """The opposite of ``to_json``."""
        values = json.loads(text)
        return cls(**{**values, "files": tuple(map(tuple, values["files"]))})


def find_inputs(source: str) -> list[str]:
    """The files that a path, a pattern with ``*``, or an fsspec URL of either stands for, sorted.

    Raises:
        DataFileError: there are none, or one is of a kind that cannot be read.
    """
    if source == STDIN:
        raise DataFileError("standard input cannot be shared among workers; give a file or a folder")
    system, path = open_url(source)
    try:
        if has_magic(path) and not system.exists(path):
            names = [name for name in system.glob(path) if name.lower().endswith(SUFFIXES)]
        elif system.isdir(path):
            names = [name for name in system.find(path) if _is_shown(name.removeprefix(path))]
            names = [name for name in names if name.lower().endswith(SUFFIXES)]
        else:
            names = [path] if system.exists(path) else []
    except OSError as error:
        raise DataFileError(f"{source} cannot be read ({error})") from error
    if not names:
        raise DataFileError(f"{source} holds no {', '.join(SUFFIXES)} file; give another path")
    for name in names:
        if not name.lower().endswith(SUFFIXES):
            raise DataFileError(f"{name} has an unknown type, it must end in {', '.join(SUFFIXES)}")
    return sorted(full_url(system.unstrip_protocol(name)) for name in names)


def _is_shown(name: str) -> bool:
    return not any(part.startswith((".", "_")) for part in name.split("/") if part)


def texts_by_file(source: str, urls: list[str]) -> dict[str, str]:
    """The files of ``source`` that are one text each, by URL, and their ids, as in the local engine."""
    system, path = open_url(source)
    is_folder = system.isdir(path)
    root = path if is_folder else path[: _first_magic(path)].rpartition("/")[0]
    start = len(str(system.unstrip_protocol(root)).rstrip("/")) + 1
    found = {}
    for url in urls:
        kind, name = ending_of(url), url[start:]
        if kind in WHOLE:
            found[url] = name
        elif kind == ".txt" and is_folder:
            found[url] = name[: name.lower().rindex(kind)]
    return found


def _first_magic(path: str) -> int:
    return next((index for index, character in enumerate(path) if has_magic(character)), len(path))


def identity_of(urls: list[str]) -> dict[str, list[Any]]:
    """What tells whether files are still the same: size and time of change, or tag, by URL."""

    def look(url: str) -> list[Any]:
        system, path = open_url(url)
        info = system.info(path)
        changed = next((str(info[name]) for name in CHANGED if info.get(name) is not None), "")
        return [info["size"], changed]

    return dict(zip(urls, in_parallel(look, urls)))


def cut(urls: list[str], rows: int, by_file: Mapping[str, str] | None = None) -> list[Unit]:
    """All files as units of about ``rows`` rows, in order.

    Args:
        by_file: those that are one text each, and their ids; see ``texts_by_file``.

    Raises:
        DataFileError: a file cannot be read.
        MissingExtraError: one is parquet and pyarrow is not installed.
    """
    names, flat = by_file or {}, list[Mapping[str, Any]]()
    for whole, group in groupby(urls, names.__contains__):
        if whole:
            files = [(url, names[url]) for url in group]
            blocks = [tuple(files[start : start + rows]) for start in range(0, len(files), rows)]
            flat += [
                {"url": block[0][0], "kind": FILES, "start": 0, "stop": len(block), "files": block}
                for block in blocks
            ]
        else:
            parts = in_parallel(lambda url: list(_parts(url, rows)), list(group))
            flat += [part for found in parts for part in found]
    return [Unit(number=number, **part) for number, part in enumerate(flat)]


def _parts(url: str, rows: int) -> Iterator[Mapping[str, Any]]:
    kind = ending_of(url)
    same = {"url": url, "kind": kind}
    system, path = open_url(url)
    if kind == ".parquet":
        groups = _row_groups(url)
        if groups is None:
            yield {**same, "start": 0, "stop": 0, "group": -1}
            return
        for group, count in enumerate(groups):
            for start in range(0, count, rows):
                yield {**same, "start": start, "stop": min(start + rows, count), "group": group}
        return
    if kind == ".csv" or url.lower().endswith(COMPRESSED):
        total, step = _rows_of(url, kind), rows
    else:
        total = int(system.size(path))
        sample = system.cat_file(path, start=0, end=min(SAMPLE_BYTES, total)) if total else b""
        step = rows * max(1, len(sample) // max(1, sample.count(b"\n")))
    for start in range(0, total, step):
        yield {**same, "start": start, "stop": min(start + step, total)}


def open_parquet(url: str) -> Any:
    """The file; page checksums are compared where it has some, and what pyarrow raises comes through."""
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow", "ray", "reading or writing parquet") from error
    system, path = open_url(url)
    return pyarrow.parquet.ParquetFile(system.open(path, "rb"), page_checksum_verification=True)


def _row_groups(url: str) -> list[int] | None:
    try:
        with open_parquet(url) as file:
            metadata = file.metadata
            return [metadata.row_group(group).num_rows for group in range(metadata.num_row_groups)]
    except (OSError, ValueError):  # pyarrow's errors are ValueErrors
        return None


def _rows_of(url: str, kind: str) -> int:
    """Lines of a compressed file, or rows of a .csv: what cannot be cut at bytes is counted first."""
    count, file = 0, UrlFile(url)
    try:
        if kind == ".csv":
            for _ in csv_rows(file):
                count += 1
        else:
            with reading(file), opened(file) as lines:
                for _ in lines:
                    count += 1
    except DataFileError:
        return count + 1  # the worker that comes to the break reports it
    return count


def id_kind(
    url: str, id_field: str | None, text_field: str, by_file: Mapping[str, str] | None = None
) -> IdKind:
    """Whether a corpus has ids, by its first file, and of which kind.

    Args:
        by_file: see ``cut``.

    Raises:
        DataFileError: a column or field is missing.
    """
    kind, name = ending_of(url), id_field or DEFAULT_ID_FIELD
    if url in (by_file or {}):
        return "string"
    if kind == ".txt":
        return "none"
    if kind == ".csv":
        _, row = next(csv_rows(UrlFile(url)), ("", {}))
        if row and text_field not in row:
            raise DataFileError(f"{url}: {no_field(text_field, row)}; name another with --text-field")
        return "string" if row.get(name) else _no_ids(url, id_field)
    if kind == ".parquet":
        if _row_groups(url) is None:
            return "string"
        import pyarrow

        with open_parquet(url) as file:
            schema = file.schema_arrow
        if text_field not in schema.names:
            raise DataFileError(f"{url}: no column {text_field!r}, it has {', '.join(schema.names)}")
        for column in (text_field, name):
            if schema.names.count(column) > 1:
                raise DataFileError(f"{url}: {column!r} is the name of two columns; rename one")
        if name not in schema.names:
            return _no_ids(url, id_field)
        return "integer" if pyarrow.types.is_integer(schema.field(name).type) else "string"
    value = _first_object(url).get(name)
    if value is None:
        return _no_ids(url, id_field)
    return "integer" if isinstance(value, int) and not isinstance(value, bool) else "string"


def _no_ids(url: str, id_field: str | None) -> IdKind:
    if id_field is not None:
        raise DataFileError(f"{url}: its first text has no {id_field!r}; name another with --id-field")
    return "none"


def _first_object(url: str) -> dict[str, Any]:
    file = UrlFile(url)
    try:
        with reading(file), opened(file) as lines:
            for line in lines:
                try:
                    row = json.loads(line.removeprefix(BOM.encode()))
                except (ValueError, RecursionError):
                    continue
                if isinstance(row, dict):
                    return row
    except DataFileError:
        return {}
    return {}
