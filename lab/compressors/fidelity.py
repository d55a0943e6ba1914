"""A ratio for each text, by the cosine it shall keep to its vector at ratio 1, against one ratio for all.

    python -m lab.compressors.fidelity mini data/train data/eval/retrieval/xquad_en --output results.json

For each text the fewest tokens that keep a cosine: ``known`` reads the cosine off the text's own curve, which
no embedder could know without computing it, ``predicted`` off a curve predicted from the embeddings before
the layers, ``length`` off one predicted from the length alone. Each against one ratio for all that spends the
same tokens on average. Curves are fitted on half of some training texts that no model here was trained on,
promises are mended on a quarter and checked on the last quarter.

Shape legend: N texts, L tokens of one text, R ratios, F features, D width.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from jaspertc import Embedder
from jaspertc.engine.embedder import Embedder as Engine
from jaspertc.files.json_lines import read_objects
from jaspertc.model.lengths import target_lengths
from jaspertc.reports.origin import machine, versions
from jaspertc.teaching.keys import place_of
from jaspertc.types import FloatArray, IntArray
from lab.compressors.windows import VALIDATION, pairs
from lab.search.sets import RetrievalSet, interval, load_set, ndcg, ranked

RATIOS = np.array([0.05, 0.1, 0.2, 0.33, 0.5, 0.8, 1.0])
STRATA = ((81, 128), (129, 256), (257, 512))
PROMISES = (0.9, 0.93, 0.95, 0.97)
FINE = np.linspace(0.05, 1, 96)
RIDGE = 1.0


@dataclass(frozen=True)
class Measured:
    """Texts, and what each ratio keeps of them.

    Attributes:
        ids: N rows of token ids.
        languages: of each text, shape (N,).
        cosines: to the vector at ratio 1, shape (N, R), never falling with the ratio.
        features: shape (N, F); the first is 1, the second and third are the length's.
    """

    ids: list[IntArray]
    languages: "np.ndarray"
    cosines: FloatArray
    features: FloatArray

    @property
    def lengths(self) -> IntArray:
        return np.array([len(row) for row in self.ids])

    def part(self, chosen: "np.ndarray") -> "Measured":
        ids = [row for row, here in zip(self.ids, chosen) if here]
        return Measured(ids, self.languages[chosen], self.cosines[chosen], self.features[chosen])


def measured(embedder: Engine, ids: list[IntArray], languages: list[str]) -> Measured:
    vectors = [embedder.encode_ids(ids, ratio=float(ratio)) for ratio in RATIOS]
    cosines = np.stack([np.sum(part * vectors[-1], axis=1) for part in vectors], axis=1)
    cosines = np.minimum.accumulate(cosines[:, ::-1], axis=1)[:, ::-1]
    return Measured(ids, np.array(languages), cosines, np.array([features(embedder, row) for row in ids]))


def features(embedder: Engine, ids: IntArray) -> FloatArray:
    """Of the folded embeddings of one text: length, norms, and how much windows of 2 ... 16 tokens lose."""
    rows = embedder.runtime.encoder._look_up(ids).each().float().numpy()
    norms = np.linalg.norm(rows, axis=1)
    units = rows / norms[:, None]
    total = float(np.var(rows, axis=0).sum())
    length = np.log(len(ids))
    above = np.log(max(1, len(ids) - embedder.default_threshold))
    lost = [1 - _between(rows, size) / total for size in (2, 4, 8, 16)]
    near = float(np.mean(np.sum(units[1:] * units[:-1], axis=1)))
    repeated = len(np.unique(ids)) / len(ids)
    spread = [total, float(norms.mean()), float(norms.std()), near, repeated]
    return np.array([1, length, above, *lost, *spread])


def _between(rows: FloatArray, size: int) -> float:
    """The variance of the means of windows of so many tokens."""
    whole = len(rows) // size * size
    return float(np.var(rows[:whole].reshape(-1, size, rows.shape[1]).mean(axis=1), axis=0).sum())


@dataclass(frozen=True)
class Predictor:
    """Curves of log(1 - cosine), linear in the features, one weight vector for each ratio below 1.

    Attributes:
        weights: shape (F, R - 1).
        centre, scale: of the features, shape (F,).
        asked, kept: a promise that was asked for, and what was kept on other texts, each rising.
    """

    weights: FloatArray
    centre: FloatArray
    scale: FloatArray
    asked: FloatArray
    kept: FloatArray

    def curves(self, features: FloatArray) -> FloatArray:
        """Cosines, shape (N, R)."""
        here = (features - self.centre) / self.scale
        found = 1 - np.exp(here[:, : len(self.weights)] @ self.weights)
        found = np.minimum.accumulate(np.c_[found, np.ones(len(found))][:, ::-1], axis=1)[:, ::-1]
        return found

    def ratios(self, features: FloatArray, promise: float) -> FloatArray:
        return fewest(self.curves(features), float(np.interp(promise, self.kept, self.asked)))


def fewest(curves: FloatArray, promise: float) -> FloatArray:
    """The lowest ratio of each text whose curve reaches the promise, shape (N,)."""
    fine = np.array([np.interp(FINE, RATIOS, curve) for curve in curves])
    return FINE[np.argmax(fine >= promise, axis=1)]


def at(curves: FloatArray, ratios: FloatArray) -> FloatArray:
    """The cosine of each text at a ratio of its own, shape (N,)."""
    return np.array([np.interp(ratio, RATIOS, curve) for ratio, curve in zip(ratios, curves)])


def fitted(fit: Measured, mend: Measured, count: int) -> Predictor:
    """A predictor that reads the first ``count`` features."""
    centre, scale = fit.features.mean(0), fit.features.std(0)
    centre[0], scale[0] = 0, 1
    x = ((fit.features - centre) / scale)[:, :count]
    y = np.log(np.maximum(1 - fit.cosines[:, :-1], 1e-4))
    penalty = RIDGE * np.eye(count)
    penalty[0, 0] = 0
    weights = np.linalg.solve(x.T @ x + penalty, x.T @ y)
    asked = np.linspace(0.8, 0.995, 40)
    plain = Predictor(weights, centre, scale, asked, asked)
    curves = plain.curves(mend.features)
    kept = np.array([_kept(mend, fewest(curves, float(promise))) for promise in asked])
    return Predictor(weights, centre, scale, asked, np.maximum.accumulate(kept))


def _kept(part: Measured, ratios: FloatArray) -> float:
    """The mean cosine of those that are compressed by no more than they must be."""
    free = (ratios > FINE[0]) if (ratios > FINE[0]).any() else np.ones(len(ratios), np.bool_)
    return float(at(part.cosines, ratios)[free].mean())


def uniform(lengths: IntArray, spent: float, threshold: int) -> float:
    """The ratio for all that spends as many tokens on average."""
    low, high = 1e-3, 1.0
    for _ in range(40):
        middle = (low + high) / 2
        more = target_lengths(lengths, ratio=middle, threshold=threshold).mean() > spent
        low, high = (low, middle) if more else (middle, high)
    return low


def training_texts(embedder: Engine, folder: Path, each: int) -> tuple[list[IntArray], list[str]]:
    """So many of each language and stratum, that hash into [0.6, 1)."""
    ids: list[IntArray] = []
    languages: list[str] = []
    for lang in ("en", "zh"):
        rows = [row for _, row in read_objects(folder / f"texts_{lang}.jsonl.gz")]
        least = 250 if lang == "en" else 100  # characters: shorter ones are never compressed
        rows = [row for row in rows if len(row["text"]) > least and place_of(row["id"]) >= 0.6]
        rows.sort(key=lambda row: place_of(f"fidelity {row['id']}"))
        found = embedder.tokenize([row["text"] for row in rows[:14_000]], prompt=embedder.prompts["document"])
        for low, high in STRATA:
            chosen = [row for row in found if low <= len(row) <= high][:each]
            ids, languages = ids + chosen, languages + [lang] * len(chosen)
    return ids, languages


def calibration(part: Measured, predictor: Predictor) -> list[dict[str, object]]:
    """What was promised and what is kept, by language and stratum, on texts that nothing was fitted on."""
    rows: list[dict[str, object]] = []
    for promise in PROMISES:
        ratios = predictor.ratios(part.features, promise)
        kept = at(part.cosines, ratios)
        for lang in ("en", "zh"):
            for low, high in STRATA:
                here = (part.languages == lang) & (part.lengths >= low) & (part.lengths <= high)
                rows.append(
                    {
                        "promised": promise,
                        "language": lang,
                        "tokens": f"{low}-{high}",
                        "texts": int(here.sum()),
                        "kept": round(float(kept[here].mean()), 4),
                        "at the lowest ratio": int((ratios[here] == FINE[0]).sum()),
                        "lowest tenth": round(float(np.quantile(kept[here], 0.1)), 4),
                        "mean ratio": round(float(ratios[here].mean()), 3),
                    }
                )
    return rows


def compared(
    part: Measured, rules: dict[str, FloatArray], threshold: int
) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """Cosines of each rule's ratios and of one ratio for all, and that ratio by rule."""
    table, same = {}, {}
    for name, ratios in rules.items():
        spent = float(target_lengths(part.lengths, ratio=ratios, threshold=threshold).mean())
        same[name] = uniform(part.lengths, spent, threshold)
        kept, plain = at(part.cosines, ratios), at(part.cosines, np.full(len(ratios), same[name]))
        figures = {"tokens": spent, "ratio for all": same[name], "mean": kept.mean(), "for all": plain.mean()}
        tenth = {"lowest tenth": np.quantile(kept, 0.1), "for all, lowest tenth": np.quantile(plain, 0.1)}
        table[name] = {key: round(float(value), 4) for key, value in (figures | tenth).items()}
    return table, same


def retrieval(
    embedder: Engine, task: RetrievalSet, predictors: dict[str, Predictor], promises: tuple[float, ...]
) -> list[dict[str, object]]:
    """nDCG@10 and cosines on one set, by promise and rule."""
    queries = embedder.encode_query(task.queries, ratio=1.0)
    ids = embedder.tokenize(task.documents, prompt=embedder.prompts["document"])
    part = measured(embedder, ids, [""] * len(ids))

    def gains(ratio: FloatArray | float) -> FloatArray:
        scores = queries @ embedder.encode_ids(ids, ratio=ratio).T
        return ndcg(ranked(scores, task.document_ids), task)

    rows: list[dict[str, object]] = []
    for promise in promises:
        predicted = predictors["predicted"].ratios(part.features, promise)
        rules = {"known": fewest(part.cosines, promise), "predicted": predicted}
        table, same = compared(part, rules, embedder.default_threshold)
        for name, ratios in rules.items():
            own, plain = gains(ratios), gains(same[name])
            row = {
                "set": task.name,
                "promised": promise,
                "rule": name,
                **table[name],
                "ndcg@10": round(100 * float(own.mean()), 2),
                "for all, ndcg@10": round(100 * float(plain.mean()), 2),
                "difference, 95 %": interval(own - plain),
            }
            print(row, flush=True)
            rows.append(row)
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data", type=Path)
    parser.add_argument("sets", nargs="*", type=Path)
    parser.add_argument("--each", type=int, default=160, help="texts of a language and stratum")
    parser.add_argument("--promises", default="0.93,0.97", help="for the sets")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    embedder = Embedder.load(options.model)
    threshold = embedder.default_threshold
    texts = measured(embedder, *training_texts(embedder, options.data, options.each))
    place = np.arange(len(texts.ids)) % 4
    fit, mend, check = (texts.part(part) for part in (place < 2, place == 2, place == 3))
    predictors = {"length": fitted(fit, mend, 3), "predicted": fitted(fit, mend, texts.features.shape[1])}
    facts: dict[str, object] = {"model": embedder.fingerprint, "runtime": repr(embedder)}
    facts |= {"processor": machine(), "versions": versions("jaspertc", "numpy", "torch", "openvino")}
    goal = np.log(np.maximum(1 - check.cosines[:, :-1], 1e-4))
    for name, predictor in predictors.items():
        missed = np.log(np.maximum(1 - predictor.curves(check.features)[:, :-1], 1e-4)) - goal
        explained = 1 - missed.var(0) / goal.var(0)
        facts[f"explained by {name}"] = dict(zip(map(str, RATIOS), explained.round(3).tolist()))
        print(name, facts[f"explained by {name}"], flush=True)
    facts["calibration"] = calibration(check, predictors["predicted"])
    facts["training texts"] = {}
    for promise in PROMISES:
        rules = {"known": fewest(check.cosines, promise)} | {
            name: predictor.ratios(check.features, promise) for name, predictor in predictors.items()
        }
        facts["training texts"][str(promise)] = compared(check, rules, threshold)[0]
        print(promise, facts["training texts"][str(promise)], flush=True)
    tasks = [load_set(folder) for folder in options.sets]
    tasks.append(pairs(embedder, options.data / "pairs_zh.jsonl.gz", VALIDATION["pairs_zh"], 300))
    promises = tuple(float(part) for part in options.promises.split(","))
    facts["sets"] = [row for task in tasks for row in retrieval(embedder, task, predictors, promises)]
    if options.output:
        options.output.write_text(json.dumps(facts, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
