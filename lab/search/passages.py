"""Long documents: a vector each, one a passage, or both mixed; nDCG@10 x 100 by vectors and hybrid.

    python -m lab.search.passages --train DATA/train --output docs/reports/search/passages-train.json
    python -m lab.search.passages DATA/long_techdocs_en ... --output docs/reports/search/passages.json

- whole: the document's vector. pieces: those of ``encode_pieces``, from the same pass.
- late: one pass over the document, too, and a mean over each passage's share of the compressed tokens.
- passages: each embedded by itself under its headings, as ``cut`` makes them.
- "+ first": FIRST of the document's first passage in each passage's vector, as an index does it.
- "+ whole": the mean of a passage's unit vector and its document's, of unit length again.

To choose there are training texts, those of lab/compressors/long_rules.py. ``seconds`` are of the processor,
for all documents.

Shape legend: P passages of one document, R rows (pieces) of it, C compressed tokens of a row, E width.
"""

import argparse
import hashlib
import json
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jaspertc import Document, Embedder, SearchIndex
from jaspertc.engine.options import EncodeOptions
from jaspertc.engine.precision import normalized
from jaspertc.search.embedding import with_first
from jaspertc.search.passages import Passage, cut
from jaspertc.search.rows import Content
from jaspertc.text.invisible import visible
from jaspertc.text.packing import pack
from jaspertc.text.tokenizer import clean
from jaspertc.types import FloatArray, IntArray
from lab.compressors.long_rules import articles, runs
from lab.search.indexes import build
from lab.search.indexes import found as search
from lab.search.sets import RetrievalSet, load_set, model, ndcg, part_of, vectors

BUDGET = 128  # tokens of a passage
WAYS = ("whole", "pieces", "late", "passages", "passages + first", "passages + whole")
MODES = ("vector", "hybrid")


@dataclass(frozen=True)
class Computed:
    """Unit vectors of one document.

    Attributes:
        vectors: by way, without those that are mixed, shape (P, E).
        passages: by way.
        seconds: by way, what it took alone: whole, pieces and late are of one pass.
    """

    vectors: dict[str, FloatArray]
    passages: dict[str, list[Passage]]
    seconds: dict[str, float]

    def content(self, way: str, ratio: float) -> Content:
        """What an index stores."""
        own, _, other = way.partition(" + ")
        found = self.vectors[own]
        if other == "first":
            found = with_first(found, found[0])
        elif other:
            found = normalized(found + self.vectors["whole"])
        return Content(passages=self.passages[own], ratio=ratio, vectors=found)


@contextmanager
def states(embedder: Embedder) -> Iterator[list[FloatArray]]:
    """The last hidden states of each batch that is computed meanwhile, shape (C, D)."""
    encoder: Any = embedder.runtime.encoder
    pool, seen = encoder._pool, []

    def look(x: torch.Tensor, layout: Any) -> torch.Tensor:
        seen.append(x.float().numpy().copy())
        pooled: torch.Tensor = pool(x, layout)
        return pooled

    encoder._pool = look
    try:
        yield seen
    finally:
        encoder._pool = pool


def characters(embedder: Embedder, text: str, rows: list[IntArray]) -> list[IntArray]:
    """The first character of each token of each row; -1: it repeats the text's start, or is special."""
    seen, places = visible(clean(text))
    encoding = embedder.checkpoint.tokenizer._tokenizer.encode(seen)
    inside = np.flatnonzero(np.array(encoding.special_tokens_mask) == 0)
    begins = np.array(encoding.offsets)[inside, 0]
    before, after = int(inside[0]), len(encoding.ids) - int(inside[-1]) - 1
    extra = sum(map(len, rows)) - len(inside) - len(rows) * (before + after)
    lead = extra // max(1, len(rows) - 1)
    result, done = [], 0
    for number, row in enumerate(rows):
        head = before + (lead if number else 0)
        own = len(row) - head - after
        result.append(
            np.concatenate([np.full(head, -1), places[begins[done : done + own]], np.full(after, -1)])
        )
        done += own
    assert done == len(inside)
    return result


def one_pass(
    embedder: Embedder, text: str, passages: list[Passage], ratio: float
) -> tuple[FloatArray, FloatArray, IntArray, FloatArray]:
    """The document's vector, its pieces' with their characters, and the late ones of passages."""
    fitted = embedder.fitting.fit(embedder.tokenize([text]), np.array(ratio), EncodeOptions(), texts=[text])
    rows = fitted.texts.rows
    total = np.zeros((len(passages), embedder.config.backbone.hidden_size))
    count = np.zeros((len(passages), 1))
    raw = []
    for row, target, begins in zip(rows, fitted.targets.tolist(), characters(embedder, text, rows)):
        with states(embedder) as seen:
            raw.append(embedder.runtime.embed(pack([row]), np.array([target])))
        sizes = np.diff(np.arange(target + 1) * len(row) // target)  # DisjointAverage's windows
        window = np.repeat(np.arange(target), sizes)
        own = begins >= 0
        place = np.searchsorted([passage.start for passage in passages], begins, side="right") - 1
        share = (1 / sizes[window])[:, None]
        np.add.at(total, place[own], (seen[0][window] * share)[own])
        np.add.at(count, place[own], share[own])
    states_of = torch.from_numpy((total / np.maximum(count, 1e-9)).astype(np.float32))
    with torch.inference_mode():
        late = embedder.runtime.encoder.head(states_of).numpy()
    pieces = np.concatenate(raw)
    return fitted.combine(pieces), pieces, fitted.spans[0], late


def compute(embedder: Embedder, text: str, ratio: float) -> Computed:
    """All ways of one document."""
    parts = cut(text, BUDGET, lambda texts: [len(row) for row in embedder.tokenize(texts)])
    begin = time.process_time()
    whole, pieces, spans, late = one_pass(embedder, text, parts, ratio)
    once = time.process_time()
    own = embedder.encode_document([part.of(text) for part in parts], ratio=ratio)
    end = time.process_time()
    found = {"whole": whole, "pieces": pieces, "late": late, "passages": own}
    cuts = {"whole": [Passage(0, len(text))], "pieces": [Passage(*span) for span in spans.tolist()]}
    cuts |= {"late": parts, "passages": parts}
    seconds = {"whole": once - begin, "passages": end - once}
    return Computed({way: normalized(rows) for way, rows in found.items()}, cuts, seconds)


def cached(embedder: Embedder, text: str, ratio: float, folder: Path) -> Computed:
    """``compute``, once for each cache folder."""
    content = f"passages\0{embedder.fingerprint}\0{ratio:g}\0{(BUDGET,)}\0{text}"
    path = folder / "passages" / f"{hashlib.sha256(content.encode()).hexdigest()[:24]}.npz"
    if not path.exists():
        path.parent.mkdir(parents=True, exist_ok=True)
        made = compute(embedder, text, ratio)
        rest = json.dumps(
            [made.seconds, {way: [vars(one) for one in ones] for way, ones in made.passages.items()}]
        )
        np.savez(path, rest=np.array(rest), **made.vectors)
    with np.load(path) as file:
        seconds, passages = json.loads(str(file["rest"]))
        found = {way: file[way] for way in file.files if way != "rest"}
    return Computed(found, {way: [Passage(**one) for one in ones] for way, ones in passages.items()}, seconds)


def training_set(folder: Path, lang: str, most: int) -> RetrievalSet:
    """Articles and runs of paragraphs of one language, one corpus; a query's id begins with its kind."""
    dice = np.random.default_rng(("en", "zh").index(lang))
    sources = [articles(folder, lang, most, dice), runs(folder, lang, most * 2 // 5, dice)]
    documents = [text for source in sources for text in source.documents]
    names = [f"{number}" for number in range(len(documents))]
    asked, relevant, begin = {}, {}, 0
    for source in sources:
        for kind, pairs in source.queries.items():
            for number, (text, document) in enumerate(pairs):
                asked[f"{kind}\t{number}"] = text
                relevant[f"{kind}\t{number}"] = {names[begin + document]: 1.0}
        begin += len(source.documents)
    return RetrievalSet(f"long_{lang}", names, documents, list(asked), list(asked.values()), relevant)


def measure(task: RetrievalSet, name: str, ratio: float, folder: Path) -> dict[str, Any]:
    """By way: scores of each kind of query, passages, seconds."""
    embedder = model(name)
    queries = vectors(name, task.queries, "query", 1.0, folder)
    computed = {}
    for number, text in enumerate(task.documents):
        computed[text] = cached(embedder, text, ratio, folder)
        if number % 20 == 19:
            print(task.name, number + 1, flush=True)
    kinds = np.array([query.partition("\t")[0] if "\t" in query else task.name for query in task.query_ids])
    table: dict[str, Any] = {"documents": len(task.documents), "queries": len(task.queries)}
    for way in WAYS:

        def contents(
            connection: Any, texts: Mapping[bytes, str], ratio: float, way: str = way
        ) -> dict[bytes, Content]:
            return {key: computed[text].content(way, ratio) for key, text in texts.items()}

        with filled(task, embedder, folder, contents, ratio) as index:
            scores = {mode: 100 * ndcg(search(index, task, queries, mode=mode), task) for mode in MODES}
        own = way.partition(" + ")[0]
        spent = sum(one.seconds.get(own, one.seconds["whole"]) for one in computed.values())
        table[way] = {"vectors": sum(len(one.passages[own]) for one in computed.values())}
        table[way] |= {"seconds": round(spent, 1)} | {
            mode: {kind: round(float(each[kinds == kind].mean()), 2) for kind in np.unique(kinds).tolist()}
            for mode, each in scores.items()
        }
        print(task.name, way, table[way], flush=True)
    return table


def filled(task: RetrievalSet, embedder: Embedder, folder: Path, contents: Any, ratio: float) -> SearchIndex:
    """An index whose passages and vectors are given."""
    empty = replace(task, documents=[], document_ids=[])
    index = build(empty, folder / f"passages-{task.name}.db", embedder, ratio=ratio)
    index.embedding.contents = contents  # type: ignore[method-assign]
    index.add(Document(name, text) for name, text in zip(task.document_ids, task.documents))
    return index


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("sets", nargs="*", type=Path)
    parser.add_argument("--train", type=Path)
    parser.add_argument("--articles", type=int, default=80, help="of each language, and 2/5 as many runs")
    parser.add_argument("--most", type=int, help="take the first documents of a set, and their queries")
    parser.add_argument("--ratio", type=float, default=0.33)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--cache", type=Path, default=Path("runs/search"))
    parser.add_argument("--output", type=Path, required=True)
    options = parser.parse_args()
    tasks = (
        [training_set(options.train, lang, options.articles) for lang in ("en", "zh")]
        if options.train
        else []
    )
    tasks += [part_of(task, options.most or len(task.documents)) for task in map(load_set, options.sets)]
    results = json.loads(options.output.read_text()) if options.output.exists() else {}
    for task in tasks:
        results[task.name] = measure(task, options.model, options.ratio, options.cache)
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
