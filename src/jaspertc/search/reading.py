"""Documents from files, with ids that do not depend on what else is in a file."""

import os
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from jaspertc.corpus.pictures import picture_files, read_picture
from jaspertc.errors import DataFileError, PictureError
from jaspertc.files.hashes import number_of
from jaspertc.files.opening import STDIN
from jaspertc.files.texts import DEFAULT_ID_FIELD, FOLDER, WHOLE, Placed, Skip, kind_of, read_placed
from jaspertc.files.texts import Row as FileRow
from jaspertc.search.documents import Document
from jaspertc.text.tokenizer import clean


def read_documents(
    paths: Sequence[str | Path],
    *,
    folder: Path,
    text_field: str = "text",
    id_field: str | None = None,
    skip: Skip | None = None,
) -> Iterator[Document]:
    """Read documents from files, one at a time; every kind of file that ``read_rows`` reads.

    - Lines of text, rows without an id: the id is file name, ``:`` and a hash of the text, and ``#2`` for
      the second of equal ones. It does not depend on what else is in the file. Blank lines are left out.
    - Rows with an id: it is kept. Other fields become metadata when they are strings, numbers, booleans or
      null, and are left out otherwise.
    - A .md or .html file is one document, its path the id; so is each .txt file in a folder.

    Args:
        paths: files and folders, ``-`` for standard input.
        folder: where the index is, from where files and ids are named.
        text_field: the field with the text.
        id_field: the field with the id, which then every row must have; ``None``: ``id``, if it has one.
        skip: told why of each file of a folder that is one document and cannot be read, and that document's
            id; it is left out then, where otherwise all ends with the error.

    Raises:
        DataFileError: at once for a missing file or another kind of file; while reading for broken ones. The
            message names file, line and field.
    """
    files = []
    for path in map(Path, paths):
        kind = kind_of(path)
        source = None if kind == STDIN else source_name(path, folder)
        told = None if skip is None else partial(_skipped, skip, source)
        files.append((source, kind, read_placed(path, text_field, id_field, skip=told)))
    return _documents(files, {text_field, id_field or DEFAULT_ID_FIELD})


def _skipped(skip: Skip, source: str | None, why: str, name: str) -> None:
    """A file of a folder, which alone has files that are left out."""
    skip(why, f"{source}/{name}")


def read_pictures(pictures: Path, *, folder: Path, skip: Skip) -> Iterator[Document]:
    """The pictures in a folder as documents; the id, and what is shown, is the path from the index.

    Args:
        folder: where the index is.
        skip: told of each picture that cannot be read why, and its id; it is left out.
    """
    source = source_name(pictures, folder)
    for path in picture_files(pictures):
        name = f"{source}/{path.relative_to(pictures).as_posix()}"
        try:
            read_picture(path)
        except PictureError as error:
            skip(str(error), name)
            continue
        yield Document(name, name, source=source, picture=path, place=str(path))


def _documents(
    files: Iterable[tuple[str | None, str, Iterator[Placed]]], own: set[str]
) -> Iterator[Document]:
    for source, kind, rows in files:
        repeats: Counter[int] = Counter()
        for place, row, fields in rows:
            if row.id is None and not row.text.strip():
                continue
            metadata = {key: value for key, value in fields.items() if _is_scalar(key, value, own)}
            name = _id(source, kind, row, repeats)
            yield Document(name, clean(row.text), metadata, source, place=place)


def _is_scalar(key: str, value: object, own: set[str]) -> bool:
    return key not in own and not isinstance(value, (dict, list))


def _id(source: str | None, kind: str, row: FileRow, repeats: Counter[int]) -> str:
    if row.id is not None:
        if source is not None and kind in WHOLE:
            return source
        return f"{source}/{row.id}" if kind == FOLDER else str(row.id)
    number = number_of(row.text)
    repeats[number] += 1
    again = f"#{repeats[number]}" if repeats[number] > 1 else ""
    return f"{source or STDIN}:{number:016x}{again}"


def source_name(path: Path, folder: Path) -> str:
    """What a file is called in an index in ``folder``: its path from there; both can move together.

    Raises:
        DataFileError: it is not UTF-8.
    """
    try:
        name = Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive
        name = path.absolute().as_posix()
    if clean(name) != name:
        raise DataFileError(f"{path}: a name that is not UTF-8 cannot be kept in an index; rename it")
    return name
