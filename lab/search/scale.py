"""Time of a search and size of an index of many short documents, by storage.

    python -m lab.search.scale --documents 1000000 --storage ubinary --output docs/reports/search/scale.json

Vectors are drawn: a part that all share, a topic's and the document's own, so that cosines lie about as those
of texts do; texts are twelve words drawn with Zipf's law. The tables are filled directly: what is measured is
searching. Times are of the processor, one thread, the file in the system's cache: the median with the 5th and
95th percentile; modes alternate. Recall is of the ten best by float32 cosine.
"""

import argparse
import json
import platform
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np

from jaspertc.search.blocks import write_vectors
from jaspertc.search.finding import MODES
from jaspertc.search.index import SearchIndex
from jaspertc.search.schema import transaction
from lab.search.sets import FloatArray

DIMS, TOPICS, WORDS = 384, 2000, 50_000
QUERIES, TOP, TOGETHER = 40, 10, 8192


class Drawn:
    """Stands for a model, whose vectors are drawn."""

    def __init__(self) -> None:
        self._dice = np.random.default_rng(0)
        encoder = SimpleNamespace(compressor=SimpleNamespace(can_compress=True))
        self.checkpoint = SimpleNamespace(name="drawn", encoder=encoder)
        self.fingerprint, self.dims, self.default_ratio, self.default_threshold = "drawn", DIMS, 1.0, 80
        self._topics = self._dice.standard_normal((TOPICS, DIMS), dtype=np.float32)
        self._shared = self._dice.standard_normal(DIMS, dtype=np.float32)

    def vectors(self, count: int) -> FloatArray:
        own = self._dice.standard_normal((count, DIMS), dtype=np.float32)
        topics = self._topics[self._dice.integers(0, TOPICS, count)]
        return unit(0.45 * self._shared + 0.6 * topics + 0.8 * own)


def unit(vectors: FloatArray) -> FloatArray:
    found: FloatArray = vectors / np.linalg.norm(vectors, axis=1, keepdims=True)
    return found


def fill(index: SearchIndex, model: Drawn, count: int, queries: FloatArray) -> list[list[str]]:
    """Documents, and the ids of the exact neighbours of each query."""
    dice = np.random.default_rng(1)
    best = np.full((len(queries), TOP), -2.0, dtype=np.float32)
    names = np.zeros((len(queries), TOP), dtype=np.int64)
    with index.connections.writing() as connection:
        for begin in range(0, count, TOGETHER):
            numbers = np.arange(begin, min(begin + TOGETHER, count)) + 1
            vectors = model.vectors(len(numbers))
            words = dice.zipf(1.3, (len(numbers), 12)) % WORDS
            texts = [" ".join(f"w{word}" for word in row) for row in words.tolist()]
            rows = list(zip(numbers.tolist(), texts))
            with transaction(connection):
                connection.executemany(
                    "INSERT INTO documents (number, id, text_hash, metadata, text) "
                    "VALUES (?, ?, x'', '{}', ?)",
                    ((number, f"{number}", text) for number, text in rows),
                )
                connection.executemany(
                    "INSERT INTO passages VALUES (?, ?, 0, ?, '', 1)",
                    ((number, number, len(text)) for number, text in rows),
                )
                connection.executemany("INSERT INTO terms (rowid, words) VALUES (?, ?)", rows)
                write_vectors(connection, index.info.layout, numbers, vectors)
                connection.execute(
                    "UPDATE meta SET value = ? WHERE key = 'documents'", (len(numbers) + begin,)
                )
            scores = np.concatenate([best, queries @ vectors.T], axis=1)
            all_names = np.concatenate([names, np.tile(numbers, (len(queries), 1))], axis=1)
            order = np.argsort(-scores, axis=1)[:, :TOP]
            best, names = (np.take_along_axis(part, order, 1) for part in (scores, all_names))
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return [[str(name) for name in row] for row in names.tolist()]


def measure(count: int, storage: str, folder: Path) -> dict[str, Any]:
    model: Any = Drawn()
    queries = unit(model.vectors(QUERIES))
    words = np.random.default_rng(3).zipf(1.3, (QUERIES, 4)) % WORDS
    texts = [" ".join(f"w{word}" for word in row) for row in words.tolist()]
    path = folder / f"{storage}-{count}.db"
    for old in folder.glob(f"{path.name}*"):
        old.unlink()
    with SearchIndex.create_or_open(path, model, storage=storage) as index:
        exact = fill(index, model, count, queries)
        times: dict[str, list[float]] = {mode: [] for mode in MODES}
        hits = 0
        for text, query, names in zip(texts, queries, exact):
            for mode in MODES:
                begin = time.thread_time()
                found = index.search(text, k=TOP, mode=mode, vector=query)
                times[mode].append(1000 * (time.thread_time() - begin))
                hits += len({hit.id for hit in found} & set(names)) if mode == "vector" else 0
    table: dict[str, Any] = {"mib": round(path.stat().st_size / 2**20)}
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
    results["versions"] = f"{platform.machine()}, numpy {np.__version__}, python {platform.python_version()}"
    options.output.write_text(json.dumps(results, indent=1) + "\n")
    print(json.dumps(results, indent=1))


if __name__ == "__main__":
    main()
