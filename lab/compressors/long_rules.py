"""How a long text's compressed tokens are shared among its pieces, and the pieces weighted: rules compared.

    python -m lab.compressors.long_rules mini data/train --cache CACHE --output results.json

Sets are made of training texts only. Each piece is computed once at each of a few numbers of compressed
tokens; a rule's vectors are interpolated between them (in the logarithm of the number), so that many rules
cost no more than one. What wins here is measured once by lab/compressors/long_texts.py on other sets.

Shape legend: P pieces of one text, E width of the vectors, S numbers of tokens that were computed.
"""

import argparse
import json
import re
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np

from jaspertc import Embedder
from jaspertc.engine.embedder import Embedder as Engine
from jaspertc.files.json_lines import read_objects
from jaspertc.model.lengths import target_lengths
from jaspertc.reports.origin import machine, versions
from jaspertc.text.packing import offsets_of
from jaspertc.types import FloatArray, IntArray

STEPS = (8, 16, 32, 64, 128, 512)
INSIDE = 4  # sentences taken out of each text
SPECIAL = 2  # tokens that each piece has beside text and lead
RATIOS = (1.0, 0.33, 0.1)
# Where paragraphs stand in the order of their documents, so that a run of them is a long text.
RUNS = {
    "en": ("debian/linux-doc-6.1", "debian/python3.11-doc", "debian/git-doc", "d2l-en", "medquad-answers"),
    "zh": ("lctt-linux-zh", "javaguide-zh", "oi-wiki-zh", "pingcap-docs-zh", "d2l-zh"),
}
_SENTENCES = re.compile(r"[^.!?。！？\n]*(?:[.!?]+(?=\s)|[。！？]+|\n|$)")


def sentences(text: str) -> list[str]:
    return [part for part in _SENTENCES.findall(text) if part.strip()]


@dataclass(frozen=True)
class Source:
    """Long texts of one kind, and what is to find them, cut out of them.

    Attributes:
        queries: by kind of query, pairs of a query and the number of its document.
    """

    documents: list[str]
    queries: dict[str, list[tuple[str, int]]]


def taken(texts: list[str], kind: str, random: np.random.Generator, titled: bool) -> Source:
    """Queries cut out of texts: the first line or sentence, and sentences from anywhere behind it."""
    found = Source([], {f"{kind}: start": [], f"{kind}: inside": []})
    for number, text in enumerate(texts):
        title, body = text.partition("\n")[::2] if titled else ("", text)
        parts = sentences(body)
        starts = [title, parts[0]] if titled else ["".join(parts[:2])]
        places = np.sort(random.choice(np.arange(3, len(parts)), INSIDE, replace=False)).tolist()
        found.queries[f"{kind}: start"] += [(start.strip(), number) for start in starts]
        found.queries[f"{kind}: inside"] += [(parts[place].strip(), number) for place in places]
        out = {*places, *range(1 if titled else 2)}
        found.documents.append("".join(part for place, part in enumerate(parts) if place not in out))
    return found


def articles(folder: Path, lang: str, most: int, random: np.random.Generator) -> Source:
    """Encyclopedia articles of about 1,400 tokens."""
    texts = [row["text"] for _, row in read_objects(folder / "long_texts.jsonl.gz") if row["lang"] == lang]
    places = random.permutation(len(texts))[:most].tolist()
    return taken([texts[place] for place in places], f"articles {lang}", random, titled=True)


def runs(folder: Path, lang: str, most: int, random: np.random.Generator) -> Source:
    """Runs of neighbouring paragraphs of documentation, 1,500 to 10,000 tokens."""
    least, longest = (2_500, 16_000) if lang == "zh" else (6_000, 40_000)
    by_source: dict[str, list[str]] = {source: [] for source in RUNS[lang]}
    for _, row in read_objects(folder / f"texts_{lang}.jsonl.gz"):
        if row["source"] in by_source:
            by_source[row["source"]].append(row["text"])
    found: list[str] = []
    for paragraphs in by_source.values():
        kept: list[str] = []
        goal = 0.0
        for paragraph in paragraphs:
            goal = goal or float(np.exp(random.uniform(np.log(least), np.log(longest))))
            kept.append(paragraph)
            if sum(map(len, kept)) >= goal:
                found.append("\n\n".join(kept))
                kept, goal = [], 0.0
    places = random.permutation(len(found))[:most].tolist()
    return taken([found[place] for place in places], f"documentation {lang}", random, titled=False)


@dataclass(frozen=True)
class Computed:
    """Queries of one language, and the pieces of its documents, each at several numbers of tokens.

    Attributes:
        queries: unit vectors, shape (Q, E).
        answers: the document of each query, shape (Q,).
        kinds: what kind of query each is, shape (Q,).
        vectors: of each piece before normalisation, shape (S, pieces, E).
        tokens: of each piece, lead included, shape (pieces,).
        starts: each document's first piece, and the end, shape (D + 1,).
        whole: tokens of each document, shape (D,).
    """

    queries: FloatArray
    answers: IntArray
    kinds: "np.ndarray"
    vectors: FloatArray
    tokens: IntArray
    starts: IntArray
    whole: IntArray


def computed(embedder: Engine, sources: list[Source], *, lead: bool) -> Computed:
    """Documents of all sources are one corpus."""
    cut = embedder.checkpoint.tokenizer.cut
    documents = [text for source in sources for text in source.documents]
    rows: list[IntArray] = []
    counts, whole = [], []
    for text, ids in zip(documents, embedder.tokenize(documents)):
        parts = [ids] if len(ids) <= embedder.piece_length else cut(text, room=embedder.piece_length)[0]
        if not lead and len(parts) > 1:
            repeated = (sum(map(len, parts)) - len(ids)) // (len(parts) - 1) - SPECIAL
            parts = [parts[0], *(np.concatenate([part[:1], part[1 + repeated :]]) for part in parts[1:])]
        rows += parts
        counts.append(len(parts))
        whole.append(len(ids))
    begins = offsets_of(np.array([len(source.documents) for source in sources]))
    queries = [
        (text, begin + number, kind)
        for begin, source in zip(begins.tolist(), sources)
        for kind, pairs in source.queries.items()
        for text, number in pairs
    ]
    at_steps = [embedder.encode_ids(rows, ratio=1.0, max_compressed=n, normalize=False) for n in STEPS]
    return Computed(
        queries=embedder.encode_query([text for text, _, _ in queries], ratio=1.0),
        answers=np.array([number for _, number, _ in queries]),
        kinds=np.array([kind for _, _, kind in queries]),
        vectors=np.stack(at_steps),
        tokens=np.array([len(row) for row in rows]),
        starts=offsets_of(np.array(counts)),
        whole=np.array(whole),
    )


def cached(path: Path, make: Callable[[], Computed]) -> Computed:
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        np.savez(path, **vars(make()))
    return Computed(**np.load(path))


@dataclass(frozen=True)
class Rule:
    """What a text's pieces get and count.

    Attributes:
        weight: the k-th piece's tokens count k ** -weight.
        share: its share of the compressed tokens is its tokens times k ** -share.
        least: tokens that a piece gets; where there are too few, later pieces are not read at all.
        lead: whether later pieces begin with the text's first line.
        read: the weights are times (compressed tokens / tokens) ** read.
    """

    weight: float = 0.5
    share: float = 0.0
    least: int = 1
    lead: bool = True
    read: float = 0.0

    def __str__(self) -> str:
        return (
            f"weight k^-{self.weight:g}, share k^-{self.share:g}, at least {self.least}"
            f"{'' if self.lead else ', no lead'}{f', read^{self.read:g}' if self.read else ''}"
        )

    def shares(self, tokens: IntArray, target: int) -> FloatArray:
        """Compressed tokens of each piece, shape (P,): shares up to a piece's own length, floors first."""
        if target >= tokens.sum():
            return tokens.astype(np.float64)
        floors = np.minimum(tokens, self.least)
        read = max(1, int(np.searchsorted(np.cumsum(floors), target, side="right")))
        want = tokens[:read] * np.arange(1, read + 1) ** -self.share
        low, high = 0.0, float(np.max(tokens[:read] / want)) + 1
        for _ in range(50):
            scale = (low + high) / 2
            filled = np.clip(want * scale, floors[:read], tokens[:read]).sum()
            low, high = (scale, high) if filled < target else (low, scale)
        result = np.zeros(len(tokens))
        result[:read] = np.clip(want * low, np.minimum(floors[:read], target), tokens[:read])
        return result

    def document(self, vectors: FloatArray, tokens: IntArray, target: int) -> FloatArray:
        """The vector of one text, shape (E,), from those of its pieces, shape (S, P, E)."""
        shares = self.shares(tokens, target)
        place = np.clip(
            np.interp(np.log(np.maximum(1, shares)), np.log(STEPS), np.arange(len(STEPS))), 0, None
        )
        below = np.minimum(place.astype(int), len(STEPS) - 2)
        part, each = (place - below)[:, None], np.arange(len(tokens))
        found = (1 - part) * vectors[below, each] + part * vectors[below + 1, each]
        weights = tokens * np.arange(1, len(tokens) + 1) ** -self.weight * (shares > 0)
        weights = weights * (shares / tokens) ** self.read if self.read else weights
        summed = weights @ found
        return summed / np.linalg.norm(summed)


def scored(data: Computed, rule: Rule, ratio: float, threshold: int) -> dict[str, float]:
    """nDCG@10 by kind of query; each has one answer."""
    targets = target_lengths(data.whole, ratio=ratio, threshold=threshold) if ratio < 1 else data.whole * 2
    vectors = [
        rule.document(data.vectors[:, begin:end], data.tokens[begin:end], int(target))
        for begin, end, target in zip(data.starts[:-1], data.starts[1:], targets)
    ]
    scores = data.queries @ np.array(vectors, dtype=np.float32).T
    ranks = (scores > np.take_along_axis(scores, data.answers[:, None], axis=1)).sum(axis=1)
    gains = np.where(ranks < 10, 1 / np.log2(ranks + 2), 0)
    return {kind: 100 * float(gains[data.kinds == kind].mean()) for kind in np.unique(data.kinds).tolist()}


def rules(lead: bool) -> list[Rule]:
    weights, shares, least, read = (
        (0.0, 0.5, 1.0),
        (0.0, 0.5, 1.0, 2.0),
        (1, 32, 64, 128, 512),
        (0.0, 0.5, 1.0),
    )
    return [
        Rule(weight=w, share=s, least=n, read=r, lead=lead)
        for w, s, n, r in product(weights, shares, least, read)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("train", type=Path, help="folder of long_texts, texts_en and texts_zh")
    parser.add_argument("--cache", type=Path, required=True)
    parser.add_argument("--articles", type=int, default=100, help="of each language")
    parser.add_argument("--runs", type=int, default=40, help="of each language")
    parser.add_argument("--no-lead", action="store_true", help="rules without a lead, too")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    embedder = Embedder.load(options.model)
    rows, sets = [], {}
    for lead in (True, False) if options.no_lead else (True,):
        data = []
        for number, lang in enumerate(("en", "zh")):
            random = np.random.default_rng(number)
            sources = [
                articles(options.train, lang, options.articles, random),
                runs(options.train, lang, options.runs, random),
            ]
            path = options.cache / f"{lang}{'' if lead else '-no-lead'}.npz"
            data.append(cached(path, lambda: computed(embedder, sources, lead=lead)))  # noqa: B023
            sets[lang] = {"documents": len(data[-1].whole), "tokens": int(data[-1].whole.sum())}
            print(lang, sets[lang], flush=True)
        for rule in rules(lead):
            scores = {}
            for ratio in RATIOS:
                found = [scored(part, rule, ratio, embedder.default_threshold) for part in data]
                scores[f"{ratio:g}"] = {k: round(v, 1) for part in found for k, v in part.items()}
            means = {
                ratio: round(float(np.mean(list(values.values()))), 2) for ratio, values in scores.items()
            }
            kinds = list(scores["1"])
            gains = [list(values.values()) for values in scores.values()]
            rows.append((sum(means.values()), {"rule": str(rule), "mean": means, "ndcg@10": gains}))
    rows.sort(key=lambda row: -row[0])
    for _, row in rows[:40]:
        print(row["rule"], row["mean"])
    if options.output:
        facts = {
            "model": embedder.fingerprint,
            "runtime": f"{embedder.runtime.name} {embedder.runtime.precision}",
            "processor": machine(),
            "versions": versions("jaspertc", "torch", "openvino", "numpy", "tokenizers"),
            "sets": sets,
            "kinds": kinds,
        }
        lines = ",\n".join(json.dumps(row) for _, row in rows)
        options.output.write_text(f'{json.dumps(facts, indent=1)[:-2]},\n "rows": [\n{lines}\n]}}\n')


if __name__ == "__main__":
    main()
