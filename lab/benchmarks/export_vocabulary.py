"""What an export with fewer tokens saves and loses: file size, cosine to the whole vocabulary's vectors,
nDCG@10 on retrieval sets, for several --min-count, single characters that do not occur dropped.

Vectors are the OpenVINO runtime's: a pruned file has the rows of the same tokens. A few are compared with the
file's own, in ONNX Runtime.

python -m lab.benchmarks.export_vocabulary mini --texts TEXTS.jsonl.gz --set FOLDER --min-count 20
"""

import argparse
import json
import warnings
from importlib.metadata import version
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import onnxruntime as ort
from tokenizers import Tokenizer as HuggingFaceTokenizer

from jaspertc import Embedder
from jaspertc.checkpoint import load_checkpoint
from jaspertc.checkpoint.vocabulary import count_tokens, prune_tokenizer, tokens_to_keep
from jaspertc.engine.options import LongTextWarning
from jaspertc.export.write import export
from jaspertc.files.texts import read_texts
from jaspertc.reports.origin import processor
from jaspertc.text.tokenizer import Tokenizer
from jaspertc.types import FloatArray, IntArray
from lab.search.sets import RetrievalSet, load_set, ndcg, ranked

CHECKED = 8  # texts


def rows_of(tokenizer: Tokenizer, embedder: Embedder, task: RetrievalSet) -> list[IntArray]:
    """Token ids of all documents, then of all queries, with their prompts."""
    prompts = embedder.prompts
    texts = [prompts.get("document", "") + text for text in task.documents]
    texts += [prompts.get("query", "") + text for text in task.queries]
    return tokenizer.encode_batch(texts)


def score(vectors: FloatArray, task: RetrievalSet) -> float:
    count = len(task.documents)
    best = ranked(vectors[count:] @ vectors[:count].T, task.document_ids)
    return round(100 * float(ndcg(best, task).mean()), 2)


def from_file(path: Path, rows: list[IntArray], ratio: float) -> FloatArray:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    session = ort.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    dial = {"ratio": np.array([ratio]), "threshold": np.array([80])}
    feeds = [{"input_ids": row[None], "attention_mask": np.ones((1, len(row)), int), **dial} for row in rows]
    return np.concatenate([session.run(["embedding"], each)[0] for each in feeds])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("--texts", type=Path, action="append", required=True, help="whose tokens are kept")
    parser.add_argument("--set", type=Path, action="append", required=True, help="folder of a retrieval set")
    parser.add_argument("--min-count", type=int, action="append", required=True)
    parser.add_argument("--ratio", type=float, default=0.33)
    parser.add_argument("--output", type=Path)
    given = parser.parse_args()
    warnings.simplefilter("ignore", LongTextWarning)
    embedder = Embedder.load(given.model, device="cpu", runtime="openvino")
    tokenizer = load_checkpoint(given.model).tokenizer
    content, tasks = tokenizer.to_json(), [load_set(folder) for folder in given.set]
    counts = count_tokens(tokenizer, (row.text for path in given.texts for row in read_texts(path)))
    before = [rows_of(tokenizer, embedder, task) for task in tasks]
    whole = [embedder.encode_ids(rows, ratio=given.ratio) for rows in before]
    results: list[dict[str, Any]] = []
    for least in (0, *given.min_count):
        keep = np.arange(tokenizer.vocab_size)
        if least:
            keep = tokens_to_keep(content, counts, min_count=least, characters=False)
        pruned = prune_tokenizer(content, keep)
        after = Tokenizer(HuggingFaceTokenizer.from_str(pruned))
        with TemporaryDirectory() as folder:
            path = Path(folder) / "model.onnx"
            size = export(given.model, path, weights="int8", defaults=False, pruned=(pruned, keep)).size
            result: dict[str, Any] = {"min count": least, "tokens": len(keep), "MB": round(size / 1e6, 1)}
            result["table MB"] = round(len(keep) * (embedder.config.backbone.hidden_size + 4) / 1e6, 1)
            for task, old, vectors in zip(tasks, before, whole):
                new = rows_of(after, embedder, task)
                changed = [n for n, (a, b) in enumerate(zip(old, new)) if not np.array_equal(a, keep[b])]
                found = vectors.copy()
                if changed:
                    found[changed] = embedder.encode_ids([keep[new[n]] for n in changed], ratio=given.ratio)
                some = [*changed[:CHECKED], 0]
                agreement = (from_file(path, [new[n] for n in some], given.ratio) * found[some]).sum(1).min()
                cosines = (found * vectors).sum(1)
                result[task.name] = {
                    "nDCG@10": score(found, task),
                    "texts with other tokens": f"{len(changed)} of {len(old)}",
                    "tokens more": f"{sum(map(len, new)) / sum(map(len, old)) - 1:.1%}",
                    "cosine, mean, 1 %, lowest": [
                        round(float(value), 4)
                        for value in (cosines.mean(), np.quantile(cosines, 0.01), cosines.min())
                    ],
                    "file against runtime, lowest cosine": round(float(agreement), 4),
                }
        results.append(result)
        print(json.dumps(result), flush=True)
    facts: dict[str, Any] = {"cpu": processor(), "model": given.model, "ratio": given.ratio}
    facts |= {name: version(name) for name in ("onnxruntime", "openvino", "tokenizers")}
    if given.output:
        given.output.write_text(json.dumps({**facts, "results": results}, indent=1) + "\n")


if __name__ == "__main__":
    main()
