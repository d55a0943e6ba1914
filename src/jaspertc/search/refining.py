"""Embedding again, at a higher ratio, what an index was quickly filled with: first what is found most."""

import math
import time
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from jaspertc.errors import InputError
from jaspertc.search.embedding import checked_ratio, with_first
from jaspertc.search.index import SearchIndex
from jaspertc.search.passages import Passage
from jaspertc.search.rows import replace_vectors
from jaspertc.search.schema import sqlite_errors, transaction

if TYPE_CHECKING:
    from jaspertc.engine.embedder import Embedder

BATCH_PASSAGES = 64
SORTED_PASSAGES = 4096  # until what is found most is asked again


@dataclass(frozen=True)
class RefineReport:
    """Passages that got a new vector, and those that still have one of a lower ratio."""

    refined: int
    left: int


def refine(
    index: SearchIndex,
    ratio: float,
    *,
    seconds: float | None = None,
    advance: Callable[[int], None] = lambda count: None,
) -> RefineReport:
    """Bring vectors of a lower ratio to ``ratio``, those of the documents most often found first.

    Searches go on meanwhile, in this and other processes; batches are written whole or not at all.

    Args:
        index: its model must be able to compress.
        ratio: in (0, 1]; vectors at or above it stay.
        seconds: begin no batch after this time; ``None``: all of them.
        advance: told of each so many passages done.

    Raises:
        IndexFileError: the file cannot be written; earlier batches are kept.
        RatioError: ratio is out of range, or below 1 for a model without a compressor.
        InputError: seconds is below 0 or NaN.
    """
    ratio = check_refining(index.embedding.embedder, ratio, seconds)
    end = math.inf if seconds is None else time.monotonic() + seconds
    refined = 0
    batches = refined_batches(index, ratio)
    while time.monotonic() < end and (done := next(batches, None)) is not None:
        refined += done
        advance(done)
    with sqlite_errors(index.path, "refine"), index.connections.borrowed() as connection:
        (left,) = connection.execute("SELECT count(*) FROM passages WHERE ratio < ?", (ratio,)).fetchone()
    return RefineReport(refined, left)


def check_refining(embedder: "Embedder", ratio: float, seconds: float | None) -> float:
    """The ratio as ``refine`` takes it: to find out early whether it would. Raises as it does."""
    if seconds is not None and not seconds >= 0:  # written so that NaN is wrong too
        raise InputError(f"seconds is {seconds}, it must be >= 0")
    return checked_ratio(embedder, ratio)


def refined_batches(
    index: SearchIndex, ratio: float, size: int = BATCH_PASSAGES, *, lock_seconds: float | None = None
) -> Generator[int, None, None]:
    """``refine``, a batch of ``size`` passages at each step: how many were written.

    It ends when none is left. Another process that writes is waited for no longer than ``lock_seconds``.

    Raises:
        IndexFileError: as ``refine``.
    """
    with sqlite_errors(index.path, "refine", "finished batches are kept"):
        while numbers := _most_found(index, ratio):
            for begin in range(0, len(numbers), size):
                yield _refine_batch(index, numbers[begin : begin + size], ratio, lock_seconds)


def _most_found(index: SearchIndex, ratio: float) -> list[int]:
    """Passages below a ratio, those of the documents most often found first; not all at one time."""
    with index.connections.borrowed() as connection:
        rows = connection.execute(
            "SELECT passages.number FROM passages JOIN documents ON document = documents.number "
            "WHERE ratio < ? ORDER BY found DESC, passages.number LIMIT ?",
            (ratio, SORTED_PASSAGES),
        )
        return [row[0] for row in rows]


def _refine_batch(index: SearchIndex, numbers: list[int], ratio: float, lock_seconds: float | None) -> int:
    """Embed passages again; how many of them nobody has changed meanwhile and are written."""
    query = (
        "SELECT passages.number, text_hash, passages.start, passages.stop, passages.heading, text, "
        "first.stop, first.heading FROM passages JOIN documents ON passages.document = documents.number "
        "JOIN passages AS first ON first.document = documents.number AND first.start = 0 "
        f"WHERE passages.number IN ({','.join('?' * len(numbers))})"
    )
    with index.connections.borrowed() as connection:
        rows = connection.execute(query, numbers).fetchall()
    if not rows:
        return 0
    parts = [Passage(*row[2:5]).of(row[5]) for row in rows]
    firsts = [Passage(0, *row[6:]).of(row[5]) for row in rows]
    together = list(dict.fromkeys([*parts, *firsts]))
    found = dict(zip(together, index.embedding.documents(together, ratio)))
    own, first = (np.stack([found[text] for text in texts]) for texts in (parts, firsts))
    vectors = with_first(own, first)
    with index.connections.writing(lock_seconds) as writer, transaction(writer):
        now = {row[:5] for row in writer.execute(query, numbers)}
        same = [place for place, row in enumerate(rows) if row[:5] in now]
        refined = np.array([rows[place][0] for place in same], dtype=np.int64)
        replace_vectors(writer, index.info.layout, refined, ratio, vectors[same])
    return len(same)
