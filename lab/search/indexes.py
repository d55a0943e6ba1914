"""Search indexes of retrieval sets, filled with cached vectors: what is measured is the index that ships."""

import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaspertc.search.documents import Document
from jaspertc.search.index import SearchIndex
from lab.search.sets import FloatArray, RetrievalSet, cached, model, ndcg

QUERY_RATIO = 1.0


class CachedModel:
    """An Embedder whose vectors of documents are kept between runs.

    Attributes:
        seconds: of processor time that computing the vectors took that it gave, whenever that was.
        spent: of processor time in this process, reading the cache included.
    """

    def __init__(self, name: str, cache: Path) -> None:
        self._name, self._cache, self._model = name, cache, model(name)
        self.seconds = self.spent = 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)

    def encode_document(self, texts: Sequence[str], *, ratio: float, **_: Any) -> FloatArray:
        begin = time.process_time()
        found, seconds = cached(self._name, texts, "document", ratio, self._cache)
        self.seconds += seconds
        self.spent += time.process_time() - begin
        return found


def build(task: RetrievalSet, path: Path, embedder: Any, **options: Any) -> SearchIndex:
    """A new index of a set's documents."""
    for old in path.parent.glob(f"{path.name}*"):
        old.unlink()
    index = SearchIndex.create_or_open(path, embedder, **options)
    index.add(Document(name, text) for name, text in zip(task.document_ids, task.documents))
    return index


def found(
    index: SearchIndex, task: RetrievalSet, queries: FloatArray, k: int = 10, **options: Any
) -> list[list[str]]:
    """Ids found for each query."""
    return [
        [hit.id for hit in index.search(text, k=k, vector=vector, **options)]
        for text, vector in zip(task.queries, queries)
    ]  # fmt: skip


def score(index: SearchIndex, task: RetrievalSet, queries: FloatArray, **options: Any) -> float:
    """nDCG@10 × 100."""
    return round(100 * float(ndcg(found(index, task, queries, **options), task).mean()), 2)


def recall(lists: list[list[str]], exact: list[list[str]]) -> float:
    """Share of the exact search's ids that are in the lists, × 100."""
    shares = [len(set(a) & set(b)) / len(b) for a, b in zip(lists, exact)]
    return round(100 * float(np.mean(shares)), 2)
