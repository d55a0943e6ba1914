"""The files that a folder, or a pattern such as ``texts/*.md``, stands for."""

import hashlib
from collections.abc import Sequence
from glob import has_magic, iglob
from pathlib import Path

from jaspertc.errors import DataFileError


def is_pattern(path: str | Path) -> bool:
    """Whether a name that is no file or folder stands for several."""
    return has_magic(str(path)) and not Path(path).exists()


def files_of(folder: Path, suffixes: Sequence[str]) -> list[Path]:
    """All files of some endings in a folder and those in it, or of a pattern, sorted by path.

    In a folder, hidden ones are left out.

    Raises:
        DataFileError: there are none.
    """
    if is_pattern(folder):
        files = [path for path in map(Path, iglob(str(folder), recursive=True)) if _fits(path, suffixes)]
        kind = "a pattern without"
    else:
        files = [
            path
            for path in folder.rglob("*")
            if _fits(path, suffixes) and not _is_hidden(path.relative_to(folder))
        ]
        kind = "a folder without"
    if not files:
        others = f" (nor {', '.join(suffixes[1:])})" if suffixes[1:] else ""
        raise DataFileError(
            f"{folder} is {kind} {suffixes[0]} files{others}; give one that has some, or a file"
        )
    return sorted(set(files), key=lambda path: path.parts)


def root_of(folder: Path) -> Path:
    """The folder itself, or what lies before the first wildcard of a pattern: where names of files begin."""
    if not is_pattern(folder):
        return folder
    parts = folder.parts
    return Path(*parts[: next(number for number, part in enumerate(parts) if has_magic(part))])


def identity_of(folder: Path, suffixes: Sequence[str]) -> dict[str, str | int]:
    """What tells whether the files are still the same: their number and a hash of names, sizes and times."""
    files = files_of(folder, suffixes)
    listing = hashlib.sha256()
    for path in files:
        status = path.stat()
        name = path.relative_to(root_of(folder)).as_posix()
        listing.update(f"{name}\0{status.st_size}\0{status.st_mtime_ns}\0".encode(errors="surrogateescape"))
    return {"input files": len(files), "input names, sizes and times (sha256)": listing.hexdigest()}


def _fits(path: Path, suffixes: Sequence[str]) -> bool:
    return path.name.lower().endswith(tuple(suffixes)) and path.is_file()


def _is_hidden(path: Path) -> bool:
    return any(part.startswith(".") for part in path.parts)
