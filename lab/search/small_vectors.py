"""nDCG@10 of narrower and of rounded vectors, on retrieval sets.

    python -m lab.search.small_vectors DATA/xquad_en ... --output docs/reports/search/small-vectors.json

Both sides are shortened to their first values, then rounded as `Embedder` does: int8, or a bit a value, which
is compared with bits, or with a query in float32 (``ubinary, query float32``). Queries at ratio 1.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from jaspertc.engine.precision import normalized, similarity, to_precision
from lab.search.sets import FloatArray, interval, load_set, ndcg, ranked, vectors

DIMS = (384, 256, 192, 128, 64)


def variants(queries: FloatArray, documents: FloatArray) -> dict[str, FloatArray]:
    """Scores of shape (Q, D) for each way to keep vectors."""
    scores = {
        precision: similarity(to_precision(queries, precision), to_precision(documents, precision))
        for precision in ("float32", "int8", "ubinary")
    }
    signs = np.where(documents > 0, 1, -1).astype(np.float32)
    return scores | {"ubinary, query float32": queries @ signs.T}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("sets", nargs="+", type=Path)
    parser.add_argument("--ratio", type=float, default=0.33)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--cache", type=Path, default=Path("runs/search"))
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    found: dict[str, dict[str, object]] = {}
    for folder in options.sets:
        task = load_set(folder)
        queries = vectors(options.model, task.queries, "query", 1.0, options.cache)
        documents = vectors(options.model, task.documents, "document", options.ratio, options.cache)
        whole = ndcg(ranked(queries @ documents.T, task.document_ids), task)
        table: dict[str, object] = {}
        for dims in DIMS:
            narrow = [normalized(part[:, :dims]) for part in (queries, documents)]
            for name, scores in variants(*narrow).items():
                each = ndcg(ranked(scores, task.document_ids), task)
                table[f"{dims}, {name}"] = {
                    "ndcg": round(100 * float(each.mean()), 2),
                    "less than whole, 95 %": interval(each - whole),
                }
        found[task.name] = table
        options.output.write_text(json.dumps(found, indent=1) + "\n")
        print(task.name, json.dumps(table, indent=1), flush=True)


if __name__ == "__main__":
    main()
