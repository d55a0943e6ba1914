"""What an index learns by being searched: how often each document was found, and the mean of its queries.

No text of a query is kept: a count and one vector.
"""

import sqlite3
import threading
from collections import Counter
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt

from jaspertc.errors import IndexFileError
from jaspertc.search.connections import Connections
from jaspertc.search.schema import transaction, waiting
from jaspertc.types import FloatArray

# The mean of fewer says more about these queries than about the index: that of 50 lost on some sets.
STABLE_QUERIES = 500
STRENGTH = 0.5
KEPT_IN_MEMORY = 64  # searches


def centred(connection: sqlite3.Connection, query: FloatArray) -> FloatArray:
    """A query less half the mean of past queries, if that is switched on and once it is stable; shape (E,).

    Documents near to whatever was asked for are found too often; this takes it from them. Their own vectors
    need no change. It is for searches by vectors alone: hybrid ones gain nothing (docs/reports/search.md).
    """
    count, total, is_on = past_queries(connection)
    if not is_on or count < STABLE_QUERIES:
        return query
    shifted: FloatArray = (query - STRENGTH * total / count).astype(np.float32)
    return shifted


def past_queries(connection: sqlite3.Connection) -> tuple[int, npt.NDArray[np.float64], bool]:
    """How many queries were learned from, the sum of their vectors, shape (E,), and whether it is used."""
    keys = "('queries', 'query_sum', 'centring')"
    values = dict(connection.execute(f"SELECT key, value FROM meta WHERE key IN {keys}"))
    total = np.frombuffer(values.get("query_sum", b""), dtype=np.float64)
    return values.get("queries", 0), total, bool(values.get("centring", 0))


class Usage:
    """Searches of a process that are not written yet.

    They are written once there are some, and at the end; never at the price of waiting for another writer.
    """

    def __init__(self, connections: Connections) -> None:
        self._connections = connections
        self._lock = threading.Lock()
        self._reset()

    def _reset(self) -> None:
        self._count, self._total = 0, np.zeros(0)
        self._found: Counter[int] = Counter()

    def note(self, query: FloatArray, documents: Iterable[int]) -> None:
        """A query of unit length and the numbers of the documents that it found."""
        with self._lock:
            self._count += 1
            self._total = query.astype(np.float64) + (self._total if len(self._total) else 0)
            self._found.update(documents)
            full = self._count >= KEPT_IN_MEMORY
        if full:
            self.write()

    def write(self) -> None:
        """Write what there is, unless another process is writing or the file is read-only; then later."""
        with self._lock:
            if not self._count:
                return
            try:
                with (
                    self._connections.borrowed() as connection,
                    waiting(connection, 0),
                    transaction(connection),
                ):
                    self._write(connection)
            except (sqlite3.Error, IndexFileError):
                return
            self._reset()

    def _write(self, connection: sqlite3.Connection) -> None:
        count, total, _ = past_queries(connection)
        total = self._total + (total if len(total) else 0)
        values = {"queries": count + self._count, "query_sum": total.tobytes()}
        connection.executemany("INSERT OR REPLACE INTO meta VALUES (?, ?)", values.items())
        connection.executemany(
            "UPDATE documents SET found = found + ? WHERE number = ?",
            ((times, number) for number, times in self._found.items()),
        )
