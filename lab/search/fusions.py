"""Ways to make one ranking of two: which one, and how much shared terms count, chosen on training pairs.

    python -m lab.search.fusions DATA/train --cache CACHE --output docs/reports/search/fusions.json
    python -m lab.search.fusions --sets DATA/xquad_en ... --cache CACHE --output ...  # a look, no choice

A corpus a language: up to 250 pairs of each source in which a question, title, heading or sentence finds its
paragraph; 150 of them are asked. A set's score is nDCG@10 x 100, that of a language's pairs the mean over its
sources. Each query's two rankings are computed once, so that a rule costs little. ``loss`` is how much a rule
is below the better of vectors and terms alone, on the set where that is most.

Shape legend: C candidates of one query.
"""

import argparse
import json
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jaspertc.files.json_lines import read_objects
from jaspertc.search.blocks import read_vectors
from jaspertc.search.finding import LEAST_DEPTH
from jaspertc.search.fusion import _spread
from jaspertc.search.index import SearchIndex
from jaspertc.search.ranking import TermCounts, by_terms, by_vector, cosines
from lab.search.indexes import CachedModel, build
from lab.search.sets import FloatArray, RetrievalSet, load_set, ndcg, vectors

SOURCES = {
    "en": ("title-lead", "ict", "medquad", "task-to-command", "term-definition", "heading", "trec-qa"),
    "zh": ("title-lead", "ict", "dialogue", "drcd-qa", "title-body", "heading", "cmrc"),
}
PAIRS, ASKED = 250, 150  # of each source
RATIOS = (0.1, 0.33, 1.0)
WEIGHTS = (0.0, 1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0, 16.0)
RANK_CONSTANTS = (10, 60)


@dataclass(frozen=True)
class Candidates:
    """What either ranking found for one query, in the order of their numbers.

    Attributes:
        ids: of documents.
        cosines: shape (C,).
        shares: of the query's terms, shape (C,); 0 for what only the vectors found.
        spread: what the index takes for the standard deviation of cosines.
    """

    ids: list[str]
    cosines: FloatArray
    shares: FloatArray
    spread: float

    def best(self, scores: FloatArray) -> list[str]:
        return [self.ids[place] for place in np.argsort(-scores, kind="stable")[:10]]


Rule = Callable[[Candidates], FloatArray]


def by_ranks(constant: int) -> Rule:
    """Reciprocal rank fusion; a ranking says nothing of what is not in it."""

    def rule(found: Candidates) -> FloatArray:
        total = np.zeros(len(found.ids))
        for scores in (found.cosines, found.shares):
            ranks = np.argsort(np.argsort(-scores, kind="stable"), kind="stable") + 1
            total += np.where((scores > 0) & (ranks <= LEAST_DEPTH), 1 / (constant + ranks), 0)
        return total

    return rule


RULES: dict[str, Rule] = {
    "vector": lambda found: found.cosines,
    "text": lambda found: found.shares,
    **{f"ranks, {constant}": by_ranks(constant) for constant in RANK_CONSTANTS},
    **{
        f"bonus of {weight:g} deviations": lambda found, weight=weight: (
            found.cosines + weight * found.spread * found.shares
        )
        for weight in WEIGHTS[1:]
    },
}


def training_pairs(folder: Path, lang: str) -> RetrievalSet:
    """One corpus of all sources; a query's id begins with its source."""
    by_source: dict[str, list[dict[str, str]]] = defaultdict(list)
    for _, row in read_objects(folder / f"pairs_{lang}.jsonl.gz"):
        if any(kind in row["source"] for kind in SOURCES[lang]):
            by_source[row["source"]].append(row)
    dice = np.random.default_rng(0)
    documents: dict[str, str] = {}
    asked: dict[str, tuple[str, str]] = {}
    for source, rows in sorted(by_source.items()):
        for number, place in enumerate(dice.permutation(len(rows))[:PAIRS].tolist()):
            row = rows[place]
            name = documents.setdefault(row["positive"], row["id"])
            if number < ASKED:
                asked[f"{source} {row['id']}"] = row["query"], name
    return RetrievalSet(
        f"pairs_{lang}",
        list(documents.values()),
        list(documents),
        list(asked),
        [query for query, _ in asked.values()],
        {query: {name: 1.0} for query, (_, name) in asked.items()},
    )


def candidates(index: SearchIndex, task: RetrievalSet, queries: FloatArray) -> Iterator[Candidates]:
    """As a hybrid search sees them, before it makes one ranking of them."""
    counts, layout = TermCounts(), index.info.layout
    with index.connections.reading() as connection:
        ids = dict(connection.execute("SELECT number, id FROM documents"))
        for text, vector in zip(task.queries, queries):
            near = by_vector(connection, layout, vector, LEAST_DEPTH, None)
            shared = by_terms(connection, text, LEAST_DEPTH, None, counts)
            numbers = np.union1d(near.numbers, shared.numbers)
            shares = dict(zip(shared.numbers.tolist(), shared.scores.tolist()))
            yield Candidates(
                [ids[number] for number in numbers.tolist()],
                cosines(read_vectors(connection, layout, numbers), vector),
                np.array([shares.get(number, 0.0) for number in numbers.tolist()], dtype=np.float32),
                _spread(near.spread, len(ids)),
            )


def scores(task: RetrievalSet, queries: FloatArray, index: SearchIndex) -> dict[str, dict[str, float]]:
    """By rule and source (or set): nDCG@10 x 100."""
    found = list(candidates(index, task, queries))
    sources = np.array([query.split()[0] if " " in query else task.name for query in task.query_ids])
    table: dict[str, dict[str, float]] = {}
    for name, rule in RULES.items():
        each = 100 * ndcg([one.best(rule(one)) for one in found], task)
        table[name] = {
            source: float(each[sources == source].mean()) for source in np.unique(sources).tolist()
        }
    return table


def summary(tables: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """Means of all sources or sets, and the most that a rule loses on one, over all tables."""
    rows: dict[str, dict[str, float]] = {}
    for name in RULES:
        values = [value for table in tables for value in table[name].values()]
        better = [
            max(table["vector"][source], table["text"][source]) for table in tables for source in table[name]
        ]
        loss = max(best - value for best, value in zip(better, values))
        rows[name] = {"mean": round(float(np.mean(values)), 2), "loss": round(loss, 2)}
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("train", nargs="?", type=Path, help="folder of pairs_en and pairs_zh")
    parser.add_argument("--sets", nargs="*", type=Path, default=[])
    parser.add_argument("--ratios", nargs="*", type=float, default=RATIOS)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--cache", type=Path, default=Path("runs/search"))
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    embedder = CachedModel(options.model, options.cache)
    tasks = [training_pairs(options.train, lang) for lang in SOURCES] if options.train else []
    tasks += map(load_set, options.sets)
    results: dict[str, Any] = {}
    for ratio in options.ratios:
        tables = []
        for task in tasks:
            queries = vectors(options.model, task.queries, "query", 1.0, options.cache)
            with build(task, options.cache / f"fusions-{task.name}.db", embedder, ratio=ratio) as index:
                tables.append(scores(task, queries, index))
        results[f"{ratio:g}"] = {"rules": summary(tables), "sources": merged(tables)}
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(results, indent=1, ensure_ascii=False) + "\n")
        print(f"{ratio:g}", json.dumps(results[f"{ratio:g}"]["rules"], indent=1), flush=True)


def merged(tables: list[dict[str, dict[str, float]]]) -> dict[str, dict[str, float]]:
    """By rule: each source's or set's score."""
    return {
        name: {source: round(value, 2) for table in tables for source, value in table[name].items()}
        for name in RULES
    }


if __name__ == "__main__":
    main()
