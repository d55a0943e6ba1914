"""Windows whose borders depend on the text: rare tokens share a window with fewer others.

    python -m lab.compressors.content mini data/train --output results.json

Nothing is trained: as lab/compressors/windows.py, documents at each ratio, queries at 1. Exponent and limit
of each rule are scanned on pairs of training files that no model here was trained on; ``--sets`` scores
folders of ``corpus``, ``queries`` and ``qrels`` in their place, ``--chosen`` some rules in place of the scan.

Shape legend: V vocabulary, T tokens, L tokens of one text, C compressed tokens of one text, D width.
"""

import argparse
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from heapq import heapify, heappop, heappush
from pathlib import Path

import numpy as np

from jaspertc import Embedder
from jaspertc.engine.embedder import Embedder as Engine
from jaspertc.files.json_lines import read_objects
from jaspertc.model.compressors import COMPRESSORS
from jaspertc.model.compressors.disjoint import DisjointAverage
from jaspertc.model.compressors.windows import Windows
from jaspertc.reports.origin import machine, versions
from jaspertc.teaching.keys import place_of
from jaspertc.text.packing import PackedBatch
from jaspertc.types import FloatArray, IntArray
from lab.compressors.windows import VALIDATION, Asked, pairs, with_windows
from lab.search.sets import RetrievalSet, interval, load_set

COMMON = 1e-3  # a share of all tokens: commoner ones lose mass
_SENTENCE_END = re.compile(r"[.!?。！？；;]$")


@dataclass(frozen=True)
class Tokens:
    """What is known of each token of the vocabulary.

    Attributes:
        shares: of all tokens of training texts, shape (V,).
        ends: whether it ends a sentence, shape (V,).
        table: the folded embeddings, shape (V, D).
    """

    shares: FloatArray
    ends: "np.ndarray"
    table: FloatArray

    def masses(self, ids: IntArray, exponent: float) -> FloatArray:
        """Shape (L,), near 1 for rare tokens and lower for common ones."""
        return (COMMON / (self.shares[ids] + COMMON)) ** exponent


Rule = Callable[[Tokens, IntArray, int], IntArray]  # ids (L,), C -> the first token of each window, (C,)


def even(length: int, target: int) -> IntArray:
    return np.arange(target) * length // target


def longest(length: int, target: int, limit: float) -> int:
    """Tokens of a window at most: ``limit`` times the mean, rounded up."""
    return int(np.ceil(limit * length / target))


def equal_mass(tokens: Tokens, ids: IntArray, target: int, *, exponent: float, limit: float) -> IntArray:
    """Windows of equal mass, mixed with equal lengths until none is longer than the limit."""
    length = len(ids)
    reached = np.append(0, np.cumsum(tokens.masses(ids, exponent)))
    places = np.arange(target) / target
    by_mass = np.interp(places * reached[-1], reached, np.arange(length + 1))
    for share in (1.0, 0.75, 0.5, 0.25):
        starts = np.round(share * by_mass + (1 - share) * places * length).astype(np.int64)
        starts = np.maximum.accumulate(starts - np.arange(target)) + np.arange(target)  # none empty
        starts = np.minimum(starts, length - target + np.arange(target))
        if np.diff(np.append(starts, length)).max() <= longest(length, target, limit):
            return starts
    return even(length, target)


def merges(tokens: Tokens, ids: IntArray, target: int, *, exponent: float, limit: float) -> IntArray:
    """The neighbours of least joint mass are merged, again and again, up to the limit of length."""
    return merged(tokens.masses(ids, exponent)[:, None], target, limit, lambda a, b, n, m: float((a + b)[0]))


def ward(tokens: Tokens, ids: IntArray, target: int, *, exponent: float, limit: float) -> IntArray:
    """The neighbours are merged whose means lose least: n m / (n + m) |a / n - b / m|^2 of sums a, b."""
    rows = tokens.table[ids] * tokens.masses(ids, exponent)[:, None] ** 0.5

    def lost(a: FloatArray, b: FloatArray, n: int, m: int) -> float:
        apart = a / n - b / m
        return n * m / (n + m) * float(apart @ apart)

    return merged(rows, target, limit, lost)


def merged(sums: FloatArray, target: int, limit: float, cost: Callable[..., float]) -> IntArray:
    """Runs of neighbours, merged where the cost is least; shape (C,).

    Args:
        sums: of each token, shape (L, n); of a run their sum is told to ``cost``.
        cost: of two neighbours' sums and lengths.
    """
    length, most = len(sums), longest(len(sums), target, limit)
    total = list(sums)
    size, after, before = [1] * length, list(range(1, length + 1)), list(range(-1, length - 1))
    version = [0] * length
    heap = [(cost(total[i], total[i + 1], 1, 1), i, 0, 0) for i in range(length - 1)]
    heapify(heap)
    left, alive = length, [True] * length

    def push(i: int) -> None:
        j = after[i]
        if i >= 0 and j < length and size[i] + size[j] <= most:
            heappush(heap, (cost(total[i], total[j], size[i], size[j]), i, version[i], version[j]))

    while left > target and heap:
        _, i, of_i, of_j = heappop(heap)
        j = after[i] if alive[i] else length
        if j >= length or version[i] != of_i or version[j] != of_j or size[i] + size[j] > most:
            continue
        total[i], size[i], after[i], alive[j] = total[i] + total[j], size[i] + size[j], after[j], False
        version[i] += 1
        left -= 1
        if after[i] < length:
            before[after[i]] = i
        push(i)
        if before[i] >= 0:
            push(before[i])
    if left > target:  # full runs stand in each other's way
        return even(length, target)
    return np.flatnonzero(alive)


def snapped(tokens: Tokens, ids: IntArray, target: int, *, exponent: float, limit: float) -> IntArray:
    """Equal lengths, each border moved to a sentence's end that is near: up to ``limit`` - 1 windows away."""
    length = len(ids)
    starts = even(length, target)
    reach = (limit - 1) * length / target
    ends = np.flatnonzero(tokens.ends[ids]) + 1
    for number in range(1, target):
        near = ends[np.abs(ends - starts[number]) <= reach]
        if len(near):
            starts[number] = near[np.argmin(np.abs(near - starts[number]))]
    starts = np.maximum.accumulate(starts - np.arange(target)) + np.arange(target)
    return np.minimum(starts, length - target + np.arange(target))


SCAN = (
    *(("equal mass", exponent, limit) for exponent, limit in ((0.25, 2), (0.25, 9), (0.5, 2))),
    *(("least mass merged", exponent, limit) for exponent, limit in ((0.25, 2), (1, 1.5), (1, 2), (1, 9))),
    *(("ward", exponent, limit) for exponent, limit in ((0, 2), (1, 2))),
    *(("sentence ends", 0, limit) for limit in (1.25, 1.5)),
)
RULES = {"equal mass": equal_mass, "least mass merged": merges, "ward": ward, "sentence ends": snapped}


class ByContent(DisjointAverage):
    """Means of the windows that ``rule`` finds."""

    rule: Rule
    tokens: Tokens

    def windows(self, batch: PackedBatch, targets: IntArray) -> Windows:
        starts = []
        for begin, end, target in zip(batch.offsets[:-1], batch.offsets[1:], targets.tolist()):
            ids = batch.ids[begin:end]
            found = np.arange(len(ids)) if target == len(ids) else type(self).rule(self.tokens, ids, target)
            assert len(found) == target
            assert (np.diff(found) > 0).all()
            starts.append(begin + found)
        return Windows(gather=np.arange(len(batch.ids)), starts=np.concatenate(starts), lengths=targets)


def known(embedder: Engine, folder: Path, texts: int = 20_000) -> Tokens:
    """Counted in training texts, both languages alike."""
    vocabulary = embedder.config.backbone.vocab_size
    counts = np.zeros(vocabulary)
    for lang in ("en", "zh"):
        rows = (row for _, row in read_objects(folder / f"texts_{lang}.jsonl.gz"))
        chosen = [row["text"] for row in rows if place_of(row["id"]) < 0.1][: texts // 2]
        ids = np.concatenate(embedder.tokenize(chosen))
        counts += np.bincount(ids, minlength=vocabulary) / len(ids) / 2
    encoder = embedder.runtime.encoder
    pieces = embedder.checkpoint.tokenizer.pieces(range(vocabulary))
    ends = np.array([bool(_SENTENCE_END.search(piece)) for piece in pieces])
    table = encoder._look_up(np.arange(vocabulary)).each().float().numpy()
    return Tokens(counts, ends, table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data", type=Path)
    parser.add_argument("--sets", nargs="*", type=Path, default=[])
    parser.add_argument("--chosen", nargs="*", default=[], help="rule:exponent:limit; all of a scan if none")
    parser.add_argument("--ratios", default="0.33,0.1")
    parser.add_argument("--most", type=int, default=400, help="pairs of a file")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    embedder = with_windows(Embedder.load(options.model), "disjoint-average")
    tokens = known(embedder, options.data)
    tasks = [load_set(folder) for folder in options.sets] or [
        pairs(embedder, options.data / f"{name}.jsonl.gz", sources, options.most)
        for name, sources in VALIDATION.items()
    ]
    arms = [tuple(text.split(":")) for text in options.chosen] or SCAN
    ratios = [float(ratio) for ratio in options.ratios.split(",")]
    rows = []
    for task in tasks:
        asked = Asked(task, embedder.encode_query(task.queries, ratio=1.0))
        with_windows(embedder, "disjoint-average")
        control = {ratio: asked.gains(embedder, ratio) for ratio in ratios}
        rows.append(row_of(task, "disjoint", control, control))
        with_windows(embedder, "fractional-average")
        rows.append(row_of(task, "fractional", {r: asked.gains(embedder, r) for r in ratios}, control))
        for name, exponent, limit in arms:
            rule = partial(RULES[name], exponent=float(exponent), limit=float(limit))
            COMPRESSORS["by-content"] = type("Arm", (ByContent,), {"rule": rule, "tokens": tokens})
            with_windows(embedder, "by-content")
            found = {ratio: asked.gains(embedder, ratio) for ratio in ratios}
            rows.append(row_of(task, f"{name}, exponent {exponent}, limit {limit}", found, control))
    if options.output:
        facts = {"model": embedder.fingerprint, "runtime": repr(embedder), "processor": machine()}
        facts["versions"] = versions("jaspertc", "numpy", "torch", "openvino")
        options.output.write_text(json.dumps(facts | {"rows": rows}, indent=1, ensure_ascii=False) + "\n")


def row_of(
    task: RetrievalSet, name: str, found: dict[float, FloatArray], control: dict[float, FloatArray]
) -> dict[str, object]:
    scores = {f"{ratio:g}": round(100 * float(gains.mean()), 2) for ratio, gains in found.items()}
    against = {f"{ratio:g}": interval(gains - control[ratio]) for ratio, gains in found.items()}
    print(task.name, name, scores, against, flush=True)
    return {"set": task.name, "windows": name, "ndcg@10": scores, "against disjoint, 95 %": against}


if __name__ == "__main__":
    main()
