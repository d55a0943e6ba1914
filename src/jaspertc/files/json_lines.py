"""JSON lines: each line an object; what is wrong is named with file, line and key."""

import json
import math
from collections.abc import Container, Iterator, Mapping
from pathlib import Path
from typing import Any, NoReturn

from jaspertc.errors import DataFileError
from jaspertc.files.opening import BOM, COMPRESSED, name_of, read_lines

SUFFIXES = (".jsonl", *(f".jsonl{packed}" for packed in COMPRESSED))
TEXT, NUMBER, LABEL, ID = "a string", "a number", "a string or an integer", "a string or an integer"

Row = dict[str, Any]


def read_objects(path: str | Path) -> Iterator[tuple[str, Row]]:
    """The objects of a file, each with the name of its line, such as "F, line 3"; blank lines are left out.

    Raises:
        DataFileError: while reading: the file is missing, broken, or a line holds no JSON object.
    """
    name = name_of(path)
    for number, line in read_lines(path):
        if line.strip():
            where = f"{name}, line {number}"
            try:
                rows = parse_objects(line)
            except (ValueError, RecursionError) as error:  # ValueError also covers integers of absurd length
                raise DataFileError(f"{where}: not JSON: {error}") from error
            for row in rows:
                if not isinstance(row, dict):
                    raise DataFileError(f"{where}: a {type(row).__name__}, it must be a JSON object")
                yield where, row


def parse_objects(line: str) -> list[Any]:
    """The value of a line, or several: of files joined without a newline, where a BOM stands between them.

    Raises:
        ValueError: it is no JSON; NaN and Infinity are none, and no float is as large as 1e999.
    """
    try:
        return [_DECODER.decode(line)]
    except json.JSONDecodeError as error:
        first, rest = line[: error.pos], line[error.pos :]
        if not rest.startswith(BOM):
            raise
        return [_DECODER.decode(first), *parse_objects(rest.removeprefix(BOM))]


def read_rows(path: Path, schema: Mapping[str, str], *, one_of: Mapping[str, str] | None = None) -> list[Row]:
    """All rows of a file.

    Args:
        schema: key -> what its value must be (``TEXT``, ``NUMBER``, ``LABEL`` or ``ID``).
        one_of: further keys, of which each row has exactly one, the same throughout the file.

    Raises:
        DataFileError: the file cannot be read, a line is no JSON object, or a key is missing or has
            another type; the message names file, line and key.
    """
    return [row for _, row in named_rows(path, schema, one_of=one_of)]


def named_rows(
    path: Path, schema: Mapping[str, str], *, one_of: Mapping[str, str] | None = None
) -> Iterator[tuple[str, Row]]:
    """The rows that ``read_rows`` gives, each with the name of its line, such as "F, line 3"."""
    check_suffix(path)
    first = True
    wanted = dict(schema)
    for where, row in read_objects(path):
        if one_of and first:
            chosen = [key for key in one_of if key in row]
            if len(chosen) != 1:
                raise DataFileError(
                    f"{where}: must have one of the keys {', '.join(one_of)}, it has {', '.join(row)}"
                )
            wanted[chosen[0]] = one_of[chosen[0]]
        for key, kind in wanted.items():
            _check(row, key, kind, where)
        first = False
        yield where, row
    if first:
        raise DataFileError(f"{path} has no rows")


def new_id(where: str, value: object, known: Container[str]) -> str:
    """The text of an id that no earlier row has; 7 and "7" are one id.

    Raises:
        DataFileError: it is among those that are known.
    """
    name = str(value)
    if name in known:
        raise DataFileError(f"{where}: the id {name!r:.80} comes twice; give each row its own")
    return name


def read_log(path: Path) -> list[Row]:
    """The rows of a file that a program appends to, none if it is not there; one cut short is left out."""
    if not path.exists():
        return []
    rows = []
    for _, line in read_lines(path):
        try:
            rows.append(json.loads(line))
        except ValueError:
            continue
    return rows


def check_suffix(path: Path) -> None:
    """Raise DataFileError unless ``path`` is called a file of JSON lines."""
    if not path.name.lower().endswith(SUFFIXES):
        raise DataFileError(f"{path} has an unknown type, it must end in {' or '.join(SUFFIXES)}")


def value_of(where: str, row: Mapping[str, Any], name: str) -> Any:
    """The value of a key.

    Raises:
        DataFileError: there is no such key; those that are there are named.
    """
    if name not in row:
        raise DataFileError(f"{where}: {no_field(name, row)}; name another in the recipe")
    return row[name]


def no_field(name: str, fields: Mapping[str, object] | list[str]) -> str:
    """What is said of a field or column that is not there."""
    return f"no field {name!r}, it has {', '.join(fields) or 'none'}"


def _check(row: Row, key: str, kind: str, where: str) -> None:
    if key not in row:
        raise DataFileError(f"{where}: no key {key!r}, it has {', '.join(row) or 'none'}")
    value = row[key]
    types = {TEXT: str, NUMBER: (int, float)}.get(kind, (str, int))
    if not isinstance(value, types) or isinstance(value, bool):  # type: ignore[arg-type]
        raise DataFileError(f"{where}: key {key!r} is {value!r:.60}, it must be {kind}")
    if kind == NUMBER and not is_finite(value):
        raise DataFileError(
            f"{where}: key {key!r} is {value!r:.60}, it must be a finite number; remove the line"
        )


def is_finite(value: float) -> bool:
    """Whether a number of JSON, which may have any length, is one among those that are computed with."""
    try:
        return math.isfinite(value)
    except OverflowError:  # an integer beyond all floats
        return False


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number, which are finite; remove the line")


def _finite(digits: str) -> float:
    value = float(digits)
    if math.isinf(value):
        raise ValueError(f"{digits:.40} is too large for a number; remove the line")
    return value


_DECODER = json.JSONDecoder(
    parse_float=_finite, parse_constant=_no_constant
)  # json.loads would make one for each line
