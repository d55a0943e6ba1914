"""Folders of files: of .txt files as texts, one text a file, and of files of other endings."""

import hashlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from jaspertc.errors import DataFileError

SUFFIX = ".txt"


def files_of(folder: Path, suffixes: Sequence[str] = (SUFFIX,)) -> list[Path]:
    """All files of some endings in a folder and the folders in it, sorted by path; hidden ones are left out.

    Raises:
        DataFileError: there are none.
    """
    found = [
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in suffixes and path.is_file() and not _is_hidden(path.relative_to(folder))
    ]
    if not found:
        raise DataFileError(
            f"{folder} is a folder without {', '.join(suffixes)} files; give one that has some, or a file"
        )
    return sorted(found, key=lambda path: path.relative_to(folder).parts)


def read_folder(folder: Path) -> Iterator[tuple[str, str]]:
    """Id and text of each file: the id is its path within the folder, without the ending.

    Raises:
        DataFileError: at once if there are no files; while reading: two files have one id, or a file cannot
            be read or is not UTF-8.
    """
    return _read(folder, files_of(folder))


def _read(folder: Path, files: list[Path]) -> Iterator[tuple[str, str]]:
    before = None
    for path in files:
        name = path.relative_to(folder).as_posix()[: -len(SUFFIX)]
        if name == before:
            raise DataFileError(f"{path}: another file has the id {name!r}, too; rename one")
        before = name
        try:
            text = path.read_bytes().decode("utf-8-sig")
        except UnicodeDecodeError as error:
            raise DataFileError(
                f"{path}: not UTF-8 at byte {error.start}; convert the file to UTF-8"
            ) from error
        except OSError as error:
            raise DataFileError(f"{path} cannot be read: {error.strerror or error}") from error
        yield name, text.replace("\r\n", "\n").replace("\r", "\n")


def identity_of(folder: Path, suffixes: Sequence[str] = (SUFFIX,)) -> dict[str, str | int]:
    """What tells whether the files are still the same: their number and a hash of names, sizes and times."""
    files = files_of(folder, suffixes)
    listing = hashlib.sha256()
    for path in files:
        status = path.stat()
        listing.update(
            f"{path.relative_to(folder).as_posix()}\0{status.st_size}\0{status.st_mtime_ns}\0".encode()
        )
    return {"input files": len(files), "input names, sizes and times (sha256)": listing.hexdigest()}


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
