"""What is indexed, and reading it from ``.txt`` and ``.jsonl`` files."""

import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NoReturn

from jaspertc.errors import DataFileError, InputError

Scalar = str | int | float | bool | None
SUFFIXES = (".txt", ".jsonl")


@dataclass(frozen=True)
class Document:
    """A text with a name.

    Attributes:
        id: unique in the index, not empty.
        text: what is embedded and shown; may be empty.
        metadata: what searches can be filtered by: strings, finite numbers, booleans and None.
    """

    id: str
    text: str
    metadata: Mapping[str, Scalar] = field(default_factory=dict)


def check_document(document: Document) -> None:
    """Raise InputError, naming the id, unless every part of a document can be stored."""
    if not isinstance(document, Document):
        raise InputError(f"{document!r:.80} is a {type(document).__name__}, it must be a Document(id, text)")
    if not isinstance(document.id, str) or not document.id:
        raise InputError(f"document id is {document.id!r:.80}, it must be a string that is not empty")
    where = f"document {document.id!r:.80}"
    check_unicode(where, "id", document.id)
    if not isinstance(document.text, str):
        raise InputError(
            f"{where}: text is {document.text!r:.80} of type {type(document.text).__name__}, "
            "it must be a string"
        )
    check_unicode(where, "text", document.text)
    if not isinstance(document.metadata, Mapping):
        raise InputError(f"{where}: metadata is {document.metadata!r:.80}, it must be a mapping")
    check_metadata(where, document.metadata)


def check_metadata(where: str, metadata: Mapping[str, Scalar]) -> None:
    """Raise InputError, beginning with ``where``, unless keys are strings and values are scalars."""
    for key, value in metadata.items():
        if not isinstance(key, str):
            raise InputError(f"{where}: metadata key {key!r:.80} is not a string")
        check_unicode(where, "metadata key", key)
        if isinstance(value, str):
            check_unicode(where, f"metadata {key!r}", value)
        elif not (value is None or isinstance(value, (bool, int, float))):
            raise InputError(
                f"{where}: metadata {key!r} is {value!r:.80} of type {type(value).__name__}, "
                "it must be a string, number, boolean or None"
            )
        elif isinstance(value, float) and not math.isfinite(value):
            raise InputError(f"{where}: metadata {key!r} is {value}, it must be a finite number")


def check_unicode(where: str, what: str, text: str) -> None:
    """Raise InputError, beginning with ``where`` and ``what``, if a string cannot be written as UTF-8."""
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise InputError(
            f"{where}: {what} has half a surrogate pair at character {error.start}, which is no valid text"
        ) from error


def read_documents(
    paths: Sequence[str | Path], *, text_field: str = "text", id_field: str = "id"
) -> Iterator[Document]:
    """Read documents from files, one line at a time.

    - ``.txt``: one document a line, with ``file name:line number`` as id; blank lines are left out.
    - ``.jsonl``: one JSON object a line; fields other than text and id become metadata when they are
      strings, numbers, booleans or null, and are left out otherwise.

    Args:
        paths: UTF-8 files ending in ``.txt`` or ``.jsonl``.
        text_field: the JSON field with the text.
        id_field: the JSON field with the id: a string, or an integer, which is written as one.

    Raises:
        DataFileError: at once for a missing file, another kind of file, or two ``.txt`` files of the same
            name; while reading for broken UTF-8 or JSON, and a field missing or of the wrong type. The
            message names file, line and field.
    """
    files = [Path(path) for path in paths]
    names: dict[str, Path] = {}
    for path in files:
        if path.suffix.lower() not in SUFFIXES:
            raise DataFileError(f"{path} is not a {' or '.join(SUFFIXES)} file")
        if not path.is_file():
            raise DataFileError(f"{path} {'is a folder' if path.is_dir() else 'does not exist'}; give files")
        if path.suffix.lower() == ".txt" and names.setdefault(path.name, path) is not path:
            raise DataFileError(
                f"{names[path.name]} and {path} would give the same ids ({path.name}:1 ...); rename one"
            )
    return _documents(files, text_field, id_field)


def _documents(files: Iterable[Path], text_field: str, id_field: str) -> Iterator[Document]:
    for path in files:
        plain = path.suffix.lower() == ".txt"
        for number, line in _lines(path):
            if plain:
                yield Document(f"{path.name}:{number}", line)
            else:
                yield _parsed(f"{path}, line {number}", line, text_field, id_field)


def _lines(path: Path) -> Iterator[tuple[int, str]]:
    """Lines that are not blank, numbered from 1."""
    try:
        with path.open("rb") as file:  # bytes, so that a wrong one can be blamed on its line
            for number, raw in enumerate(file, 1):
                try:
                    line = raw.decode("utf-8-sig" if number == 1 else "utf-8").rstrip("\r\n")
                except UnicodeDecodeError as error:
                    raise DataFileError(
                        f"{path}, line {number}: not UTF-8 at byte {error.start}; convert the file to UTF-8"
                    ) from error
                if line.strip():
                    yield number, line
    except OSError as error:
        raise DataFileError(f"{path} cannot be read: {error.strerror}") from error


def _parsed(where: str, line: str, text_field: str, id_field: str) -> Document:
    try:
        row = json.loads(line, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:  # ValueError also covers integers of absurd length
        raise DataFileError(f"{where}: not JSON: {error}") from error
    if not isinstance(row, dict):
        raise DataFileError(f"{where}: a {type(row).__name__}, it must be a JSON object")
    text = _field(where, row, text_field, "--text-field")
    if not isinstance(text, str):
        raise DataFileError(f"{where}: {text_field!r} is {text!r:.80}, it must be a string")
    name = _field(where, row, id_field, "--id-field")
    if isinstance(name, bool) or not isinstance(name, (str, int)) or name == "":
        raise DataFileError(
            f"{where}: {id_field!r} is {name!r:.80}, it must be an integer or a string that is not empty"
        )
    metadata = {
        key: value
        for key, value in row.items()
        if key not in (text_field, id_field) and not isinstance(value, (dict, list))
    }
    return Document(str(name), text, metadata)


def _field(where: str, row: dict[str, Any], name: str, option: str) -> object:
    if name not in row:
        raise DataFileError(
            f"{where}: no field {name!r}, it has {', '.join(row) or 'none'}; name another with {option}"
        )
    return row[name]


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")
