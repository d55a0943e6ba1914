"""One writer a folder."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from jaspertc.errors import CacheError, JasperError

LOCK = "lock"
NO_LOCKS = (errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP)  # of some file systems


@contextmanager
def locked(
    folder: Path, *, target: Path | None = None, error: type[JasperError] = CacheError
) -> Iterator[None]:
    """Keep other writers out of ``folder``, until the end or this process's death.

    Args:
        target: what is written, for the message; by default ``folder``.

    Raises:
        error: another process is writing there.
    """
    lock = FileLock(folder / LOCK)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        raise error(f"another run is writing {target or folder}; wait for it or end it") from None
    except NotImplementedError:  # a file system without locks
        pass
    except OSError as problem:
        if problem.errno not in NO_LOCKS:
            raise
    try:
        yield
    finally:
        lock.release()
