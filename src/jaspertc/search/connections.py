"""Connections to one index file that any thread may borrow."""

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path

from jaspertc.errors import IndexFileError, InputError
from jaspertc.search.schema import connect, transaction, waiting


class Connections:
    """Each thread that uses an index at a time has a connection of its own; they are kept for the next.

    A process that was forked opens its own: SQLite's must not cross a fork. All are of the file that was
    there when the first was opened.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._idle: list[sqlite3.Connection] = []
        self._parents: list[sqlite3.Connection] = []  # never closed: that would give up the parent's locks
        self._process = os.getpid()
        self._closed = False
        self._file: tuple[int, int] | None = None  # device and number
        self._lock = threading.Lock()
        self._writing = threading.Lock()
        self._writer: int | None = None  # the thread that holds it

    def close(self) -> None:
        """Close all that nobody uses now, the others when they are given back."""
        with self._lock:
            self._closed = True
            self._after_fork()
            while self._idle:
                self._idle.pop().close()

    @contextmanager
    def borrowed(self) -> Iterator[sqlite3.Connection]:
        """A connection outside a transaction.

        Raises:
            IndexFileError: the index was closed, the file cannot be opened, or is another one by now.
        """
        with self._lock:
            if self._closed:
                raise IndexFileError(f"{self.path} was closed; open the index again")
            self._after_fork()
            self._check_file()
            connection = self._idle.pop() if self._idle else None
        connection = connection or connect(self.path, "rw")
        try:
            yield connection
        finally:
            with self._lock:
                if self._closed:
                    connection.close()
                else:
                    self._idle.append(connection)

    @contextmanager
    def reading(self) -> Iterator[sqlite3.Connection]:
        """A connection that sees one state of the file, whoever writes meanwhile."""
        with self.borrowed() as connection, transaction(connection, "DEFERRED"):
            yield connection

    @contextmanager
    def writing(self, lock_seconds: float | None = None) -> Iterator[sqlite3.Connection]:
        """A connection for this process's only writer; other threads wait, readers do not.

        Args:
            lock_seconds: wait so long for other processes that write.
        """
        if self._writer == threading.get_ident():
            raise InputError(
                f"{self.path} is being written by this call; what gives it documents must not write to it"
            )
        with (
            self._writing,
            self._as_writer(),
            self.borrowed() as connection,
            nullcontext() if lock_seconds is None else waiting(connection, lock_seconds),
        ):
            yield connection

    @contextmanager
    def _as_writer(self) -> Iterator[None]:
        self._writer = threading.get_ident()
        try:
            yield
        finally:
            self._writer = None

    def _check_file(self) -> None:
        """What is written to a file that was moved or replaced is lost, or seen by some threads only."""
        try:
            found = os.stat(self.path)
        except OSError as error:
            if self._file is None:
                return  # to connect says why
            raise IndexFileError(
                f"{self.path} was moved or removed since it was opened ({error.strerror}); open it again"
            ) from error
        file = found.st_dev, found.st_ino
        if self._file not in (None, file):
            raise IndexFileError(
                f"{self.path} was replaced since it was opened; open it again (a server: start it again)"
            )
        self._file = file

    def _after_fork(self) -> None:
        if self._process != os.getpid():
            self._process = os.getpid()
            self._parents += self._idle
            self._idle = []
