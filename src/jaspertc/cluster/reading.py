"""The rows of a unit; what is wrong with one is written down and the rest is read."""

import gzip
import json
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

from jaspertc.cluster.storage import UrlFile, open_url
from jaspertc.cluster.units import FILES, IdKind, Unit, open_parquet
from jaspertc.errors import DataFileError
from jaspertc.files.hashes import content_id
from jaspertc.files.json_lines import parse_objects
from jaspertc.files.opening import opened, reading
from jaspertc.files.parquet import ROWS as PARQUET_ROWS
from jaspertc.files.texts import Id, Row, csv_rows, whole_text

TAIL_BYTES = 1 << 20
GIVEN_UP = 16  # times the longest text: as far as a line that is too long is read, for its id
LARGEST_ID = 2**63 - 1

NO_TEXT, NO_STRING, NO_JSON, NO_UTF8 = "no text", "text is no string", "not JSON", "not UTF-8"
NUL = "a NUL character"
NO_ID, OTHER_ID, TOO_LONG = "no id", "id of another kind", "too long"
BROKEN_GROUP, BROKEN_FILE, DUPLICATE = "broken row group", "broken file", "duplicate id"


class Bad(NamedTuple):
    """A row, or several, that got no vector: where, its id if it is known, why, and how many."""

    where: str
    id: Id | None
    reason: str
    rows: int = 1


@dataclass(frozen=True, kw_only=True)
class Fields:
    """What is read of a row.

    Args:
        text: field or column of the text.
        id: likewise of the id.
        ids: whether texts have ids; without, a hash of its content stands for each.
        most_bytes: longest text in UTF-8, or line of a file; what is longer is bad.
    """

    text: str
    id: str
    ids: IdKind
    most_bytes: int


def read_unit(unit: Unit, fields: Fields) -> tuple[list[Row], list[Bad]]:
    """The sound rows of a unit in order, each with an id, and all others.

    Raises:
        OSError: the file is gone, or its store does not answer.
        DataFileError: likewise.
    """
    rows: list[Row] = []
    bad: list[Bad] = []
    readers = {".parquet": _parquet_rows, ".csv": _csv_rows, FILES: _files_rows}
    for row in readers.get(unit.kind, _line_rows)(unit, fields):
        if isinstance(row, Bad):
            bad.append(row)
        else:
            rows.append(row)
    return rows, bad


def _line_rows(unit: Unit, fields: Fields) -> Iterator[Row | Bad]:
    lines = _packed_lines(unit) if unit.packed else _byte_lines(unit, fields.most_bytes)
    for offset, line in lines:
        where = f"{unit.url}, {offset}"
        if isinstance(line, Bad):
            yield line
        elif unit.kind == ".txt" or line.strip():
            yield from _rows_of_line(where, line, unit.kind, fields)


def _rows_of_line(where: str, line: bytes, kind: str, fields: Fields) -> Iterator[Row | Bad]:
    if len(line) > fields.most_bytes:
        yield Bad(where, _id_within(line, fields) if kind != ".txt" else None, TOO_LONG)
        return
    try:
        text = line.decode("utf-8-sig")
    except UnicodeDecodeError:
        yield Bad(where, None, NO_UTF8)
        return
    if "\0" in text:
        yield Bad(where, None, NUL)
        return
    if kind == ".txt":
        yield _row(where, text.removesuffix("\r"), None, fields)
        return
    try:
        rows = parse_objects(text)
    except (ValueError, RecursionError):
        rows = [None]
    for row in rows:
        if isinstance(row, dict):
            yield _row(where, row.get(fields.text), row.get(fields.id), fields)
        else:
            yield Bad(where, None, NO_JSON)


def _csv_rows(unit: Unit, fields: Fields) -> Iterator[Row | Bad]:
    """Rows of a .csv; after a line that breaks it, none can be read."""
    number = 0
    try:
        for where, row in csv_rows(UrlFile(unit.url)):
            if number >= unit.stop:
                return
            if number >= unit.start:
                yield _row(where, row.get(fields.text), row.get(fields.id) or None, fields)
            number += 1
    except DataFileError as error:
        _require_broken(error)
        yield Bad(str(error), None, BROKEN_FILE)


def _files_rows(unit: Unit, fields: Fields) -> Iterator[Row | Bad]:
    """Files that are one text each."""
    for url, name in unit.files:
        try:
            yield _row(url, whole_text(UrlFile(url)), name, fields)
        except DataFileError as error:
            _require_broken(error)
            yield Bad(str(error), name, BROKEN_FILE)


def _require_broken(error: DataFileError) -> None:
    """Raise it again if the file is gone or its store does not answer: then its content may be sound."""
    cause = error.__context__
    if isinstance(cause, OSError) and not isinstance(cause, gzip.BadGzipFile):
        raise error


def _id_within(line: bytes, fields: Fields) -> Id | None:
    """The id of a line that is too long to be worked on, where all of it was read."""
    try:
        name = json.loads(line).get(fields.id)
    except (ValueError, RecursionError, AttributeError):
        return None
    return name if isinstance(name, (str, int)) else None


def _row(where: str, text: object, name: object, fields: Fields) -> Row | Bad:
    known = name if isinstance(name, (str, int)) and not isinstance(name, bool) else None
    if not isinstance(text, str):
        return Bad(where, known, NO_TEXT if text is None else NO_STRING)
    if len(text) > fields.most_bytes or len(text.encode(errors="surrogatepass")) > fields.most_bytes:
        return Bad(where, known, TOO_LONG)
    if fields.ids == "none":
        return Row(content_id(text), text)
    if name is None:
        return Bad(where, None, NO_ID)
    if known is None:
        return Bad(where, None, OTHER_ID)
    if fields.ids == "integer":
        whole = isinstance(known, int) and -LARGEST_ID <= known <= LARGEST_ID
        return Row(known, text) if whole else Bad(where, known, OTHER_ID)
    named = str(known)
    try:
        named.encode()
    except UnicodeEncodeError:
        return Bad(where, None, OTHER_ID)
    return Row(named, text)


def _byte_lines(unit: Unit, most: int) -> Iterator[tuple[str, bytes | Any]]:
    """Lines that begin within the unit's bytes. Of a last line that is too long only a part is read."""
    system, path = open_url(unit.url)
    start = max(0, unit.start - 1)
    data = bytes(system.cat_file(path, start=start, end=unit.stop))
    size = system.size(path)
    offset = start
    if unit.start:
        first = data.find(b"\n") + 1
        if not first:
            return  # the middle of a line that began before
        data, offset = data[first:], offset + first
    if not data:
        return
    end = unit.stop
    while not data.endswith(b"\n") and end < size:
        last = len(data) - (data.rfind(b"\n") + 1)
        if last > GIVEN_UP * most:
            break
        more = bytes(system.cat_file(path, start=end, end=min(end + TAIL_BYTES, size)))
        end += len(more)
        newline = more.find(b"\n")
        data += more if newline < 0 else more[: newline + 1]
    for line in data.removesuffix(b"\n").split(b"\n"):
        yield f"byte {offset}", line
        offset += len(line) + 1


def _packed_lines(unit: Unit) -> Iterator[tuple[str, bytes | Any]]:
    number, packed = unit.start, UrlFile(unit.url)
    try:
        with reading(packed), opened(packed) as file:
            for line in islice(file, unit.start, unit.stop):
                number += 1
                yield f"line {number}", line.removesuffix(b"\n").removesuffix(b"\r")
    except DataFileError as error:
        _require_broken(error)
        where = f"{unit.url}, line {number + 1}"
        yield where, Bad(where, None, BROKEN_FILE, max(1, unit.stop - number))


def _parquet_rows(unit: Unit, fields: Fields) -> Iterator[Row | Bad]:
    where = f"{unit.url}, row group {unit.group}"
    if unit.group < 0:
        yield Bad(unit.url, None, BROKEN_FILE)
        return
    done = unit.start
    try:
        for text, name in _cells(unit, fields, [fields.text]):
            at = f"{where}, row {done}"
            done += 1
            if isinstance(text, Exception):
                yield Bad(at, name, NO_UTF8)
            else:
                yield _row(at, text, name, fields)
    except (OSError, ValueError, KeyError):
        if not open_url(unit.url)[0].exists(open_url(unit.url)[1]):
            raise
        yield from _lost(unit, fields, where, done)


def _lost(unit: Unit, fields: Fields, where: str, done: int) -> Iterator[Bad]:
    """Rows whose text cannot be read any more; their ids are in another column, which may be sound."""
    names: list[Any] = []
    if fields.ids != "none":
        with suppress(OSError, ValueError, KeyError):
            names = [name for _, name in _cells(unit, fields, [])][done - unit.start :]
    if not names or len(names) != unit.stop - done:
        yield Bad(f"{where}, from row {done}", None, BROKEN_GROUP, unit.stop - done)
        return
    for number, name in enumerate(names, done):
        yield Bad(f"{where}, row {number}", name, BROKEN_GROUP)


def _cells(unit: Unit, fields: Fields, columns: list[str]) -> Iterator[tuple[Any, Any]]:
    """Text (if ``columns`` names it) and id of each row of the unit; a text that is not UTF-8 is an error."""
    with open_parquet(unit.url) as file:
        if fields.ids != "none" and fields.id in file.schema_arrow.names:
            columns = [*columns, fields.id]
        number = 0
        batches = file.iter_batches(batch_size=PARQUET_ROWS, row_groups=[unit.group], columns=columns)
        for batch in batches:
            begin, end = max(unit.start - number, 0), min(unit.stop - number, batch.num_rows)
            number += batch.num_rows
            if begin >= end:
                if number >= unit.stop:
                    return
                continue
            part = batch.slice(begin, end - begin)
            texts = _values(part, fields.text) if fields.text in columns else [None] * len(part)
            names = _values(part, fields.id) if fields.id in columns else [None] * len(part)
            yield from zip(texts, names)


def _values(batch: Any, name: str) -> list[Any]:
    column = batch.column(name)
    try:
        return list(column.to_pylist())
    except UnicodeDecodeError:
        return [_value(item) for item in column]


def _value(item: Any) -> Any:
    try:
        return item.as_py()
    except UnicodeDecodeError as error:
        return error
