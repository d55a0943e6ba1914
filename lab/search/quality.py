"""nDCG@10 of an index by ratio, mode, storage and past queries, on retrieval sets.

    python -m lab.search.quality DATA/xquad_en ... --output docs/reports/search/quality.json

Sets are folders of ``corpus``, ``queries`` and ``qrels``. Queries are embedded at ratio 1.
"""

import argparse
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jaspertc.search import upkeep
from jaspertc.search.blocks import STORAGES
from jaspertc.search.finding import MODES
from jaspertc.search.usage import STRENGTH
from lab.search.indexes import CachedModel, build, found, recall, score
from lab.search.sets import FloatArray, RetrievalSet, load_set, ndcg, vectors

RATIOS = (0.1, 0.33, 1.0)
RATIO = 0.33


def by_ratio(
    task: RetrievalSet, queries: FloatArray, embedder: Any, path: Path, ratios: Sequence[float] = RATIOS
) -> dict[str, Any]:
    """Each mode at each ratio, with the processor seconds of embedding and of the rest, and the size."""
    table: dict[str, Any] = {}
    for ratio in ratios:
        embedded, cached_s, begin = embedder.seconds, embedder.spent, time.process_time()
        with build(task, path, embedder, ratio=ratio) as index:
            storing = time.process_time() - begin - (embedder.spent - cached_s)
            table[f"{ratio:g}"] = {mode: score(index, task, queries, mode=mode) for mode in MODES}
        table[f"{ratio:g}"] |= {
            "embedding_s": round(embedder.seconds - embedded, 1),
            "storing_s": round(storing, 1),
            "mib": round(upkeep.compact(path)[1] / 2**20, 2),
        }
    return table


def by_storage(task: RetrievalSet, queries: FloatArray, embedder: Any, path: Path) -> dict[str, Any]:
    """Each storage: size, nDCG@10, and the share of the exact search's ten best that it finds."""
    table: dict[str, Any] = {}
    exact: list[list[str]] = []
    for storage in STORAGES:
        with build(task, path, embedder, ratio=RATIO, storage=storage) as index:
            lists = found(index, task, queries, mode="vector")
            exact = exact or lists
            table[storage] = {
                "vector": round(100 * float(ndcg(lists, task).mean()), 2),
                "hybrid": score(index, task, queries, mode="hybrid"),
                "recall": recall(lists, exact),
            }
        table[storage]["mib"] = round(upkeep.compact(path)[1] / 2**20, 2)
    return table


def by_past_queries(task: RetrievalSet, queries: FloatArray, embedder: Any, path: Path) -> dict[str, Any]:
    """The second half of the queries, less half the mean of 0, 50, 100 ... queries of the first half."""
    half = len(queries) // 2
    asked = replace(task, query_ids=task.query_ids[half:], queries=task.queries[half:])
    table: dict[str, Any] = {}
    with build(task, path, embedder, ratio=RATIO) as index:
        for learned in (0, 50, 100, 200, 400, half):
            past = queries[:learned].mean(0) if learned else 0.0
            shifted = (queries[half:] - STRENGTH * past).astype("float32")
            table[f"{learned}"] = {
                mode: score(index, asked, shifted, mode=mode) for mode in ("vector", "hybrid")
            }
    return table


MEASURES: dict[str, Callable[..., dict[str, Any]]] = {
    "ratios": by_ratio,
    "storage": by_storage,
    "past queries": by_past_queries,
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="+", type=Path)
    parser.add_argument("--only", nargs="*", choices=MEASURES, help="default: all")
    parser.add_argument("--ratios", nargs="*", type=float, default=RATIOS)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--cache", type=Path, default=Path("runs/search"))
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    options.cache.mkdir(parents=True, exist_ok=True)
    embedder = CachedModel(options.model, options.cache)
    results = json.loads(options.output.read_text()) if options.output.exists() else {}
    for folder in options.sets:
        task = load_set(folder)
        queries = vectors(options.model, task.queries, "query", 1.0, options.cache)
        result: dict[str, Any] = {"documents": len(task.documents), "queries": len(task.queries)}
        for name, measure in MEASURES.items():
            if options.only and name not in options.only:
                continue
            path = options.cache / f"{task.name}.db"
            asked = {"ratios": options.ratios} if name == "ratios" else {}
            result[name] = measure(task, queries, embedder, path, **asked)
            results[task.name] = results.get(task.name, {}) | result
            options.output.parent.mkdir(parents=True, exist_ok=True)
            options.output.write_text(json.dumps(results, indent=1) + "\n")
            print(task.name, name, json.dumps(result[name]), flush=True)


if __name__ == "__main__":
    main()
