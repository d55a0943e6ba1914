"""Files and folders that appear whole or not at all."""

import errno
import os
import re
import shutil
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO

from jaspertc.errors import DataFileError, JasperError

ASIDE = ".tmp"
_LEFT = re.compile(r"\.(?P<folder>.+)-[a-z0-9_]{8}(?P<before>-before)?")  # mkdtemp's eight characters


def unique_part() -> str:
    """For ``written_aside``: part of a name that no other file has."""
    return f".{uuid.uuid4().hex[:8]}"


@contextmanager
def written_aside(path: Path, *, unique: str = "") -> Iterator[IO[bytes]]:
    """A file that becomes ``path`` when all of it is on disk.

    Args:
        unique: part of the name until then, where several processes may write the same file: the last holds.
    """
    aside = path.with_name(f"{path.name}{unique}{ASIDE}")
    try:
        with aside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
    except BaseException:
        aside.unlink(missing_ok=True)
        raise
    sync_folder(path.parent)


@contextmanager
def folder_aside(folder: Path) -> Iterator[Path]:
    """A folder that becomes ``folder`` when all in it is on disk; what is there is replaced then."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    aside = Path(tempfile.mkdtemp(prefix=f".{folder.name}-", dir=folder.parent))
    before = aside.with_name(f"{aside.name}-before")  # what is replaced, until its successor is in place
    try:
        yield aside
        for path in filter(Path.is_file, aside.rglob("*")):
            with path.open("rb+") as file:
                os.fsync(file.fileno())
        aside.chmod(0o755)  # mkdtemp's is for its owner alone
        if folder.exists():
            os.replace(folder, before)
        os.replace(aside, folder)
    finally:
        if before.exists() and not folder.exists():
            os.replace(before, folder)
        shutil.rmtree(aside, ignore_errors=True)
        shutil.rmtree(before, ignore_errors=True)
    sync_folder(folder.parent)


def remove_leftovers(folder: Path, names: Sequence[str]) -> None:
    """Remove what processes that were killed in ``folder_aside`` left anywhere in ``folder``.

    To be called by whoever keeps others from writing there. A folder that was moved away and whose successor
    did not come into its place is put back.

    Args:
        names: of the folders that were written, with wildcards.
    """
    for path in sorted(folder.rglob(".*-*"), reverse=True):
        left = _LEFT.fullmatch(path.name)
        if left is None or not any(fnmatchcase(left["folder"], name) for name in names):
            continue
        if left["before"] and not path.with_name(left["folder"]).exists():
            os.replace(path, path.with_name(left["folder"]))
        shutil.rmtree(path, ignore_errors=True)


def sync_folder(folder: Path) -> None:
    """A rename is on disk only when its folder is."""
    if os.name == "nt":  # folders cannot be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def writing(
    path: Path | str, then: str = "run the command again", error: type[JasperError] = DataFileError
) -> Iterator[None]:
    """What goes wrong with writing ``path`` becomes an error that ends in ``then``, what to do."""
    try:
        yield
    except OSError as problem:
        full = problem.errno in (errno.ENOSPC, errno.EDQUOT)
        cause = "the disk is full; free some space" if full else "allow writing there"
        if problem.errno in (errno.EEXIST, errno.ENOTDIR):
            cause = "a file is where a folder should be; give another path"
        reason = problem.strerror or problem
        raise error(f"{path} could not be written ({reason}): {cause}, then: {then}") from problem
