"""What is done with texts longer than the model reads well: nDCG@10 of documents squeezed, cut or in pieces.

    python -m lab.compressors.long_texts mini DATA/long_techdocs_en DATA/long_qmsum_en --output results.json

Queries at ratio 1, documents at each ratio; nothing is trained. ``pieces`` is what the package does,
``pieces, alike`` what it did first: tokens shared in proportion, pieces weighted by k ** -1/2 alone. Sets
with the same documents are embedded once. ``ms per document`` is the time of one call with all of them.
"""

import argparse
import json
import time
from itertools import product
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from jaspertc import Embedder
from jaspertc.engine import pieces
from jaspertc.engine.embedder import Embedder as Engine
from jaspertc.reports.origin import machine, versions
from jaspertc.types import FloatArray, IntArray
from lab.search.sets import RetrievalSet, load_set, ndcg

WAYS = {
    "squeezed": {"long_texts": "compress"},
    "first 512 tokens": {"long_texts": "compress", "max_length": 512},
    "pieces, alike": {"long_texts": "pieces"},
    "pieces": {"long_texts": "pieces"},
}


def in_proportion(lengths: IntArray, target: int) -> IntArray:
    """A text's compressed tokens, shared among its pieces by their lengths."""
    ends = np.cumsum(lengths)
    return np.maximum(1, np.diff(ends * target // ends[-1], prepend=0))


def whatever_was_read(rows: pieces.TextRows, vectors: FloatArray, targets: IntArray) -> FloatArray:
    """The mean of a text's pieces by tokens / sqrt(k)."""
    return combine(rows, vectors, np.array([len(row) for row in rows.rows]))


combine = pieces.TextRows.combine


def embedded(embedder: Engine, documents: list[str], way: str, **arguments: Any) -> FloatArray:
    if way != "pieces, alike":
        return np.asarray(embedder.encode_document(documents, **arguments, **WAYS[way]))
    with (
        patch.object(pieces, "shared_targets", in_proportion),
        patch.object(pieces.TextRows, "combine", whatever_was_read),
    ):
        return np.asarray(embedder.encode_document(documents, **arguments, **WAYS[way]))


def joined(embedder: Engine, documents: list[str], tokens: int) -> str:
    """Documents one behind the other, about so many tokens."""
    counts = np.cumsum([len(ids) for ids in embedder.tokenize(documents)])
    last = int(np.searchsorted(counts, tokens))
    text = "\n\n".join(documents[: last + 1])
    return text[: round(len(text) * tokens / int(counts[last]))]


def milliseconds(embedder: Engine, text: str, way: str, **arguments: Any) -> list[float]:
    """Of one call with one text, three times, sorted."""
    found = []
    for _ in range(3):
        started = time.perf_counter()
        embedded(embedder, [text], way, **arguments)
        found.append(round(1000 * (time.perf_counter() - started)))
    return sorted(found)


def score(queries: FloatArray, documents: FloatArray, task: RetrievalSet) -> float:
    best = np.argsort(-(queries @ documents.T), axis=1, kind="stable")[:, :10]
    return 100 * float(ndcg([[task.document_ids[place] for place in row] for row in best], task).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("sets", nargs="+", type=Path)
    parser.add_argument("--ratios", default="1,0.33,0.1")
    parser.add_argument("--ways", nargs="+", choices=list(WAYS), default=list(WAYS))
    parser.add_argument("--query-prompt", help="default: the model's")
    parser.add_argument("--document-prompt", help="default: the model's")
    parser.add_argument(
        "--one", type=int, help="only time one text of so many tokens, joined from the documents"
    )
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    embedder = Embedder.load(options.model)
    tasks = [load_set(folder) for folder in options.sets]
    prompt = {} if options.query_prompt is None else {"prompt": options.query_prompt}
    queries = {
        task.name: np.asarray(embedder.encode_query(task.queries, ratio=1.0, **prompt)) for task in tasks
    }
    prompt = {} if options.document_prompt is None else {"prompt": options.document_prompt}
    rows: list[dict[str, Any]] = []
    for documents in {tuple(task.documents): None for task in tasks}:
        if options.one:
            text = joined(embedder, list(documents), options.one)
            for ratio, way in product(map(float, options.ratios.split(",")), options.ways):
                row = {"tokens": len(embedder.tokenize([text])[0]), "way": way, "ratio": ratio}
                row["ms, lowest to highest"] = milliseconds(embedder, text, way, ratio=ratio, **prompt)
                rows.append(row)
                print(row, flush=True)
            continue
        lengths = [len(ids) for ids in embedder.tokenize(documents)]
        for ratio in [float(ratio) for ratio in options.ratios.split(",")]:
            for way in options.ways:
                started = time.perf_counter()
                vectors = embedded(embedder, list(documents), way, ratio=ratio, **prompt)
                seconds = time.perf_counter() - started
                for task in tasks:
                    if tuple(task.documents) != documents:
                        continue
                    row = {
                        "set": task.name,
                        "documents": len(documents),
                        "mean tokens": round(float(np.mean(lengths))),
                        "way": way,
                        "ratio": ratio,
                        "ndcg@10": round(score(queries[task.name], vectors, task), 1),
                        "ms per document": round(1000 * seconds / len(documents), 1),
                    }
                    rows.append(row)
                    print(row, flush=True)
    if options.output:
        facts = {
            "model": embedder.fingerprint,
            "runtime": f"{embedder.runtime.name} {embedder.runtime.precision}",
            "processor": machine(),
            "versions": versions("jaspertc", "torch", "openvino", "numpy", "tokenizers"),
        }
        lines = ",\n".join(json.dumps(row) for row in rows)
        options.output.write_text(f'{json.dumps(facts, indent=1)[:-2]},\n "rows": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
