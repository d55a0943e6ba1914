"""A large model's queries and batches beside OpenVINO GenAI's, and the share of the memory's bandwidth.

    python -m lab.benchmarks.genai write FOLDER --shape 600m
    optimum-cli export openvino -m FOLDER/plain --task feature-extraction --library transformers \\
        --weight-format int8 FOLDER/int8
    python -m lab.benchmarks.genai run FOLDER --genai FOLDER/int8 --threads 2 --output results.json

``write`` makes a model with random weights and the built-in model's tokenizer, and the same backbone as
Transformers loads it. The exporter (optimum-intel, another environment: it takes no Transformers as new as
this one) turns that into GenAI's form. ``run`` times single queries and batches of texts of one length, in
interleaved rounds; texts are made of the samples' words. Batches are what GenAI is good at: equal lengths, no
padding. Bandwidth: bytes of the layers' weights that a query reads once, over its time, beside what a
copy-free sum over 1 GiB reaches.
"""

import argparse
import json
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch

from jaspertc import Embedder
from jaspertc.checkpoint import load_checkpoint
from jaspertc.model.backbones import backbone_class
from jaspertc.reports.origin import processor, versions
from lab.compare.inputs import Writer
from lab.compare.random_model import released_shape, write_random_model
from lab.compare.sentences import write_plain_folder

QUERY, TEXT = 16, 128  # tokens
QUERIES, TEXTS = 5, 8  # a round


def write(options: argparse.Namespace) -> None:
    """The model and its backbone for Transformers."""
    folder: Path = options.folder
    model = write_random_model(folder / "model", released_shape(options.shape, options.layers))
    shutil.copy(load_checkpoint("mini").folder / "tokenizer.json", model / "tokenizer.json")
    write_plain_folder(load_checkpoint(model), folder / "plain")


def bandwidth(seconds: float = 1.0) -> float:
    """Bytes per second of reading memory once, all threads."""
    numbers = torch.ones(2**28)
    best, end = float("inf"), time.perf_counter() + seconds
    while time.perf_counter() < end:
        begin = time.perf_counter()
        numbers.sum()
        best = min(best, time.perf_counter() - begin)
    return numbers.numel() * 4 / best


def contenders(options: argparse.Namespace) -> dict[str, tuple[Callable[[list[str]], object], float]]:
    """By name, what embeds texts, and the bytes of a weight."""
    import openvino_genai

    found: dict[str, tuple[Callable[[list[str]], object], float]] = {}
    for dtype, size in (("int8", 1.0), ("float32", 4.0)):
        model = Embedder.load(options.folder / "model", runtime="openvino", dtype=dtype)
        found[f"ours {dtype}"] = (lambda texts, model=model: model.encode(texts, ratio=1.0), size)
    for folder in options.genai:
        settings = {"INFERENCE_NUM_THREADS": options.threads}
        pipeline = openvino_genai.TextEmbeddingPipeline(str(folder), "CPU", **settings)
        found[f"GenAI {folder.name}"] = (
            lambda texts, pipeline=pipeline: pipeline.embed_documents(texts),
            1.0 if "int8" in folder.name else 4.0,
        )
    return found


def run(options: argparse.Namespace) -> None:
    """Time all, in interleaved rounds."""
    torch.set_num_threads(options.threads)
    calls = contenders(options)
    checkpoint = load_checkpoint(options.folder / "model")

    def count(texts: Sequence[str]) -> list[int]:
        return [len(ids) for ids in checkpoint.tokenizer.encode_batch(texts)]

    writer = Writer(count)
    queries, texts = writer.texts([QUERY] * QUERIES), writer.texts([TEXT] * TEXTS)
    backbone = checkpoint.info.config.backbone
    weights = backbone.num_layers * backbone_class(backbone.kind).layer_weights(backbone)
    taken: dict[str, dict[str, list[float]]] = {name: {"query": [], "text": []} for name in calls}
    for number in range(options.rounds + 1):
        for name, (call, _) in calls.items():
            for query in queries:
                begin = time.perf_counter()
                call([query])
                taken[name]["query"].append((time.perf_counter() - begin) * 1000)
            begin = time.perf_counter()
            call(texts)
            taken[name]["text"].append((time.perf_counter() - begin) * 1000 / len(texts))
            print(number, name, {what: round(each[-1], 1) for what, each in taken[name].items()}, flush=True)
            if not number:  # warms up
                taken[name] = {"query": [], "text": []}
    reached = bandwidth()
    rows = {}
    for name, (_, size) in calls.items():
        query, text = (np.array(taken[name][what]) for what in ("query", "text"))
        rows[name] = {
            "query, ms: median, lowest, highest": [
                round(float(each), 2) for each in (np.median(query), query.min(), query.max())
            ],
            "share of bandwidth": round(weights * size / (np.median(query) / 1000) / reached, 3),
            "a text of a batch, ms: median, lowest, highest": [
                round(float(each), 1) for each in (np.median(text), text.min(), text.max())
            ],
        }
    report = {
        "processor": processor(),
        "threads": options.threads,
        "versions": versions("torch", "openvino", "openvino-genai"),
        "layers' weights": weights,
        "memory, GB/s": round(reached / 1e9, 2),
        "tokens": count(queries + texts),
        "rows": rows,
    }
    print(json.dumps(report, indent=1))
    if options.output:
        options.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(required=True)
    writing = commands.add_parser("write")
    writing.add_argument("folder", type=Path)
    writing.add_argument("--shape", default="600m")
    writing.add_argument("--layers", type=int, default=0, help="keep so many; default: all")
    writing.set_defaults(do=write)
    running = commands.add_parser("run")
    running.add_argument("folder", type=Path)
    running.add_argument("--genai", type=Path, nargs="*", default=[], help="folders of the exporter")
    running.add_argument("--threads", type=int, default=2)
    running.add_argument("--rounds", type=int, default=5)
    running.add_argument("--output", type=Path)
    running.set_defaults(do=run)
    options = parser.parse_args()
    options.do(options)


if __name__ == "__main__":
    main()
