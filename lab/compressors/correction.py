"""Can a linear map put back what a low ratio loses, from what costs nothing?

    python -m lab.compressors.correction mini data/train data/eval/retrieval/xquad_en --output r.json

Fitted by ridge regression on documents of the training pairs: from a document's vector at the ratio to what
its vector at ratio 1 has more. Once from that vector alone, once also from two means over its tokens before
compression, which the layers never see: of all, and weighted by rarity. Judged by retrieval: validation pairs
of lab/compressors/windows.py and sets that nothing is chosen by. Queries at ratio 1; documents cut at 512
tokens.

Shape legend: N documents, E width of the vectors, F features.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from jaspertc import Embedder
from jaspertc.engine.embedder import Embedder as Engine
from jaspertc.engine.precision import normalized
from jaspertc.reports.origin import machine, versions
from jaspertc.types import FloatArray, IntArray
from lab.compressors.arms.train import long_answers
from lab.compressors.windows import MOST, VALIDATION, pairs
from lab.search.sets import interval, load_set, ndcg, ranked

RATIOS = (0.33, 0.1)
RIDGES = (1.0, 10.0)
RARE = 1e-3  # a token weighs RARE / (RARE + its share of training tokens)
SHARE = 0.05  # scale of the means beside unit vectors


class Means:
    """Two means of each document's tokens, before compression, standardised: (N, 2 D)."""

    def __init__(self, embedder: Engine, rows: list[IntArray]) -> None:
        self._encoder = embedder.runtime.encoder
        self._encoder.fold()
        counts = np.bincount(np.concatenate(rows), minlength=embedder.config.backbone.vocab_size)
        self._weights = RARE / (RARE + counts / counts.sum())
        raw = self._raw(rows)
        self._middle, self._scale = raw.mean(0), raw.std(0) + 1e-6

    def __call__(self, rows: list[IntArray]) -> FloatArray:
        return SHARE * (self._raw(rows) - self._middle) / self._scale

    def _raw(self, rows: list[IntArray]) -> FloatArray:
        found = []
        for ids in rows:
            tokens, weights = self._encoder.rows(ids), self._weights[ids]
            found.append(np.concatenate([tokens.mean(0), weights @ tokens / weights.sum()]))
        return np.array(found)


def with_one(features: FloatArray) -> FloatArray:
    return np.concatenate([features, np.ones((len(features), 1))], axis=1)


def ridge(features: FloatArray, wanted: FloatArray, penalty: float) -> FloatArray:
    """(N, F), (N, E) -> (F + 1, E), the last row a constant."""
    x = with_one(features)
    return np.linalg.solve(x.T @ x + penalty * np.eye(x.shape[1]), x.T @ wanted)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data", type=Path)
    parser.add_argument("sets", nargs="*", type=Path)
    parser.add_argument("--each", type=int, default=2000, help="training documents of a language")
    parser.add_argument("--most", type=int, default=600, help="validation pairs of a file")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    embedder = Embedder.load(options.model, runtime="openvino")
    prompt = embedder.prompts["document"]
    texts = list(long_answers(embedder, options.data, options.each))
    rows = embedder.tokenize(texts, prompt=prompt, max_length=MOST)
    means = Means(embedder, rows)
    vectors = {ratio: embedder.encode_ids(rows, ratio=ratio) for ratio in (1.0, *RATIOS)}
    tasks = [
        pairs(embedder, options.data / f"{name}.jsonl.gz", sources, options.most)
        for name, sources in VALIDATION.items()
    ]
    tasks += [load_set(folder) for folder in options.sets]
    found: list[dict[str, object]] = []
    for task in tasks:
        documents = embedder.tokenize(task.documents, prompt=prompt, max_length=MOST)
        asked = embedder.encode_query(task.queries, ratio=1.0)
        tokens = means(documents)
        for ratio in RATIOS:
            plain = embedder.encode_ids(documents, ratio=ratio)
            before = ndcg(ranked(asked @ plain.T, task.document_ids), task)
            row: dict[str, object] = {"set": task.name, "ratio": ratio, "ndcg@10": percent(before)}
            for name, train, here in (
                ("vector", vectors[ratio], plain),
                ("vector and means", np.hstack([vectors[ratio], means(rows)]), np.hstack([plain, tokens])),
            ):
                for penalty in RIDGES:
                    matrix = ridge(train, vectors[1.0] - vectors[ratio], penalty)
                    corrected = normalized(plain + with_one(here) @ matrix)
                    gains = ndcg(ranked(asked @ corrected.T, task.document_ids), task)
                    row[f"{name}, {penalty:g}"] = [percent(gains), interval(gains - before)]
            found.append(row)
            print(json.dumps(row, ensure_ascii=False), flush=True)
    if options.output:
        facts = {"processor": machine(), "versions": versions("jaspertc", "numpy", "openvino")}
        text = json.dumps({**facts, "documents": len(rows), "rows": found}, indent=1, ensure_ascii=False)
        options.output.write_text(text + "\n", encoding="utf-8")


def percent(gains: FloatArray) -> float:
    return round(100 * float(gains.mean()), 2)


if __name__ == "__main__":
    main()
