"""Retrieval sets, their vectors (cached), and nDCG@10.

Shape legend: D documents, Q queries, E width of the vectors.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np

from jaspertc import Embedder
from jaspertc.files.json_lines import read_objects
from jaspertc.types import FloatArray

TOP = 10


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


@cache
def model(name: str) -> Embedder:
    return Embedder.load(name)


def vectors(name: str, texts: Sequence[str], role: str, ratio: float, folder: Path) -> FloatArray:
    """Unit vectors of texts as ``document`` or ``query``, computed once for each cache folder."""
    embedder = model(name)
    content = "\0".join([embedder.fingerprint, role, f"{ratio:g}", *texts])
    path = folder / f"{hashlib.sha256(content.encode()).hexdigest()[:24]}.npy"
    if not path.exists():
        encode = embedder.encode_query if role == "query" else embedder.encode_document
        folder.mkdir(parents=True, exist_ok=True)
        np.save(path, encode(texts, ratio=ratio, normalize=True))
    found: FloatArray = np.load(path)
    return found


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


def ranked(scores: FloatArray, ids: Sequence[str], top: int = TOP) -> list[list[str]]:
    """Ids of the best documents of each query, from scores of shape (Q, D); equal ones in their order."""
    return [[ids[place] for place in np.argsort(-row, kind="stable")[:top]] for row in scores]


def rounded(table: Mapping[str, float]) -> dict[str, float]:
    """Scores × 100 with two decimals."""
    return {key: round(100 * float(value), 2) for key, value in table.items()}
