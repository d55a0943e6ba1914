"""Whether one index may hold documents embedded at different ratios.

    python -m lab.search.mixed_ratios DATA/xquad_en ... --output docs/reports/search/mixed-ratios.json

Queries at ratio 1. For two ratios: documents all at the lower, all at the higher, and half of them at each;
the halves are drawn ten times, each draw also exchanged. ``expected`` is the mean of the two uniform indexes:
mixing that hurts falls below it. ``centred`` gives both halves the same mean: the lower ratio's
documents lose theirs and get the higher one's. ``standardised`` brings each query's scores with all documents
of a ratio to mean 0 and deviation 1.
"""

import argparse
import json
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path

import numpy as np

from lab.search.sets import FloatArray, RetrievalSet, load_set, ndcg, part_of, ranked, rounded, vectors

DRAWS = 10
RATIOS = (0.1, 0.33, 1.0)


def measure(task: RetrievalSet, name: str, cache: Path, ratios: Sequence[float]) -> dict[str, object]:
    """Tables of one set."""
    queries = vectors(name, task.queries, "query", 1.0, cache)
    documents = {ratio: vectors(name, task.documents, "document", ratio, cache) for ratio in ratios}
    uniform = {ratio: scored(queries @ found.T, task) for ratio, found in documents.items()}
    means = {ratio: found.mean(0) for ratio, found in documents.items()}
    return {
        "documents": len(task.documents),
        "queries": len(task.queries),
        "uniform": rounded({f"{ratio:g}": score.mean() for ratio, score in uniform.items()}),
        "mean_cosine_to_queries": {
            f"{ratio:g}": round(float((queries @ found.T).mean()), 4) for ratio, found in documents.items()
        },
        "length_of_mean": {f"{ratio:g}": round(float(np.linalg.norm(m)), 4) for ratio, m in means.items()},
        "mixed": {
            f"{low:g}+{high:g}": mixed(task, queries, documents[low], documents[high])
            | {"expected": round(50 * float(uniform[low].mean() + uniform[high].mean()), 2)}
            for low, high in combinations(ratios, 2)
        },
    }


def mixed(task: RetrievalSet, queries: FloatArray, low: FloatArray, high: FloatArray) -> dict[str, object]:
    """Half and half, also by whether the document that answers is one of the lower ratio."""
    answers = [next(iter(task.relevant[name])) for name in task.query_ids]
    place = {name: number for number, name in enumerate(task.document_ids)}
    answer = np.array([place[name] for name in answers])
    tables: dict[str, list[float]] = {}
    for seed in range(DRAWS):
        chosen = np.random.default_rng(seed).permutation(len(low)) < len(low) // 2
        for is_low in (chosen, ~chosen):
            variants = {
                "mixed": np.where(is_low[:, None], low, high) @ queries.T,
                "centred": np.where(is_low[:, None], low - low.mean(0) + high.mean(0), high) @ queries.T,
            }
            plain, scaled = variants["mixed"], np.empty_like(variants["mixed"])
            for part in (is_low, ~is_low):
                scaled[part] = (plain[part] - plain[part].mean(0)) / plain[part].std(0)
            variants["standardised"] = scaled
            hidden = is_low[answer]
            for kind, scores in variants.items():
                score = scored(scores.T, task)
                tables.setdefault(kind, []).append(float(score.mean()))
                tables.setdefault(f"{kind}, answer at lower", []).append(float(score[hidden].mean()))
                tables.setdefault(f"{kind}, answer at higher", []).append(float(score[~hidden].mean()))
    spread = [round(100 * bound, 2) for bound in (min(tables["mixed"]), max(tables["mixed"]))]
    means = {kind: round(100 * float(np.mean(found)), 2) for kind, found in tables.items()}
    return means | {"mixed, lowest and highest": spread}


def scored(scores: FloatArray, task: RetrievalSet) -> FloatArray:
    return ndcg(ranked(scores, task.document_ids), task)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sets", nargs="+", type=Path)
    parser.add_argument("--ratios", nargs="*", type=float, default=RATIOS)
    parser.add_argument("--most", type=int, help="take the first documents of a set, and their queries")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--cache", type=Path, default=Path("runs/search"))
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    found = json.loads(options.output.read_text()) if options.output.exists() else {}
    for folder in options.sets:
        task = load_set(folder)
        task = part_of(task, options.most or len(task.documents))
        found[task.name] = measure(task, options.model, options.cache, sorted(options.ratios))
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(found, indent=1, ensure_ascii=False) + "\n")
        print(task.name, json.dumps(found[task.name], indent=1), flush=True)


if __name__ == "__main__":
    main()
