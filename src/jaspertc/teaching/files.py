"""Files that appear whole or not at all, and one writer a folder."""

import hashlib
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from jaspertc.errors import JasperError

LOCK, ASIDE = "lock", ".tmp"


class CacheError(JasperError):
    """Cached vectors are damaged, missing, or of another teacher, prompt or text."""


@contextmanager
def written_aside(path: Path) -> Iterator[IO[bytes]]:
    """A file that becomes ``path`` when all of it is on disk.

    Raises:
        CacheError: it could not be written; the disk is full, for example.
    """
    aside = path.with_name(path.name + ASIDE)
    try:
        with aside.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        os.replace(aside, path)
        sync_folder(path.parent)
    except OSError as error:
        aside.unlink(missing_ok=True)
        raise CacheError(
            f"{path} could not be written ({error.strerror or error}); make room or allow writing there, "
            "then run the same command again: finished shards are kept"
        ) from error


def sync_folder(folder: Path) -> None:
    """A rename is on disk only when its folder is."""
    if os.name == "nt":  # folders cannot be opened there
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """Checksum of a file's bytes."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Keep other writers out of ``folder``, until the end or this process's death.

    Raises:
        CacheError: another process is writing there.
    """
    try:
        import fcntl
    except ImportError:  # Windows: two runs at once are not noticed there
        yield
        return
    with (folder / LOCK).open("wb") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise CacheError(f"another run is writing {folder}; wait for it or end it") from None
        except OSError:  # a file system without locks
            pass
        yield
