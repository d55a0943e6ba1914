"""Retrieval sets, their vectors (cached), and nDCG@10.

Shape legend: D documents, Q queries, E width of the vectors.
"""

import hashlib
import sqlite3
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

import numpy as np

from jaspertc import Embedder
from jaspertc.files.json_lines import read_objects
from jaspertc.types import FloatArray

TOP = 10
TOGETHER = 256  # texts a call


@dataclass(frozen=True)
class RetrievalSet:
    """A corpus, its queries, and by query the documents that answer it with their grade."""

    name: str
    document_ids: list[str]
    documents: list[str]
    query_ids: list[str]
    queries: list[str]
    relevant: dict[str, dict[str, float]]


def load_set(folder: Path) -> RetrievalSet:
    """A folder of ``corpus``, ``queries`` (both ``{id, text}``) and ``qrels`` (``{qid, did, score}``)."""
    corpus, queries, qrels = (
        [row for _, row in read_objects(folder / f"{part}.jsonl.gz")]
        for part in ("corpus", "queries", "qrels")
    )
    relevant: dict[str, dict[str, float]] = {}
    for row in qrels:
        relevant.setdefault(str(row["qid"]), {})[str(row["did"])] = float(row["score"])
    queries = [row for row in queries if str(row["id"]) in relevant]
    return RetrievalSet(
        folder.name,
        [str(row["id"]) for row in corpus],
        [row["text"] for row in corpus],
        [str(row["id"]) for row in queries],
        [row["text"] for row in queries],
        relevant,
    )


def part_of(task: RetrievalSet, most: int) -> RetrievalSet:
    """The first documents of a set, and the queries that they answer."""
    names = set(task.document_ids[:most])
    kept = [place for place, query in enumerate(task.query_ids) if set(task.relevant[query]) <= names]
    return replace(
        task,
        document_ids=task.document_ids[:most],
        documents=task.documents[:most],
        query_ids=[task.query_ids[place] for place in kept],
        queries=[task.queries[place] for place in kept],
    )


@cache
def model(name: str) -> Embedder:
    return Embedder.load(name)


def vectors(name: str, texts: Sequence[str], role: str, ratio: float, folder: Path) -> FloatArray:
    """Unit vectors of texts as ``document`` or ``query``, each computed once for each cache folder."""
    return cached(name, texts, role, ratio, folder)[0]


def cached(
    name: str, texts: Sequence[str], role: str, ratio: float, folder: Path
) -> tuple[FloatArray, float]:
    """``vectors``, and the seconds of processor time that computing them took, whenever that was."""
    embedder = model(name)
    keys = [_key(embedder.fingerprint, role, ratio, text) for text in texts]
    folder.mkdir(parents=True, exist_ok=True)
    with closing(sqlite3.connect(folder / "vectors.db", timeout=60)) as cache:
        cache.execute("PRAGMA journal_mode = WAL")
        cache.execute("CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB, seconds REAL)")
        query = "SELECT vector, seconds FROM vectors WHERE key = ?"
        known = {key: row for key in keys if (row := cache.execute(query, (key,)).fetchone())}
        new = {key: text for key, text in zip(keys, texts) if key not in known}
        pending = list(new)
        for begin in range(0, len(pending), TOGETHER):
            part = pending[begin : begin + TOGETHER]
            start = time.process_time()
            encode = embedder.encode_query if role == "query" else embedder.encode_document
            found = encode([new[key] for key in part], ratio=ratio, normalize=True)
            seconds = (time.process_time() - start) / len(part)
            rows = [(key, vector.tobytes(), seconds) for key, vector in zip(part, found)]
            cache.executemany("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?)", rows)
            cache.commit()
            known |= {key: (vector, took) for key, vector, took in rows}
    stacked = np.frombuffer(b"".join(known[key][0] for key in keys), dtype=np.float32)
    return stacked.reshape(len(texts), -1), sum(known[key][1] for key in keys)


def _key(fingerprint: str, role: str, ratio: float, text: str) -> bytes:
    content = "\0".join([fingerprint, role, f"{ratio:g}", text])
    return hashlib.sha256(content.encode()).digest()[:16]


def ndcg(ranked: Sequence[Sequence[str]], task: RetrievalSet) -> FloatArray:
    """nDCG@10 of each query, shape (Q,), from the ids found, best first."""
    discounts = 1 / np.log2(np.arange(2, TOP + 2))
    scores = []
    for query, ids in zip(task.query_ids, ranked):
        grades = task.relevant[query]
        best = sorted(grades.values(), reverse=True)[:TOP]
        gained = [grades.get(name, 0.0) for name in ids[:TOP]]
        scores.append(np.dot(gained, discounts[: len(gained)]) / np.dot(best, discounts[: len(best)]))
    return np.array(scores, dtype=np.float32)


def interval(differences: FloatArray, draws: int = 2000) -> list[float]:
    """95 % of the mean of paired differences, x 100, by bootstrap."""
    random = np.random.default_rng(0)
    places = random.integers(len(differences), size=(draws, len(differences)))
    return [round(100 * float(edge), 2) for edge in np.quantile(differences[places].mean(1), [0.025, 0.975])]


def ranked(scores: FloatArray, ids: Sequence[str], top: int = TOP) -> list[list[str]]:
    """Ids of the best documents of each query, from scores of shape (Q, D); equal ones in their order."""
    return [[ids[place] for place in np.argsort(-row, kind="stable")[:top]] for row in scores]


def rounded(table: Mapping[str, float]) -> dict[str, float]:
    """Scores × 100 with two decimals."""
    return {key: round(100 * float(value), 2) for key, value in table.items()}
