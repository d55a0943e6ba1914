"""What windows are worth on a trained model: nDCG@10 by ratio where only the windows are changed.

    python -m lab.compressors.windows mini data/eval/retrieval/xquad_en data/eval/retrieval/xquad_zh \
        --pairs data/train/pairs_zh.jsonl.gz --source drcd-qa --output results.json

Nothing is trained. Queries at ratio 1, documents at each ratio. With --pairs, positives of 160 to 512 tokens
that hash into [0.6, 1) are the documents: no model of recipes/ was trained on them. Strata are queries by the
tokens of what answers them; intervals are 95 % of the difference from the first kind of windows.
"""

import argparse
import json
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

from jaspertc import Embedder
from jaspertc.engine.embedder import Embedder as Engine
from jaspertc.files.json_lines import read_objects
from jaspertc.model.compressors import COMPRESSORS, build_compressor
from jaspertc.reports.origin import machine
from jaspertc.teaching.keys import place_of
from jaspertc.types import FloatArray
from lab.search.sets import RetrievalSet, interval, load_set, ndcg, ranked

WINDOWS = ("adaptive-average", "disjoint-average", "fractional-average")
LEAST, MOST = 160, 512
VALIDATION = {"pairs_zh": ["drcd-qa", "cmrc2018-trial"], "pairs_en": ["wikipedia-en/b/ict"]}
STRATA = ((1, 128), (129, 256), (257, 512))


def with_windows(embedder: Engine, kind: str) -> Engine:
    """The model with another compressor of the same parameters."""
    encoder = embedder.runtime.encoder
    old = encoder.compressor
    config = COMPRESSORS[kind].read_config({**asdict(old.config), "kind": kind})
    new = build_compressor(config, encoder.config.backbone.hidden_size)
    new.load_state_dict(old.state_dict())
    encoder.compressor = new.to(next(iter(old.parameters())).dtype).eval()
    encoder.fold()
    return embedder


def pairs(embedder: Engine, path: Path, sources: list[str], most: int) -> RetrievalSet:
    """Queries and long positives of a file of pairs."""
    rows = [
        row for _, row in read_objects(path) if row["source"] in sources and place_of(f"q:{row['id']}") >= 0.6
    ]
    lengths = [len(ids) for ids in embedder.tokenize([row["positive"] for row in rows])]
    rows = [row for row, length in zip(rows, lengths) if LEAST <= length <= MOST][:most]
    texts = sorted({row["positive"] for row in rows})
    numbers = {text: str(number) for number, text in enumerate(texts)}
    return RetrievalSet(
        f"{path.name.split('.')[0]} {'+'.join(sources)}",
        [numbers[text] for text in texts],
        texts,
        [row["id"] for row in rows],
        [row["query"] for row in rows],
        {row["id"]: {numbers[row["positive"]]: 1.0} for row in rows},
    )


@dataclass(frozen=True)
class Asked:
    """A task, and its queries' vectors, shape (Q, E)."""

    task: RetrievalSet
    queries: FloatArray

    def gains(self, embedder: Engine, ratio: float) -> FloatArray:
        """nDCG@10 of each query, shape (Q,)."""
        scores = self.queries @ embedder.encode_document(self.task.documents, ratio=ratio).T
        return ndcg(ranked(scores, self.task.document_ids), self.task)


def strata(embedder: Engine, task: RetrievalSet) -> dict[str, "np.ndarray"]:
    """Which queries have answers of so many tokens, by name of the stratum, shape (Q,) each."""
    documents = embedder.tokenize(task.documents, prompt=embedder.prompts["document"])
    tokens = dict(zip(task.document_ids, map(len, documents)))
    longest = np.array([max(tokens[name] for name in task.relevant[query]) for query in task.query_ids])
    found = {f"{low}-{high}": (longest >= low) & (longest <= high) for low, high in STRATA}
    return {"all": np.ones(len(longest), np.bool_)} | {
        name: here for name, here in found.items() if here.any()
    }


def computed(embedder: Engine, task: RetrievalSet, ratio: float) -> float:
    """Compressed tokens of a document, on average."""
    documents = embedder.tokenize(task.documents, prompt=embedder.prompts["document"])
    return float(embedder.target_lengths(np.array([len(row) for row in documents]), ratio=ratio).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("sets", nargs="*", type=Path)
    parser.add_argument("--pairs", type=Path, action="append", default=[])
    parser.add_argument("--source", action="append", default=[])
    parser.add_argument("--most", type=int, default=600, help="pairs of a file")
    parser.add_argument("--ratios", default="1,0.5,0.33,0.2,0.1")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    embedder = Embedder.load(options.model)
    tasks = [load_set(folder) for folder in options.sets]
    tasks += [pairs(embedder, path, options.source, options.most) for path in options.pairs]
    ratios = [float(ratio) for ratio in options.ratios.split(",")]
    rows = []
    for task in tasks:
        asked = Asked(task, embedder.encode_query(task.queries, ratio=1.0))
        parts = strata(embedder, task)
        first: dict[float, FloatArray] = {}
        for kind in WINDOWS:
            with_windows(embedder, kind)
            gains = {1.0: first[1.0]} if 1.0 in first else {}  # no windows there
            gains |= {ratio: asked.gains(embedder, ratio) for ratio in ratios if ratio not in gains}
            first = first or gains
            for name, here in parts.items():
                row = {"set": task.name, "documents": len(task.documents), "windows": kind, "answers": name}
                row |= {"queries": int(here.sum()), "tokens": {}, "ndcg@10": {}, "against the first": {}}
                for ratio, each in gains.items():
                    row["tokens"][f"{ratio:g}"] = round(computed(embedder, task, ratio), 1)
                    row["ndcg@10"][f"{ratio:g}"] = round(100 * float(each[here].mean()), 2)
                    row["against the first"][f"{ratio:g}"] = interval((each - first[ratio])[here])
                rows.append(row)
                print(task.name, kind, name, row["ndcg@10"], flush=True)
    if options.output:
        facts = {"model": embedder.fingerprint, "runtime": repr(embedder), "processor": machine()}
        options.output.write_text(json.dumps(facts | {"rows": rows}, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
