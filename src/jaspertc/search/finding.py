"""From a query to hits: rankings, their fusion, and the documents of the best passages."""

import json
import sqlite3
from collections.abc import Mapping
from dataclasses import dataclass, field

from jaspertc.errors import InputError
from jaspertc.search.blocks import Layout, read_vectors
from jaspertc.search.documents import Scalar, check_metadata, check_unicode
from jaspertc.search.fusion import fused
from jaspertc.search.passages import Passage
from jaspertc.search.ranking import Ranking, TermCounts, by_terms, by_vector, cosines, filtered
from jaspertc.search.rows import to_label
from jaspertc.search.usage import centred
from jaspertc.types import FloatArray, IntArray, is_integer

MODES = ("vector", "text", "hybrid")
LEAST_DEPTH = 100  # passages of each ranking that are fused


@dataclass(frozen=True)
class Hit:
    """A document that was found, and what was stored.

    Attributes:
        id: the document's.
        score: ``vector``: cosine to the query, in [-1, 1]; ``text``: share of the query's terms by weight, in
            [0, 1]; ``hybrid``: cosine, and a bonus for shared terms.
        text: the whole document.
        metadata: the document's.
        passage: the part that answers best.
        number: the document's in the file.
    """

    id: str
    score: float
    text: str
    metadata: dict[str, Scalar]
    passage: Passage
    number: int = field(compare=False, repr=False, default=0)

    @property
    def passage_text(self) -> str:
        """The passage without the headings above it."""
        return self.text[self.passage.start : self.passage.stop]


def check_query(text: str) -> None:
    """Raise InputError unless it can be looked for."""
    if not isinstance(text, str) or not text.strip():
        raise InputError(f"query is {text!r:.80}, it must be a string that is not blank")
    check_unicode(f"query {text!r:.80}", "it", text)


@dataclass(frozen=True)
class Query:
    """What is looked for; see ``SearchIndex.search``."""

    text: str
    k: int
    where: Mapping[str, Scalar]
    mode: str

    def check(self) -> None:
        """Raise InputError for a value that is not acceptable."""
        check_query(self.text)
        if not is_integer(self.k) or self.k < 1:
            raise InputError(f"k is {self.k!r}, it must be an integer >= 1")
        if self.mode not in MODES:
            raise InputError(f"mode is {self.mode!r}, it must be one of {', '.join(MODES)}")
        if not isinstance(self.where, Mapping):
            raise InputError(f"where is {self.where!r:.80}, it must be a mapping of metadata to values")
        check_metadata("where", self.where)


def find(
    connection: sqlite3.Connection,
    layout: Layout,
    query: Query,
    vector: FloatArray | None,
    term_counts: TermCounts,
) -> list[Hit]:
    """The best documents, each by its best passage.

    Args:
        connection: in a transaction, so that all is of one state.
        vector: the query's, of unit length, shape (E,); not needed for mode ``text``.
    """
    (last,) = connection.execute("SELECT coalesce(max(number), 0) FROM passages").fetchone()
    (documents,) = connection.execute("SELECT value FROM meta WHERE key = 'documents'").fetchone()
    if not documents:
        return []
    allowed = filtered(connection, {key: to_label(value) for key, value in query.where.items()})
    k = min(query.k, documents)
    depth = max(k, LEAST_DEPTH) if query.mode == "hybrid" else k
    while True:
        ranking = _ranking(connection, layout, query, vector, depth, allowed, term_counts)
        hits = _hits(connection, ranking, k)
        # Passages of few documents may have filled the ranking.
        if len(hits) >= k or depth >= last or len(ranking.numbers) < depth:
            return hits
        depth *= 4


def _ranking(
    connection: sqlite3.Connection,
    layout: Layout,
    query: Query,
    vector: FloatArray | None,
    depth: int,
    allowed: IntArray | None,
    term_counts: TermCounts,
) -> Ranking:
    if vector is None:
        return by_terms(connection, query.text, depth, allowed, term_counts)
    if query.mode == "vector":
        return by_vector(connection, layout, centred(connection, vector), depth, allowed)
    near = by_vector(connection, layout, vector, depth, allowed)
    (passages,) = connection.execute("SELECT count(*) FROM (SELECT 1 FROM passages LIMIT 10000)").fetchone()
    return fused(
        near,
        by_terms(connection, query.text, depth, allowed, term_counts),
        passages,
        lambda numbers: cosines(read_vectors(connection, layout, numbers), vector),
    )


def _hits(connection: sqlite3.Connection, ranking: Ranking, k: int) -> list[Hit]:
    hits: dict[str, Hit] = {}
    for number, score in zip(ranking.numbers.tolist(), ranking.scores.tolist()):
        if len(hits) >= k:
            break
        name, text, metadata, document, start, stop, heading = connection.execute(
            "SELECT id, text, metadata, documents.number, start, stop, heading FROM passages "
            "JOIN documents ON documents.number = document WHERE passages.number = ?",
            (number,),
        ).fetchone()
        if name not in hits:
            passage = Passage(start, stop, heading)
            hits[name] = Hit(name, score, text, json.loads(metadata), passage, document)
    return list(hits.values())
