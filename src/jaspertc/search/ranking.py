"""Passages ranked against a query: by the cosine of their vectors, and by the terms they share.

Shape legend: N passages, E width, C candidates.
"""

import math
import sqlite3
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from jaspertc.search.blocks import CODE_SLOTS, Layout, read_vectors, scan
from jaspertc.search.terms import is_prefix, terms
from jaspertc.types import FloatArray, IntArray

RESCORED = 4  # passages whose vectors are compared for each one wanted, where codes are scanned first
LEAST_RESCORED = 1024
GRAIN = 2.0**20  # cosines that differ by less are equal, so that equal vectors keep their order
# Passages whose BM25 is computed: of terms that many have, the rarest are taken as far as this goes.
MOST_SCORED = 50_000
QUERY_TERMS = 64
REMEMBERED_TERMS = 100_000
BM25_K1 = 1.2  # FTS5's


@dataclass(frozen=True)
class Ranking:
    """Passages, best first.

    Attributes:
        numbers: shape (C,).
        scores: shape (C,); of a query's terms the share in [0, 1] that BM25 gives of what it could.
        spread: standard deviation of the scores of all passages that were compared.
    """

    numbers: IntArray
    scores: FloatArray
    spread: float = 0.0


NOTHING = Ranking(np.array([], dtype=np.int64), np.array([], dtype=np.float32))


def filtered(connection: sqlite3.Connection, labels: Mapping[str, str]) -> IntArray | None:
    """Numbers of the passages whose documents have all these labels, ascending; ``None``: no filter."""
    if not labels:
        return None
    condition = " AND ".join(
        ["document IN (SELECT document FROM labels WHERE key = ? AND value = ?)"] * len(labels)
    )
    pairs = [part for pair in labels.items() for part in pair]
    rows = connection.execute(f"SELECT number FROM passages WHERE {condition} ORDER BY number", pairs)
    return np.array([row[0] for row in rows], dtype=np.int64)


def by_vector(
    connection: sqlite3.Connection, layout: Layout, query: FloatArray, count: int, allowed: IntArray | None
) -> Ranking:
    """The ``count`` passages of the highest cosine to a query, equal ones by number.

    Every vector (that is allowed) is compared, a few thousand in memory at a time. Where there are codes,
    these are compared, and then the vectors of the best ``max(1024, 4 * count)``.

    Args:
        query: shape (E,), of any length.
        allowed: as ``filtered`` gives it.
    """
    if not layout.has_codes:
        return _exact(connection, layout, query, count, allowed)
    candidates = _by_code(connection, layout, query, max(LEAST_RESCORED, RESCORED * count), allowed)
    numbers = np.sort(candidates.numbers)
    best = _best(numbers, cosines(read_vectors(connection, layout, numbers), query), count)
    return replace(best, spread=candidates.spread)


def cosines(vectors: FloatArray, query: FloatArray) -> FloatArray:
    """Cosine of each vector to a query, shape (N, E) -> (N,); 0 for a vector of zeros."""
    lengths = np.sqrt(np.einsum("ne,ne->n", vectors, vectors)) * np.linalg.norm(query)
    scores: FloatArray = vectors @ query / np.maximum(lengths, np.finfo(np.float32).tiny)
    rounded: FloatArray = np.rint(scores * np.float32(GRAIN)) / np.float32(GRAIN)
    return rounded


class TermCounts:
    """How many passages have a term. SQLite counts them one by one: remembered until the next write."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._writes: int | None = None
        self._counts: dict[str, int] = {}

    def of(self, connection: sqlite3.Connection, wanted: Sequence[str]) -> dict[str, int]:
        """Each term's number of passages."""
        row = connection.execute("SELECT value FROM meta WHERE key = 'writes'").fetchone()
        writes = row[0] if row else 0
        with self._lock:
            known = self._counts if self._writes == writes else {}
            counts = {term: known[term] for term in wanted if term in known}
        for term in wanted:
            if term not in counts:
                found = connection.execute("SELECT doc FROM vocabulary WHERE term = ?", (term,)).fetchone()
                counts[term] = found[0] if found else 0
        with self._lock:
            if self._writes != writes or len(self._counts) > REMEMBERED_TERMS:
                self._writes, self._counts = writes, {}
            self._counts.update(counts)
        return counts


def by_terms(
    connection: sqlite3.Connection, query: str, count: int, allowed: IntArray | None, term_counts: TermCounts
) -> Ranking:
    """The ``count`` passages of the highest BM25 for any of a query's terms, equal ones by number."""
    wanted, most = _informative(connection, list(dict.fromkeys(terms(query)))[:QUERY_TERMS], term_counts)
    if not wanted or (allowed is not None and not len(allowed)):
        return NOTHING
    match = " OR ".join(f'"{term}"*' if is_prefix(term) else f'"{term}"' for term in wanted)
    condition = "" if allowed is None else "AND rowid IN (SELECT value FROM json_each(?)) "
    given = [] if allowed is None else [str(allowed.tolist())]
    rows = connection.execute(
        f"SELECT rowid, -bm25(terms) AS score FROM terms WHERE terms MATCH ? {condition}"
        "ORDER BY score DESC, rowid LIMIT ?",
        (match, *given, count),
    ).fetchall()
    scores = np.array([row[1] for row in rows], dtype=np.float32) / np.float32(most)
    return Ranking(np.array([row[0] for row in rows], dtype=np.int64), np.minimum(scores, 1))


def _informative(
    connection: sqlite3.Connection, query_terms: Sequence[str], term_counts: TermCounts
) -> tuple[list[str], float]:
    """The terms that are looked for, and the BM25 that is never reached.

    A character of its own stands for all terms that begin with it, and counts only where it is all there is.
    """
    whole = [term for term in query_terms if not is_prefix(term)] or list(query_terms)
    counts = term_counts.of(connection, whole)
    (total,) = connection.execute(
        "SELECT last - (SELECT count(*) FROM holes WHERE number < last) "
        "FROM (SELECT coalesce(max(number), 0) AS last FROM passages)"
    ).fetchone()
    scored = 0
    for number, term in enumerate(sorted(whole, key=lambda term: counts[term])):
        scored += counts[term]
        if number and scored > MOST_SCORED:
            whole.remove(term)
    weights = (math.log((total - counts[term] + 0.5) / (counts[term] + 0.5)) for term in whole)
    return whole, (BM25_K1 + 1) * sum(max(1e-6, weight) for weight in weights)


def _exact(
    connection: sqlite3.Connection, layout: Layout, query: FloatArray, count: int, allowed: IntArray | None
) -> Ranking:
    dead = _dead(connection)
    best, moments = NOTHING, np.zeros(3)
    for blocks, parts in scan(connection, "vectors", layout.slots, _blocks_of(allowed, layout.slots)):
        numbers = _numbers(blocks, layout.slots)
        usable = _usable(numbers, dead, allowed)
        scores = cosines(layout.decode(b"".join(parts)), query)
        moments += _moments(scores[usable])
        if len(best.scores) == count:
            usable &= scores > best.scores[-1]
        if usable.any():
            best = _best(
                np.concatenate([best.numbers, numbers[usable]]),
                np.concatenate([best.scores, scores[usable]]),
                count,
            )
    return replace(best, spread=_deviation(moments))


def _by_code(
    connection: sqlite3.Connection, layout: Layout, query: FloatArray, count: int, allowed: IntArray | None
) -> Ranking:
    """Candidates by the bits in which their codes differ from the query's, as cosines of that angle."""
    dead = _dead(connection)
    code = layout.codes(query[None])[0]
    cosine = np.cos(np.pi * np.arange(layout.words * 64 + 1) / layout.dims).astype(np.float32)
    occurrences = np.zeros(len(cosine), dtype=np.int64)
    numbers = np.array([], dtype=np.int64)
    nearest = np.array([], dtype=np.uint16)
    limit = len(cosine)
    for blocks, parts in scan(connection, "codes", CODE_SLOTS, _blocks_of(allowed, CODE_SLOTS)):
        stored = _numbers(blocks, CODE_SLOTS)
        distances = np.concatenate([_distances(part, code) for part in parts])
        usable = _usable(stored, dead, allowed)
        occurrences += np.bincount(distances[usable], minlength=len(cosine))
        chosen = np.flatnonzero(usable & (distances < limit))
        numbers, nearest = np.append(numbers, stored[chosen]), np.append(nearest, distances[chosen])
        if len(numbers) > 2 * count:  # seldom: most blocks have none that is near enough
            best = np.argpartition(nearest, count)[:count]
            numbers, nearest, limit = numbers[best], nearest[best], int(nearest[best].max())
    best = np.argsort(nearest, kind="stable")[:count]
    moments = np.array([occurrences.sum(), occurrences @ cosine, occurrences @ np.square(cosine)])
    return Ranking(numbers[best], cosine[nearest[best]], _deviation(moments))


def _distances(data: bytes, code: npt.NDArray[np.uint64]) -> npt.NDArray[np.uint16]:
    """Bits in which each code of a block differs from one."""
    words = np.frombuffer(data, dtype=np.uint64).reshape(len(code), -1)
    total = np.zeros(words.shape[1], dtype=np.uint16)
    for row, word in zip(words, code):
        total += np.bitwise_count(row ^ word)
    return total


def _moments(scores: FloatArray) -> npt.NDArray[np.float64]:
    return np.array([len(scores), scores.sum(dtype=np.float64), np.square(scores).sum(dtype=np.float64)])


def _deviation(moments: npt.NDArray[np.float64]) -> float:
    count, total, squares = moments
    return math.sqrt(max(0.0, squares / count - (total / count) ** 2)) if count else 0.0


def _best(numbers: IntArray, scores: FloatArray, count: int) -> Ranking:
    order = np.lexsort((numbers, -scores))[:count]
    return Ranking(numbers[order], scores[order])


def _dead(connection: sqlite3.Connection) -> IntArray:
    """Slots without a passage: the holes, ascending, and last the first one after all passages."""
    holes = [row[0] for row in connection.execute("SELECT number FROM holes ORDER BY number")]
    (last,) = connection.execute("SELECT coalesce(max(number), 0) FROM passages").fetchone()
    return np.array([*holes, last + 1], dtype=np.int64)


def _usable(numbers: IntArray, dead: IntArray, allowed: IntArray | None) -> npt.NDArray[np.bool_]:
    if allowed is not None:
        positions = np.searchsorted(allowed, numbers)
        is_allowed: npt.NDArray[np.bool_] = allowed[np.minimum(positions, len(allowed) - 1)] == numbers
        return is_allowed
    usable: npt.NDArray[np.bool_] = numbers < dead[-1]
    begin, end = np.searchsorted(dead[:-1], [numbers[0], numbers[-1] + 1])
    usable[np.searchsorted(numbers, dead[begin:end])] = False
    return usable


def _blocks_of(allowed: IntArray | None, slots: int) -> list[int] | None:
    if allowed is None:
        return None
    blocks: list[int] = np.unique((allowed - 1) // slots).tolist()
    return blocks


def _numbers(blocks: IntArray, slots: int) -> IntArray:
    numbers: IntArray = (blocks[:, None] * slots + np.arange(1, slots + 1)).ravel()
    return numbers
