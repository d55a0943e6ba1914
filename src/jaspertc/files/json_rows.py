"""JSON lines with a schema: what is wrong is named with file, line and key."""

import gzip
import json
import math
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaspertc.errors import DataFileError

SUFFIXES = (".jsonl.gz", ".jsonl")
TEXT, NUMBER, LABEL, ID = "a string", "a number", "a string or an integer", "a string or an integer"

Row = dict[str, Any]


def read_rows(path: Path, schema: Mapping[str, str], *, one_of: Mapping[str, str] | None = None) -> list[Row]:
    """The rows of a .jsonl or .jsonl.gz file.

    Args:
        schema: key -> what its value must be (``TEXT``, ``NUMBER``, ``LABEL`` or ``ID``).
        one_of: further keys, of which each row has exactly one, the same throughout the file.

    Raises:
        DataFileError: the file cannot be read, a line is no JSON object, or a key is missing or has
            another type; the message names file, line and key.
    """
    if not path.name.endswith(SUFFIXES):
        raise DataFileError(f"{path} must end in {' or '.join(SUFFIXES)}")
    rows: list[Row] = []
    chosen: Mapping[str, str] = {}
    for number, line in enumerate(_lines(path), 1):
        if not line.strip():
            continue
        where = f"{path}, line {number}"
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            raise DataFileError(f"{where}: not JSON: {error}") from error
        if not isinstance(row, dict):
            raise DataFileError(f"{where}: a {type(row).__name__}, it must be a JSON object")
        if one_of and not chosen:
            found = [key for key in one_of if key in row]
            if len(found) != 1:
                raise DataFileError(
                    f"{where}: must have one of the keys {', '.join(one_of)}, it has {', '.join(row)}"
                )
            chosen = {found[0]: one_of[found[0]]}
        for key, kind in (*schema.items(), *chosen.items()):
            _check(row, key, kind, where)
        rows.append(row)
    if not rows:
        raise DataFileError(f"{path} has no rows")
    return rows


def _check(row: Row, key: str, kind: str, where: str) -> None:
    if key not in row:
        raise DataFileError(f"{where}: no key {key!r}, it has {', '.join(row) or 'none'}")
    value = row[key]
    types = {TEXT: str, NUMBER: (int, float)}.get(kind, (str, int))
    if not isinstance(value, types) or isinstance(value, bool):  # type: ignore[arg-type]
        raise DataFileError(f"{where}: key {key!r} is {value!r:.60}, it must be {kind}")
    if isinstance(value, float) and not math.isfinite(value):
        raise DataFileError(f"{where}: key {key!r} is {value!r}, it must be a finite number; remove the line")


def _lines(path: Path) -> list[str]:
    try:
        content = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        return content.decode("utf-8-sig").split("\n")
    except FileNotFoundError:
        raise DataFileError(f"{path} does not exist; correct the path, or remove the task") from None
    except (OSError, EOFError, zlib.error, UnicodeDecodeError) as error:
        raise DataFileError(f"{path} cannot be read: {error}; copy it again") from error
