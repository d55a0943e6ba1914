"""Time of a search and size of an index of many short documents, by storage.

    python -m lab.search.scale --documents 1000000 --storage ubinary --output docs/reports/search/scale.json

Vectors are drawn: a part that all share, a topic's and the document's own, so that cosines lie about as those
of texts do; texts are twelve words drawn with Zipf's law. They are added as any documents, so that time and
memory are those of indexing without a model. Times are of the processor, one thread, the file in the
system's cache: the median with the 5th and 95th percentile; modes alternate. Recall is of the ten best by
float32 cosine.
"""

import argparse
import json
import resource
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from jaspertc.reports.origin import machine, versions
from jaspertc.search.documents import Document
from jaspertc.search.finding import MODES
from jaspertc.search.index import SearchIndex
from lab.search.sets import FloatArray

DIMS, TOPICS, WORDS = 384, 2000, 50_000
QUERIES, TOP, TOGETHER = 40, 10, 256


class Drawn:
    """Stands for a model, whose vectors are drawn."""

    def __init__(self) -> None:
        self._dice = np.random.default_rng(0)
        compressor = SimpleNamespace(can_compress=True)
        self.checkpoint = SimpleNamespace(name="drawn", compressor=compressor)
        self.fingerprint, self.dims, self.default_ratio, self.default_threshold = "drawn", DIMS, 1.0, 80
        self._topics = self._dice.standard_normal((TOPICS, DIMS), dtype=np.float32)
        self._shared = self._dice.standard_normal(DIMS, dtype=np.float32)
        self.queries = self.vectors(QUERIES)
        self.cosines = np.full((QUERIES, TOP), -2.0, dtype=np.float32)
        self.nearest = np.zeros((QUERIES, TOP), dtype=np.int64)
        self.ids: dict[str, int] = {}

    def vectors(self, count: int) -> FloatArray:
        own = self._dice.standard_normal((count, DIMS), dtype=np.float32)
        topics = self._topics[self._dice.integers(0, TOPICS, count)]
        return unit(0.45 * self._shared + 0.6 * topics + 0.8 * own)

    def encode_document(self, texts: Sequence[str], **_: Any) -> FloatArray:
        """Also keeps the exact neighbours of the queries."""
        found = self.vectors(len(texts))
        names = np.array([self.ids[text] for text in texts])
        cosines = np.concatenate([self.cosines, self.queries @ found.T], axis=1)
        every = np.concatenate([self.nearest, np.tile(names, (len(self.queries), 1))], axis=1)
        order = np.argsort(-cosines, axis=1)[:, :TOP]
        self.cosines, self.nearest = (np.take_along_axis(part, order, 1) for part in (cosines, every))
        return found

    def documents(self, count: int) -> Iterator[Document]:
        """Their ids are numbers."""
        dice = np.random.default_rng(1)
        for begin in range(0, count, TOGETHER):
            words = dice.zipf(1.3, (min(TOGETHER, count - begin), 12)) % WORDS
            texts = [" ".join(f"w{word}" for word in row) for row in words.tolist()]
            self.ids = {text: begin + place for place, text in enumerate(texts)}
            yield from (Document(f"{begin + place}", text) for place, text in enumerate(texts))


def unit(vectors: FloatArray) -> FloatArray:
    found: FloatArray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return found


def measure(count: int, storage: str, folder: Path) -> dict[str, Any]:
    model: Any = Drawn()
    queries = model.queries
    words = np.random.default_rng(3).zipf(1.3, (QUERIES, 4)) % WORDS
    texts = [" ".join(f"w{word}" for word in row) for row in words.tolist()]
    path = folder / f"{storage}-{count}.db"
    for old in folder.glob(f"{path.name}*"):
        old.unlink()
    with SearchIndex.create_or_open(path, model, storage=storage) as index:
        begin = time.process_time()
        index.add(model.documents(count))
        spent = time.process_time() - begin
        times: dict[str, list[float]] = {mode: [] for mode in MODES}
        hits = 0
        for text, query, names in zip(texts, queries, model.nearest):
            for mode in MODES:
                begin = time.thread_time()
                found = index.search(text, k=TOP, mode=mode, vector=query)
                times[mode].append(1000 * (time.thread_time() - begin))
                hits += (
                    len({hit.id for hit in found} & {str(name) for name in names}) if mode == "vector" else 0
                )
    table: dict[str, Any] = {
        "mib": round(path.stat().st_size / 2**20),
        "indexing, CPU s": round(spent),
        "peak memory, MiB": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
    }
    for mode, seconds in times.items():
        low, middle, high = np.percentile(seconds, [5, 50, 95])
        table[f"{mode}, CPU ms"] = f"{middle:.1f} ({low:.1f}-{high:.1f})"
    return table | {"recall": round(100 * hits / TOP / QUERIES, 2)}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--documents", type=int, default=1_000_000)
    parser.add_argument("--storage", default="ubinary")
    parser.add_argument("--folder", type=Path, default=Path("runs/search-scale"))
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    results = json.loads(options.output.read_text()) if options.output.exists() else {}
    key = f"{options.documents} {options.storage}"
    results[key] = measure(options.documents, options.storage, options.folder)
    results["machine"], results["versions"] = machine(), versions("jaspertc", "numpy")
    options.output.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
