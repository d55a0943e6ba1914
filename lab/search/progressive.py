"""An index filled at a low ratio and refined later: time, and nDCG@10 on the way.

    python -m lab.search.progressive DATA/xquad_en ... --others texts_en.jsonl.gz texts_zh.jsonl.gz \\
        --output docs/reports/search/progressive.json

The sets' documents are indexed together with other paragraphs of 400 characters (Chinese: 150) or more. The
index at the low ratio is asked the first half of the queries, so that it learns what is found, and refined in
steps of time; measured with every fourth of the second half, on the same index. Seconds are of the processor,
one thread; ``per_second`` is of paragraphs.
"""

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

from jaspertc import Embedder, SearchIndex
from jaspertc.files.json_lines import read_objects
from jaspertc.reports.origin import machine, versions
from jaspertc.search import upkeep
from jaspertc.search.documents import Document
from jaspertc.search.refining import refine
from lab.search.indexes import score
from lab.search.sets import RetrievalSet, load_set

LOW, HIGH = 0.1, 0.5
STEPS = (0.1, 0.15, 0.25)  # of the time that the whole index takes at the high ratio
EVERY = 4  # query of the second half is asked


def documents(sets: list[RetrievalSet], others: list[Path], count: int) -> Iterator[Document]:
    for task in sets:
        for name, text in zip(task.document_ids, task.documents):
            yield Document(f"{task.name}/{name}", text)
    for path in others:
        rows = (row for _, row in read_objects(path))
        long = (row for row in rows if len(row["text"]) >= (150 if row["lang"] == "zh" else 400))
        for row in islice(long, count // len(others)):
            yield Document(f"other/{row['id']}", row["text"])


def named(task: RetrievalSet, half: slice) -> RetrievalSet:
    """Half of the queries, with ids as in the common index."""
    relevant = {
        query: {f"{task.name}/{name}": grade for name, grade in answers.items()}
        for query, answers in task.relevant.items()
    }
    return replace(task, query_ids=task.query_ids[half], queries=task.queries[half], relevant=relevant)


def scores(index: SearchIndex, sets: list[RetrievalSet], embedder: Embedder) -> dict[str, float]:
    """Means over the sets, of the second half of their queries, and the seconds until now."""
    table: dict[str, float] = {}
    for mode in ("vector", "hybrid"):
        found = []
        for task in sets:
            asked = named(task, slice(len(task.queries) // 2, None, EVERY))
            vectors = embedder.encode_query(asked.queries, ratio=1.0, normalize=True)
            found.append(score(index, asked, vectors, mode=mode))
        table[mode] = round(sum(found) / len(found), 2)
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="+", type=Path)
    parser.add_argument("--others", nargs="*", type=Path, default=[])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--folder", type=Path, default=Path("runs/search"))
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    embedder = Embedder.load(options.model)
    sets = [load_set(folder) for folder in options.sets]
    results: dict[str, Any] = {"machine": machine(), "versions": versions("jaspertc", "torch", "openvino")}

    def record(name: str, index: SearchIndex, seconds: float) -> None:
        ratios = {f"{ratio:g}": count for ratio, count in upkeep.contents(index.path).ratios.items()}
        rate = {"per_second": round(len(index) / seconds, 1)}
        results[name] = {
            "seconds": round(seconds, 1),
            **rate,
            "ratios": ratios,
            **scores(index, sets, embedder),
        }
        options.output.write_text(json.dumps(results, indent=1) + "\n")
        print(name, results[name], flush=True)

    for ratio in (HIGH, LOW):
        path = options.folder / f"progressive-{ratio:g}.db"
        for old in path.parent.glob(f"{path.name}*"):
            old.unlink()
        with SearchIndex.create_or_open(path, embedder, ratio=ratio) as index:
            begin = time.process_time()
            index.add(documents(sets, options.others, options.count))
            spent = time.process_time() - begin
            record(f"all at {ratio:g}", index, spent)
    whole = results[f"all at {HIGH:g}"]["seconds"]
    with SearchIndex.open(path, embedder) as index:
        for task in sets:
            for query in named(task, slice(0, len(task.queries) // 2)).queries:
                index.search(query, k=10)
    with SearchIndex.open(path, embedder) as index:
        for step in (*STEPS, None):
            begin = time.process_time()
            refine(index, HIGH, seconds=None if step is None else step * whole)
            spent += time.process_time() - begin
            record(f"refined, step {len(results) - 3}", index, spent)


if __name__ == "__main__":
    main()
