"""Reading texts one by one from files of any size."""

import gzip
import hashlib
import json
import sys
import zlib
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any, NamedTuple, NoReturn

from jaspertc.corpus.folders import files_of, identity_of, read_folder
from jaspertc.errors import DataFileError, MissingExtraError

Id = str | int
STDIN = "-"
FOLDER = "/"
DEFAULT_ID_FIELD = "id"
SUFFIXES = (".txt", ".jsonl", ".jsonl.gz", ".parquet")
BLOCK_CHARACTERS = 2_000_000
PARQUET_ROWS = 1024
MEBIBYTE = 1 << 20


class Row(NamedTuple):
    """A text and, where its file gives one, its id."""

    id: Id | None
    text: str


def read_texts(path: str | Path, text_field: str = "text", id_field: str | None = None) -> Iterator[Row]:
    """Read the texts of a file, lazily and in order.

    - ``-`` (standard input) and ``.txt``: one text a line, without ids; a blank line is an empty text.
    - ``.jsonl``, ``.jsonl.gz``: one JSON object a line; blank lines are left out.
    - ``.parquet``: one text a row.
    - a folder: one text a ``.txt`` file in it, at any depth; the id is its path without the ending.

    Args:
        path: ``-``, a folder, or a UTF-8 file with one of the endings above.
        text_field: JSON field or parquet column with the text.
        id_field: JSON field or parquet column with the id, a string or an integer, which every text must
            have. ``None`` stands for ``id``, which either every text must have or none.

    Raises:
        DataFileError: at once for a missing file, another kind of file, or a missing parquet column; while
            reading for broken UTF-8, JSON, gzip or parquet, and a field missing or of the wrong type. The
            message names file, line (or row) and field.
        MissingExtraError: the file is parquet and pyarrow is not installed.
    """
    return (row for row, _ in read_rows(path, text_field, id_field))


def read_rows(
    path: str | Path, text_field: str = "text", id_field: str | None = None
) -> Iterator[tuple[Row, dict[str, Any]]]:
    """As ``read_texts``, each with the whole JSON object it is from, or {} for other kinds of file."""
    kind = kind_of(path)
    if kind in (".jsonl", ".jsonl.gz"):
        return _json_rows(path, text_field, id_field)
    if kind == ".parquet":
        file, columns = _open_parquet(Path(path), text_field, id_field)
        rows = _parquet_rows(Path(path), file, columns, required=id_field is not None)
    elif kind == FOLDER:
        rows = (Row(name, text) for name, text in read_folder(Path(path)))
    else:
        rows = (Row(None, line) for _, line in _lines(path))
    return ((row, {}) for row in rows)


def kind_of(path: str | Path) -> str:
    """``-``, ``/`` for a folder, or the one of ``SUFFIXES`` that ``path`` ends in.

    Raises:
        DataFileError: there is no such file, or it is of another kind.
    """
    if str(path) == STDIN:
        return STDIN
    path = Path(path)
    if not path.exists():
        raise DataFileError(f"{path} does not exist; give a file, or - for standard input")
    if path.is_dir():
        return FOLDER
    kind = next((suffix for suffix in SUFFIXES if path.name.lower().endswith(suffix)), None)
    if kind is None:
        raise DataFileError(
            f"{path} has an unknown type, it must end in {', '.join(SUFFIXES)}; "
            "other text can be piped to standard input, one text a line"
        )
    return kind


def count_rows(path: str | Path) -> int | None:
    """Number of texts in a file, without parsing them; ``None`` for standard input.

    Raises:
        DataFileError: the file cannot be read.
    """
    kind = kind_of(path)
    if kind == STDIN:
        return None
    if kind == FOLDER:
        return len(files_of(Path(path)))
    if kind == ".parquet":
        with _reading(path):
            return int(_parquet().ParquetFile(path).metadata.num_rows)
    with _reading(path), _opened(path) as file:
        return sum(1 for line in file if kind == ".txt" or line.strip())


def source_identity(path: str | Path) -> dict[str, str | int]:
    """What tells whether a file is still the same: size, time of change and the hash of its first MiB.

    Raises:
        DataFileError: the file cannot be read.
    """
    if Path(path).is_dir():
        return identity_of(Path(path))
    with _reading(path), Path(path).open("rb") as file:
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


@contextmanager
def _reading(path: str | Path) -> Iterator[None]:
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataFileError(f"{path} is no gzip file or was cut short ({error}); copy it again") from error
    except OSError as error:
        raise DataFileError(f"{path} cannot be read: {error.strerror or error}") from error
    except UnicodeDecodeError as error:
        raise DataFileError(f"{path} holds a text that is not UTF-8; convert it") from error
    except ValueError as error:  # pyarrow's errors are ValueErrors
        raise DataFileError(f"{path} is corrupt or no parquet file ({error}); copy it again") from error


@contextmanager
def _opened(path: str | Path) -> Iterator[IO[bytes]]:
    if str(path) == STDIN:
        yield sys.stdin.buffer
        return
    opener: Any = gzip.open if kind_of(path) == ".jsonl.gz" else open
    with opener(path, "rb") as file:
        yield file


def _lines(path: str | Path) -> Iterator[tuple[int, str]]:
    """Lines, numbered from 1. Bytes are split, at newlines only: text would be at U+2028 and others too."""
    name = "standard input" if str(path) == STDIN else str(path)
    with _opened(path) as file, _reading(name):
        for number, raw in enumerate(file, 1):
            try:
                line = raw.decode("utf-8-sig" if number == 1 else "utf-8")
            except UnicodeDecodeError as error:
                raise DataFileError(
                    f"{name}, line {number}: not UTF-8 at byte {error.start}; convert the file to UTF-8"
                ) from error
            yield number, line.removesuffix("\n").removesuffix("\r")


def _json_rows(
    path: str | Path, text_field: str, id_field: str | None
) -> Iterator[tuple[Row, dict[str, Any]]]:
    with_id = None if id_field is None else True
    id_field = id_field or DEFAULT_ID_FIELD
    for where, row in read_objects(path):
        if text_field not in row:
            raise DataFileError(f"{where}: {_no_field(text_field, row, '--text-field')}")
        if with_id is None:
            with_id = row.get(id_field) is not None
        yield _checked(where, text_field, row[text_field], id_field, row.get(id_field), with_id), row


def read_objects(path: str | Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """The JSON objects of a .jsonl or .jsonl.gz file, each with the name of its line, such as "F, line 3".

    Raises:
        DataFileError: while reading: the file is missing, broken, or a line holds no JSON object.
    """
    decode = json.JSONDecoder(parse_constant=_no_constant).decode  # json.loads would make one for each line
    name = str(path)
    for number, line in _lines(path):
        if not line.strip():
            continue
        where = f"{name}, line {number}"
        try:
            row = decode(line)
        except (ValueError, RecursionError) as error:  # ValueError also covers integers of absurd length
            raise DataFileError(f"{where}: not JSON: {error}") from error
        if not isinstance(row, dict):
            raise DataFileError(f"{where}: a {type(row).__name__}, it must be a JSON object")
        yield where, row


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is not a JSON number")


def _no_field(name: str, found: Mapping[str, object] | list[str], option: str) -> str:
    return f"no field {name!r}, it has {', '.join(found) or 'none'}; name another with {option}"


def _checked(where: str, text_field: str, text: object, id_field: str, name: object, with_id: bool) -> Row:
    if not isinstance(text, str):
        raise DataFileError(f"{where}: {text_field!r} is {_shown(text)}, it must be a string")
    if name is None and not with_id:
        return Row(None, text)
    if not with_id:
        raise DataFileError(
            f"{where}: {id_field!r} is {_shown(name)}, but texts before it have no id; give all one, or none"
        )
    if isinstance(name, bool) or not isinstance(name, (str, int)):
        raise DataFileError(
            f"{where}: {id_field!r} is {_shown(name)}, it must be a string or an integer, as for every text"
        )
    if isinstance(name, str) and not (name.isascii() or _is_unicode(name)):
        raise DataFileError(f"{where}: {id_field!r} has half a surrogate pair, which is no valid text")
    return Row(name, text)


def _shown(value: object) -> str:
    return "null or missing" if value is None else f"{value!r:.80} of type {type(value).__name__}"


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _parquet() -> Any:
    try:
        import pyarrow.parquet
    except ImportError as error:
        raise MissingExtraError("pyarrow", "parquet", "reading or writing parquet") from error
    return pyarrow.parquet


def _open_parquet(path: Path, text_field: str, id_field: str | None) -> tuple[Any, list[str]]:
    """The file, and the columns of it that are read: the text's and, where there is one, the id's."""
    parquet = _parquet()
    with _reading(path):
        file = parquet.ParquetFile(path)
        names: list[str] = file.schema_arrow.names
        if text_field not in names:
            raise DataFileError(f"{path}: {_no_field(text_field, names, '--text-field')}")
        if id_field is not None and id_field not in names:
            raise DataFileError(f"{path}: {_no_field(id_field, names, '--id-field')}")
    name = id_field or DEFAULT_ID_FIELD
    return file, [text_field, name] if name in names else [text_field]


def _parquet_rows(path: Path, file: Any, columns: list[str], required: bool) -> Iterator[Row]:
    text_field, id_field = columns[0], columns[-1]
    with_id = True if required else None if len(columns) > 1 else False
    batches = file.iter_batches(batch_size=PARQUET_ROWS, columns=columns)
    number = 0
    while True:
        with _reading(path):
            batch = next(batches, None)
            if batch is None:
                return
            texts = batch.column(text_field).to_pylist()
            ids = batch.column(id_field).to_pylist() if with_id is not False else [None] * len(texts)
        for text, name in zip(texts, ids):
            number += 1
            with_id = (name is not None) if with_id is None else with_id
            yield _checked(f"{path}, row {number}", text_field, text, id_field, name, with_id)
