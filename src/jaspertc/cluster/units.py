"""A corpus on any file system, cut into units that workers read by themselves.

Where a unit begins and ends depends on the files and on the rows a unit may hold, never on the workers.
"""

import gzip
import json
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from jaspertc.cluster.storage import full_url, in_parallel, open_url
from jaspertc.errors import DataFileError, MissingExtraError
from jaspertc.files.opening import STDIN
from jaspertc.files.texts import DEFAULT_ID_FIELD

KINDS = (".parquet", ".jsonl.gz", ".jsonl", ".txt")
SAMPLE_BYTES = 1 << 20
CHANGED = ("ETag", "mtime", "LastModified", "last_modified", "updated", "created")

IdKind = Literal["none", "string", "integer"]


@dataclass(frozen=True, kw_only=True)
class Unit:
    """A piece of one file.

    Args:
        number: its place among all units, from 0.
        url: the file.
        kind: one of ``KINDS``.
        start: the first byte (.jsonl, .txt: lines that begin from there on), line (.jsonl.gz) or row of its
            row group (.parquet).
        stop: the first that is not in it any more.
        group: the row group; -1 for a file whose footer cannot be read.
    """

    number: int
    url: str
    kind: str
    start: int
    stop: int
    group: int = 0

    def to_json(self) -> str:
        """As text, for the way to a worker."""
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> "Unit":
        """The opposite of ``to_json``."""
        return cls(**json.loads(text))


def find_inputs(source: str) -> list[str]:
    """The files that a path, a pattern with ``*``, or an fsspec URL of either stands for, sorted.

    Raises:
        DataFileError: there are none, or one is of a kind that cannot be read.
    """
    if source == STDIN:
        raise DataFileError("standard input cannot be shared among workers; give a file or a folder")
    system, path = open_url(source)
    try:
        if "*" in path:
            found = system.glob(path)
        elif system.isdir(path):
            found = [name for name in system.find(path) if _is_text_file(name.removeprefix(path))]
        else:
            found = [path] if system.exists(path) else []
    except OSError as error:
        raise DataFileError(f"{source} cannot be read ({error})") from error
    if not found:
        raise DataFileError(f"{source} holds no {', '.join(KINDS[:3])} file; give another path")
    for name in found:
        _kind_of(name)
    return sorted(full_url(system.unstrip_protocol(name)) for name in found)


def _is_text_file(name: str) -> bool:
    """In a folder, .txt files are a text each for the local engine; here they are not taken."""
    hidden = any(part.startswith((".", "_")) for part in name.split("/") if part)
    return not hidden and name.lower().endswith(KINDS[:3])


def _kind_of(name: str) -> str:
    kind = next((kind for kind in KINDS if name.lower().endswith(kind)), None)
    if kind is None:
        raise DataFileError(f"{name} has an unknown type, it must end in {', '.join(KINDS)}")
    return kind


def identity_of(urls: list[str]) -> dict[str, list[Any]]:
    """What tells whether files are still the same: size and time of change, or tag, by URL."""

    def look(url: str) -> list[Any]:
        system, path = open_url(url)
        info = system.info(path)
        changed = next((str(info[name]) for name in CHANGED if info.get(name) is not None), "")
        return [info["size"], changed]

    return dict(zip(urls, in_parallel(look, urls)))


def cut(urls: list[str], rows: int) -> list[Unit]:
    """All files as units of about ``rows`` rows, in order.

    Raises:
        DataFileError: a file cannot be read.
        MissingExtraError: one is parquet and pyarrow is not installed.
    """
    parts = in_parallel(lambda url: list(_parts(url, rows)), urls)
    flat = [part for found in parts for part in found]
    return [Unit(number=number, **part) for number, part in enumerate(flat)]


def _parts(url: str, rows: int) -> Iterator[Mapping[str, Any]]:
    kind = _kind_of(url)
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
    if kind == ".jsonl.gz":
        total, step = _lines_of(system, path), rows
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


def _lines_of(system: Any, path: str) -> int:
    """Lines of a compressed file: what cannot be cut at bytes is counted first."""
    count = 0
    try:
        with system.open(path, "rb") as raw, gzip.GzipFile(fileobj=raw) as file:
            for _ in file:
                count += 1
    except (OSError, EOFError):
        return count + 1  # the worker that comes to the break reports it
    return count


def id_kind(url: str, id_field: str | None, text_field: str) -> IdKind:
    """Whether a corpus has ids, by its first file, and of which kind.

    Raises:
        DataFileError: a column or field is missing.
    """
    kind, name = _kind_of(url), id_field or DEFAULT_ID_FIELD
    if kind == ".txt":
        return "none"
    if kind == ".parquet":
        if _row_groups(url) is None:
            return "string"
        import pyarrow

        with open_parquet(url) as file:
            schema = file.schema_arrow
        if text_field not in schema.names:
            raise DataFileError(f"{url}: no column {text_field!r}, it has {', '.join(schema.names)}")
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
    system, path = open_url(url)
    try:
        with system.open(path, "rb", compression="gzip" if url.lower().endswith(".gz") else None) as file:
            for line in file:
                try:
                    row = json.loads(line)
                except ValueError:
                    continue
                if isinstance(row, dict):
                    return row
    except (OSError, EOFError):
        return {}
    return {}
