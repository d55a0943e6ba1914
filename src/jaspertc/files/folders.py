"""Files that appear whole or not at all, and one writer a folder."""

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from jaspertc.errors import JasperError
from jaspertc.files import aside

LOCK, ASIDE = "lock", aside.ASIDE


class CacheError(JasperError):
    """Cached vectors are damaged, missing, or of another teacher, prompt or text."""


@contextmanager
def written_aside(path: Path) -> Iterator[IO[bytes]]:
    """A file that becomes ``path`` when all of it is on disk.

    Raises:
        CacheError: it could not be written; the disk is full, for example.
    """
    try:
        with aside.written_aside(path) as file:
            yield file
    except OSError as error:
        raise CacheError(
            f"{path} could not be written ({error.strerror or error}); make room or allow writing there, "
            "then run the same command again: finished shards are kept"
        ) from error


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
