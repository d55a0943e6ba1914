"""Vectors in blocks of a page each: in float32, float16, int8 or, beside int8, as bits.

Shape legend: S slots of a block, N vectors, E width, W words of 64 bits.
"""

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from itertools import groupby
from typing import Any

import numpy as np
import numpy.typing as npt

from jaspertc.errors import InputError
from jaspertc.types import FloatArray, IntArray

STORAGES = ("float32", "float16", "int8", "ubinary")
BLOCK_BYTES = 64_000  # what fits beside a page's own bookkeeping
CODE_SLOTS = 4096
READ_SLOTS = 4096  # vectors handled at one time, whatever the size of an index


def check_storage(storage: str) -> None:
    """Raise InputError unless ``storage`` is one of ``STORAGES``."""
    if storage not in STORAGES:
        raise InputError(f"storage is {storage!r}, it must be one of {', '.join(STORAGES)}")


@dataclass(frozen=True)
class Layout:
    """How the vectors of an index lie in its file.

    A passage's number, from 1, is its slot: in block (number - 1) // S of ``vectors``, likewise of ``codes``.

    Args:
        dims: E.
        storage: one of ``STORAGES``; ``ubinary`` keeps int8 vectors, and codes of one bit a value beside.
    """

    dims: int
    storage: str

    @cached_property
    def row(self) -> np.dtype[Any]:
        """The type of a vector; int8 has the factor that gives back the values."""
        if self.storage in ("float32", "float16"):
            return np.dtype(("<f4" if self.storage == "float32" else "<f2", (self.dims,)))
        return np.dtype([("scale", "<f4"), ("values", "i1", (self.dims,))])

    @property
    def slots(self) -> int:
        """S of ``vectors``."""
        return max(1, BLOCK_BYTES // self.row.itemsize)

    @property
    def words(self) -> int:
        """W of a code."""
        return -(-self.dims // 64)

    @property
    def has_codes(self) -> bool:
        """Whether there are codes."""
        return self.storage == "ubinary"

    def encode(self, vectors: FloatArray) -> npt.NDArray[Any]:
        """Shape (N, E) as it is stored."""
        if self.row.names is None:
            return vectors.astype(self.row.base)
        largest = np.maximum(np.abs(vectors).max(1, initial=0), np.finfo(np.float32).tiny)
        rows = np.empty(len(vectors), dtype=self.row)
        rows["scale"] = largest / 127
        rows["values"] = np.rint(vectors / rows["scale"][:, None])
        return rows

    def decode(self, data: bytes) -> FloatArray:
        """Vectors of one or more blocks, shape (slots, E)."""
        rows = np.frombuffer(data, dtype=self.row.base)
        if self.row.names is None:
            return rows.reshape(-1, self.dims).astype(np.float32, copy=False)
        vectors: FloatArray = rows["values"].astype(np.float32)
        vectors *= rows["scale"][:, None]
        return vectors

    def codes(self, vectors: FloatArray) -> npt.NDArray[np.uint64]:
        """One bit a value, whether it is above 0: shape (N, E) -> (N, W)."""
        bits = np.zeros((len(vectors), self.words * 64), dtype=bool)
        bits[:, : self.dims] = vectors > 0
        return np.packbits(bits, axis=1).view(np.uint64)


def write_vectors(
    connection: sqlite3.Connection, layout: Layout, numbers: IntArray, vectors: FloatArray
) -> None:
    """Put vectors, shape (N, E), in the slots of passages, shape (N,), inside a transaction."""
    _put(connection, "vectors", numbers, layout.encode(vectors), layout.slots, transposed=False)
    if layout.has_codes:
        _put(connection, "codes", numbers, layout.codes(vectors), CODE_SLOTS, transposed=True)


def read_vectors(connection: sqlite3.Connection, layout: Layout, numbers: IntArray) -> FloatArray:
    """Vectors of passages, shape (N,) -> (N, E)."""
    blocks, slots = np.divmod(numbers - 1, layout.slots)
    size = layout.row.itemsize
    query = "SELECT substr(data, ?, ?) FROM vectors WHERE block = ?"
    parts = [
        connection.execute(query, (slot * size + 1, size, block)).fetchone()[0]
        for block, slot in zip(blocks.tolist(), slots.tolist())
    ]
    return layout.decode(b"".join(parts))


def scan(
    connection: sqlite3.Connection, table: str, slots: int, blocks: list[int] | None = None
) -> Iterator[tuple[IntArray, list[bytes]]]:
    """All blocks of a table, or some, a few thousand slots at a time: their numbers and what is in them."""
    together = max(1, READ_SLOTS // slots)
    if blocks is None:
        rows = connection.execute(f"SELECT block, data FROM {table} ORDER BY block")
        while part := rows.fetchmany(together):
            yield np.array([row[0] for row in part]), [row[1] for row in part]
        return
    for begin in range(0, len(blocks), together):
        wanted = blocks[begin : begin + together]
        marks = ",".join("?" * len(wanted))
        part = connection.execute(
            f"SELECT block, data FROM {table} WHERE block IN ({marks}) ORDER BY block", wanted
        ).fetchall()
        yield np.array([row[0] for row in part]), [row[1] for row in part]


def _put(
    connection: sqlite3.Connection,
    table: str,
    numbers: IntArray,
    rows: npt.NDArray[Any],
    slots: int,
    *,
    transposed: bool,
) -> None:
    """``transposed``: word by word, (W, S), in which order codes are compared fastest."""
    for block, inputs in _by_block(numbers, slots):
        stored = connection.execute(f"SELECT data FROM {table} WHERE block = ?", (block,)).fetchone()
        shape = (rows.shape[1], slots) if transposed else (slots, *rows.shape[1:])
        content = np.zeros(shape, dtype=rows.dtype)
        if stored is not None:
            content = np.frombuffer(stored[0], dtype=rows.dtype).reshape(shape).copy()
        target = content.T if transposed else content
        target[(numbers[inputs] - 1) % slots] = rows[inputs]
        connection.execute(f"INSERT OR REPLACE INTO {table} VALUES (?, ?)", (block, content.tobytes()))


def _by_block(numbers: IntArray, slots: int) -> Iterator[tuple[int, IntArray]]:
    """Each block, and which of the numbers are in it."""
    blocks = (numbers - 1) // slots
    order = np.argsort(blocks, kind="stable")
    for block, places in groupby(order.tolist(), key=lambda place: int(blocks[place])):
        yield block, np.array(list(places), dtype=np.int64)
