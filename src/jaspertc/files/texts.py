"""The one reader of texts: files of every kind, folders, patterns and standard input, one text at a time."""

import csv
import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path, PurePath
from typing import Any, NamedTuple

from jaspertc.errors import DataFileError
from jaspertc.files.folders import files_of, identity_of, is_pattern, root_of
from jaspertc.files.html_text import html_text
from jaspertc.files.json_lines import no_field, read_objects
from jaspertc.files.opening import (
    COMPRESSED,
    LONGEST,
    STDIN,
    Openable,
    name_of,
    opened,
    read_lines,
    read_whole,
    reading,
)
from jaspertc.files.parquet import open_parquet, read_columns

Id = str | int
FOLDER = "/"
DEFAULT_ID_FIELD = "id"
WHOLE = (".md", ".html", ".htm")  # one text a file
_PACKABLE = (".txt", ".jsonl", ".csv", *WHOLE)
_PAGES = (".html", ".htm")
SUFFIXES = (*_PACKABLE, ".parquet", *(f"{suffix}{packed}" for packed in COMPRESSED for suffix in _PACKABLE))
BLOCK_CHARACTERS = 2_000_000
MEBIBYTE = 1 << 20


class Row(NamedTuple):
    """A text and, where its file gives one, its id."""

    id: Id | None
    text: str


Found = tuple[Row, dict[str, Any]]
Placed = tuple[str, Row, dict[str, Any]]  # the first is where, such as "F, line 3"
Skip = Callable[[str, str], None]
TEXT_OPTION = "with --text-field"
Cells = tuple[str, object, object, dict[str, Any]]  # where, text and id as they are, the whole row


def read_texts(
    path: str | Path,
    text_field: str = "text",
    id_field: str | None = None,
    *,
    named: str = TEXT_OPTION,
) -> Iterator[Row]:
    """Read the texts of a file, lazily and in order.

    - ``-`` (standard input) and ``.txt``: one text a line, without ids; a blank line is an empty text.
    - ``.md``, ``.html``: one text a file, whose id is the file's name; of a page, what a reader sees.
    - ``.jsonl``: one JSON object a line; blank lines are left out.
    - ``.csv``: one text a row, below a row of names; separated by commas.
    - ``.parquet``: one text a row.
    - each but the last also compressed, with ``.gz`` or ``.zst`` after its ending.
    - a folder: all such files in it, at any depth. There a ``.txt`` file is one text, too, and the id of a
      file is its path, of ``.txt`` without the ending.
    - a pattern such as ``texts/*.md``: the files it fits, each as if given by itself.

    Args:
        path: ``-``, a folder, a pattern or a UTF-8 file with one of the endings above.
        text_field: JSON field or column with the text.
        id_field: JSON field or column with the id, a string or an integer, which every text must
            have. ``None`` stands for ``id``, which either every text must have or none.
        named: how the user names the field with the text, for messages.

    Raises:
        DataFileError: at once for a missing file, another kind of file, or a missing parquet column; while
            reading for what is no UTF-8, JSON, CSV, gzip, zst or parquet, a text over 64 MiB, a NUL
            character, and a field missing or of the wrong type. The message names file, line (or row) and
            field.
        MissingExtraError: the file is parquet or zst and no package is installed that reads it.
    """
    kind = kind_of(path)
    rows = (row for row, _ in read_rows(path, text_field, id_field, named=named))
    return _all_or_none(path, rows) if kind == FOLDER else rows


def read_rows(
    path: str | Path,
    text_field: str = "text",
    id_field: str | None = None,
    *,
    skip: Skip | None = None,
    named: str = TEXT_OPTION,
) -> Iterator[Found]:
    """As ``read_texts``, each with the whole JSON object or CSV row it is from, or {} for other kinds.

    Of a folder some texts may have ids, and others none.

    Args:
        skip: told why of each file of a folder that is one text and cannot be read, and the id that it would
            have; it is left out then.
    """
    placed = read_placed(path, text_field, id_field, skip=skip, named=named)
    return ((row, whole) for _, row, whole in placed)


def read_placed(
    path: str | Path,
    text_field: str = "text",
    id_field: str | None = None,
    *,
    skip: Skip | None = None,
    named: str = TEXT_OPTION,
) -> Iterator[Placed]:
    """As ``read_rows``, each after its place: the file and, where it has several texts, the line or row."""
    kind = kind_of(path)
    if kind == FOLDER:
        return _files_rows(Path(path), files_of(Path(path), SUFFIXES), text_field, id_field, skip, named)
    if kind in WHOLE:
        return _whole(Path(path), Path(path).name)
    if kind in (STDIN, ".txt"):
        name = name_of(path)
        return ((f"{name}, line {number}", Row(None, line), {}) for number, line in read_lines(path))
    key = id_field or DEFAULT_ID_FIELD
    cells = {".jsonl": _json_cells, ".csv": _csv_cells, ".parquet": _parquet_cells}[kind]
    found = cells(Path(path), text_field, key, id_field is not None, named)
    return _checked_rows(found, text_field, key, id_field)


def check_fields(path: str | Path) -> None:
    """Raise DataFileError if ``path`` is of a kind whose texts are no fields of rows, or has such files.

    Pairs are read from two fields; both would be the same text.
    """
    kind = kind_of(path)
    if kind == FOLDER:
        for file in files_of(Path(path), SUFFIXES):
            check_fields(file)
    elif kind in (STDIN, ".txt", *WHOLE):
        raise DataFileError(f"{name_of(path)} has no fields; give a .jsonl, .csv or .parquet file of pairs")


def kind_of(path: str | Path) -> str:
    """``-``, ``/`` for a folder or pattern, or the ending of a file's kind, such as ``.jsonl``.

    Raises:
        DataFileError: there is no such file, or it is of another kind.
    """
    if str(path) == STDIN:
        return STDIN
    path = Path(path)
    with reading(path):  # names may be too long, or folders closed
        if path.is_dir() or is_pattern(path):
            return FOLDER
        missing = not path.exists()
    if missing:
        raise DataFileError(f"{path} does not exist; give a file, or - for standard input")
    if not path.name.lower().endswith(SUFFIXES):
        plain = ", ".join((*_PACKABLE, ".parquet"))
        raise DataFileError(
            f"{path} has an unknown type, it must end in {plain}, or the same and {' or '.join(COMPRESSED)}; "
            "other text can be piped to standard input, one text a line"
        )
    return ending_of(path.name)


def ending_of(name: str) -> str:
    """The ending of a file's kind, without that of its compression."""
    return next(e for e in map(str.lower, reversed(PurePath(name).suffixes)) if e not in COMPRESSED)


def count_rows(path: str | Path) -> int | None:
    """Number of texts in a file, without looking into them; ``None`` for standard input.

    Raises:
        DataFileError: the file cannot be read.
    """
    kind = kind_of(path)
    if kind == STDIN:
        return None
    if kind == FOLDER:
        files = files_of(Path(path), SUFFIXES)
        return sum(1 if is_one_text(path, file) else count_rows(file) or 0 for file in files)
    if kind in WHOLE:
        return 1
    if kind == ".parquet":
        return int(open_parquet(path).metadata.num_rows)
    if kind == ".csv":
        return sum(1 for _ in csv_rows(Path(path)))
    with reading(path), opened(path) as file:
        return sum(1 for line in file if kind == ".txt" or line.strip())


def source_identity(path: str | Path) -> dict[str, str | int]:
    """What tells whether a file is still the same: size, time of change and the hash of its first MiB.

    Raises:
        DataFileError: the file cannot be read.
    """
    if kind_of(path) == FOLDER:
        return identity_of(Path(path), SUFFIXES)
    with reading(path), Path(path).open("rb") as file:
        status = Path(path).stat()
        start = hashlib.sha256(file.read(MEBIBYTE)).hexdigest()
    return {
        "input size": status.st_size,
        "input time of change (ns)": status.st_mtime_ns,
        "input first MiB (sha256)": start,
    }


def blocks(rows: Iterable[Row], size: int, characters: int = BLOCK_CHARACTERS) -> Iterator[list[Row]]:
    """Lists of ``size`` rows, fewer where the texts are so long that ``characters`` are reached before.

    Where a block ends depends only on the rows from its first on.
    """
    block: list[Row] = []
    total = 0
    for row in rows:
        block.append(row)
        total += len(row.text)
        if len(block) >= size or total >= characters:
            yield block
            block, total = [], 0
    if block:
        yield block


def expanded(paths: Iterable[str | Path]) -> list[Path]:
    """The paths, in place of each pattern the files it fits."""
    files: list[Path] = []
    for path in map(Path, paths):
        files += files_of(path, SUFFIXES) if is_pattern(path) else [path]
    return files


def is_one_text(source: str | Path, file: Path) -> bool:
    """Whether a file of a folder or pattern is one text, where by itself each of its lines would be."""
    return not is_pattern(source) and kind_of(file) == ".txt"


def _files_rows(
    source: Path, files: list[Path], text_field: str, id_field: str | None, skip: Skip | None, named: str
) -> Iterator[Placed]:
    root, seen = root_of(source), set()
    for path in files:
        kind, name = kind_of(path), path.relative_to(root).as_posix()
        one_text = is_one_text(source, path)
        if not (one_text or kind in WHOLE):
            yield from read_placed(path, text_field, id_field, named=named)
            continue
        if one_text:
            name = name[: name.lower().rindex(kind)]
        if name in seen:
            raise DataFileError(f"{path}: another file has the id {name!r}, too; rename one")
        seen.add(name)
        try:
            text = whole_text(path)
        except DataFileError as error:
            if skip is None:
                raise
            skip(str(error), name)
        else:
            yield str(path), Row(name, text), {}


def _whole(path: Path, name: str) -> Iterator[Placed]:
    yield str(path), Row(name, whole_text(path)), {}


def whole_text(path: Path | Openable) -> str:
    """A file that is one text; of a page, what a reader sees.

    Raises:
        DataFileError: as ``read_whole``, or it is HTML that cannot be read.
    """
    text = read_whole(path)
    if ending_of(path.name) not in _PAGES:
        return text
    try:
        return html_text(text)
    except AssertionError as error:  # of the standard library's parser
        raise DataFileError(f"{path}: no sound HTML ({error}); correct it, or save it as text") from error


def _all_or_none(source: str | Path, rows: Iterator[Row]) -> Iterator[Row]:
    with_id = None
    for row in rows:
        with_id = (row.id is not None) if with_id is None else with_id
        if with_id != (row.id is not None):
            raise DataFileError(
                f"{source}: some of its files give their texts ids, others do not; give all, or none"
            )
        yield row


def _json_cells(path: Path, text_field: str, id_field: str, required: bool, named: str) -> Iterator[Cells]:
    for where, row in read_objects(path):
        _require(where, text_field, row, named)
        yield where, row[text_field], row.get(id_field), row


def _csv_cells(path: Path, text_field: str, id_field: str, required: bool, named: str) -> Iterator[Cells]:
    for where, row in csv_rows(path):
        _require(where, text_field, row, named)
        yield where, row[text_field], row.get(id_field) or None, row


def csv_rows(path: Path | Openable) -> Iterator[tuple[str, dict[str, Any]]]:
    """The rows of a file of comma-separated values by their names, each with the name of its line.

    Raises:
        DataFileError: as ``read_texts``.
    """
    csv.field_size_limit(LONGEST)  # of the whole process; the library's own is 128 KiB
    rows = csv.reader((f"{line}\n" for _, line in read_lines(path)), strict=True)
    try:
        names = next(rows, [])
        double = next((name for name in names if names.count(name) > 1), None)
        if double is not None:
            raise DataFileError(f"{path}, line 1: {double!r} is the name of two columns; rename one")
        for row in rows:
            where = f"{path}, line {rows.line_num}"
            if row and len(row) != len(names):
                raise DataFileError(
                    f"{where}: {len(row)} fields, line 1 names {len(names)}; put fields with commas in quotes"
                )
            if row:
                yield where, dict(zip(names, row))
    except csv.Error as error:
        raise DataFileError(f"{path}, line {rows.line_num}: no sound CSV ({error}); correct it") from error


def _parquet_cells(path: Path, text_field: str, id_field: str, required: bool, named: str) -> Iterator[Cells]:
    file = open_parquet(path)
    names = file.schema_arrow.names
    _require(str(path), text_field, names, named)
    if required:
        _require(str(path), id_field, names, "with --id-field")
    columns = [text_field, id_field] if id_field in names else [text_field]
    rows = read_columns(path, file, columns)
    return (
        (f"{path}, row {number}", row[0], row[1] if len(row) > 1 else None, {})
        for number, row in enumerate(rows, 1)
    )


def _checked_rows(
    cells: Iterator[Cells], text_field: str, key: str, id_field: str | None
) -> Iterator[Placed]:
    with_id = None if id_field is None else True
    for where, text, name, whole in cells:
        with_id = (name is not None) if with_id is None else with_id
        yield where, _checked(where, text_field, text, key, name, with_id), whole


def _checked(where: str, text_field: str, text: object, id_field: str, name: object, with_id: bool) -> Row:
    if not isinstance(text, str):
        raise DataFileError(f"{where}: {text_field!r} is {_shown(text)}, it must be a string")
    if name is None and not with_id:
        return Row(None, text)
    if not with_id:
        raise DataFileError(
            f"{where}: {id_field!r} is {_shown(name)}, but texts before it have no id; give all one, or none"
        )
    if isinstance(name, bool) or not isinstance(name, (str, int)) or name == "":
        raise DataFileError(
            f"{where}: {id_field!r} is {_shown(name)}, it must be an integer or a string that is not empty, "
            "as for every text"
        )
    if isinstance(name, str) and not (name.isascii() or _is_unicode(name)):
        raise DataFileError(f"{where}: {id_field!r} has half a surrogate pair, which is no valid text")
    return Row(name, text)


def _require(where: str, name: str, fields: Mapping[str, object] | list[str], named: str) -> None:
    if name not in fields:
        raise DataFileError(f"{where}: {no_field(name, fields)}; name another {named}")


def _shown(value: object) -> str:
    return "null or missing" if value is None else f"{value!r:.80} of type {type(value).__name__}"


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
