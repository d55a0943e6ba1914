"""What is done with texts longer than the model reads well: nDCG@10 of documents squeezed, cut or in pieces.

    python -m lab.compressors.long_texts mini DATA/long_techdocs_en DATA/long_qmsum_en --ratios 1,0.33,0.1

Queries at ratio 1, documents at each ratio; nothing is trained. ``pieces`` is what the package does.
"""

import argparse
import json
from pathlib import Path

import numpy as np

from jaspertc import Embedder
from jaspertc.engine.embedder import Embedder as Engine
from jaspertc.reports.origin import machine
from lab.search.sets import RetrievalSet, load_set, ndcg

WAYS = {
    "squeezed": {"long_texts": "compress"},
    "first 512 tokens": {"long_texts": "compress", "max_length": 512},
    "pieces": {"long_texts": "pieces"},
}


def score(embedder: Engine, task: RetrievalSet, ratio: float, **options: object) -> float:
    queries = embedder.encode_query(task.queries, ratio=1.0)
    documents = embedder.encode_document(task.documents, ratio=ratio, **options)
    best = np.argsort(-(queries @ documents.T), axis=1, kind="stable")[:, :10]
    return 100 * float(ndcg([[task.document_ids[place] for place in row] for row in best], task).mean())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("sets", nargs="+", type=Path)
    parser.add_argument("--ratios", default="1,0.33,0.1")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    embedder = Embedder.load(options.model)
    ratios = [float(ratio) for ratio in options.ratios.split(",")]
    rows = []
    for task in map(load_set, options.sets):
        for way, arguments in WAYS.items():
            scores = {f"{ratio:g}": round(score(embedder, task, ratio, **arguments), 1) for ratio in ratios}
            rows.append({"set": task.name, "documents": len(task.documents), "way": way, "ndcg@10": scores})
            print(task.name, way, scores, flush=True)
    if options.output:
        facts = {"model": embedder.fingerprint, "runtime": repr(embedder), "processor": machine()}
        options.output.write_text(json.dumps(facts | {"rows": rows}, indent=1) + "\n")


if __name__ == "__main__":
    main()
