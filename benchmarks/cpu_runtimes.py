"""What computes fastest on this CPU, on the same weights: PyTorch float32 or bfloat16, or OpenVINO int8.

    python benchmarks/cpu_runtimes.py [--model mini|600m-slice] [--rounds 5] [--threads 1] [--clock cpu]

``mini`` is the packaged model; ``600m-slice`` has the released model's width and a few layers of random
weights. ``share`` is that of the machine's limit: the operations of the linear layers, on the compressed
tokens, per second, over what PyTorch's oneDNN int8 product reaches on the layers' shapes in the same rounds.
``first`` is the first call of a case, when its shapes are new. Lookup, compression and pooling are included,
tokenising is not. ``--clock cpu`` counts processor time: for one thread on a busy machine. Rounds are
interleaved. The last line is JSON.
"""

import argparse
import dataclasses
import json
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jaspertc.checkpoint import load_checkpoint
from jaspertc.engine.batching import plan_batches
from jaspertc.engine.runtimes.openvino_runtime import OpenVINORuntime
from jaspertc.engine.runtimes.torch_runtime import TorchRuntime
from jaspertc.model.compression import target_lengths
from jaspertc.model.encoder import Encoder
from jaspertc.text.packing import PackedBatch, pack
from packed_vs_padded import MIXED, machine, random_encoder, released_shape

THRESHOLD = 80
LONG = tuple(range(300, 512, 19))
CLOCKS = {"wall": time.perf_counter, "cpu": time.process_time}
RUNTIMES: dict[str, Callable[[Encoder], TorchRuntime]] = {
    "torch float32": lambda encoder: TorchRuntime(encoder, device="cpu", dtype="float32"),
    "torch bfloat16": lambda encoder: TorchRuntime(encoder, device="cpu", dtype="bfloat16"),
    "openvino int8": lambda encoder: OpenVINORuntime(encoder, dtype="int8"),
}
Work = list[tuple[PackedBatch, np.ndarray]]


def stream(count: int, median: float = 60, seed: int = 0) -> tuple[int, ...]:
    """Lengths of a stream of texts, lognormal."""
    drawn = np.random.default_rng(seed).lognormal(np.log(median), 0.8, count)
    return tuple(np.clip(drawn.round(), 4, 512).astype(int).tolist())


def cases(texts: int) -> dict[str, tuple[tuple[int, ...], float]]:
    """Lengths and ratio of each case."""
    return {
        "1 x 16": ((16,), 1.0),
        "4 x 128": ((128,) * 4, 1.0),
        "mixed 26-515": (MIXED, 1.0),
        "mixed 26-515, 0.33": (MIXED, 0.33),
        "12 x 300-509": (LONG, 1.0),
        "12 x 300-509, 0.5": (LONG, 0.5),
        "1 x 1024, 0.33": ((1024,), 0.33),
        f"stream of {texts}": (stream(texts), 1.0),
    }


def new_encoder(model: str, layers: int) -> Encoder:
    """A fresh encoder with the same weights each time; a runtime changes the one it is given."""
    if model == "mini":
        return load_checkpoint("mini").encoder.float()
    config = released_shape(layers)
    small = dataclasses.replace(config.backbone, vocab_size=4096)
    return random_encoder(dataclasses.replace(config, backbone=small)).float()


def batches(lengths: tuple[int, ...], ratio: float, positions: int, budget: int) -> Work:
    """What the runtime is called with."""
    rng = np.random.default_rng(1)
    counts = np.array(lengths)
    rows = [rng.integers(5, 4000, length) for length in lengths]
    targets = np.minimum(target_lengths(counts, ratio=ratio, threshold=THRESHOLD), positions)
    return [
        (pack([rows[i] for i in index]), targets[index])
        for index in plan_batches(targets, counts, token_budget=budget)
    ]


def shapes(encoder: Encoder) -> list[tuple[int, int]]:
    """Inputs and outputs of the products of one layer, those that read the same input joined."""
    config = encoder.config.backbone
    width, inner, heads = config.hidden_size, config.intermediate_size, config.num_heads * config.head_dim
    joined = heads + 2 * config.num_kv_heads * config.head_dim
    up = inner if config.kind == "bert" else 2 * inner
    return [(width, joined), (heads, width), (width, up), (inner, width)]


def int8_products(encoder: Encoder, tokens: int = 512) -> tuple[Callable[[], None], float]:
    """The int8 products of one layer, as fast as PyTorch's oneDNN has them, and their operations."""
    work = []
    for inputs, outputs in shapes(encoder):
        weight = torch.randint(-127, 128, (outputs, inputs), dtype=torch.int8)
        packed = torch.ops.onednn.qlinear_prepack(weight, None)
        x = torch.randint(0, 256, (tokens, inputs), dtype=torch.uint8)
        work.append((x, packed, torch.rand(outputs), torch.zeros(outputs, dtype=torch.int64)))

    def run() -> None:
        for x, packed, scale, zero in work:
            torch.ops.onednn.qlinear_pointwise(
                x, 1.0, 128, packed, scale, zero, None, 1.0, 0, torch.bfloat16, "none", [], ""
            )

    return run, 2.0 * tokens * sum(i * o for i, o in shapes(encoder))


def timed(work: Callable[[], object], clock: Callable[[], float]) -> float:
    """Milliseconds of one call."""
    started = clock()
    work()
    return 1000 * (clock() - started)


def measure(runtimes: dict[str, TorchRuntime], arguments: argparse.Namespace) -> list[dict[str, Any]]:
    """One row for each case and runtime."""
    clock = CLOCKS[arguments.clock]
    encoder = next(iter(runtimes.values())).encoder
    products, product_operations = int8_products(encoder)
    products()
    config = encoder.config.backbone
    per_token = 2.0 * config.num_layers * sum(i * o for i, o in shapes(encoder))
    found = []
    for name, (lengths, ratio) in cases(arguments.texts).items():
        if arguments.cases and not any(part in name for part in arguments.cases):
            continue
        jobs: dict[str, Callable[[], np.ndarray]] = {}
        for label, runtime in runtimes.items():
            work = batches(lengths, ratio, config.max_positions, runtime.token_budget)
            jobs[label] = lambda runtime=runtime, work=work: np.concatenate(
                [runtime.embed(batch, targets) for batch, targets in work]
            )
        tokens = sum(int(targets.sum()) for _, targets in work)
        first = {label: timed(job, clock) for label, job in jobs.items()}
        vectors = {label: job() for label, job in jobs.items()}
        repeats = max(1, int(arguments.least / max(1, min(first.values()))))
        times: dict[str, list[float]] = {label: [] for label in jobs}
        limits = []
        for _ in range(arguments.rounds):
            for label, job in jobs.items():
                times[label].append(statistics.fmean(timed(job, clock) for _ in range(repeats)))
            limits.append(product_operations / timed(products, clock) / 1e6)  # GFLOP/s
        limit = statistics.median(limits)
        reference = vectors[next(iter(vectors))]
        for label, values in times.items():
            middle = statistics.median(values)
            cosines = (vectors[label] * reference).sum(1) / (
                np.linalg.norm(vectors[label], axis=1) * np.linalg.norm(reference, axis=1)
            )
            found.append(
                {
                    "case": name,
                    "runtime": label,
                    "texts": len(lengths),
                    "tokens": tokens,
                    "ms": [round(each, 2) for each in (middle, min(values), max(values))],
                    "first_ms": round(first[label], 2),
                    "tokens_per_s": round(1000 * tokens / middle),
                    "limit_gflops": round(limit, 1),
                    "share": round(per_token * tokens / middle / 1e6 / limit, 3),
                    "min_cosine": round(float(cosines.min()), 5),
                }
            )
            print(_line(found[-1]), flush=True)
    return found


def _line(row: dict[str, Any]) -> str:
    middle, low, high = row["ms"]
    return (
        f"{row['case']:>19} {row['runtime']:>15} {f'{middle:.1f} ({low:.1f}-{high:.1f})':>26} "
        f"{row['first_ms']:>9.1f} {row['tokens_per_s']:>9,} {row['share']:>6.2f} {row['min_cosine']:>8.4f}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--model", choices=("mini", "600m-slice"), default="mini")
    parser.add_argument("--layers", type=int, default=4, help="of 600m-slice")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--least", type=float, default=100, help="repeat short calls for this many ms")
    parser.add_argument("--texts", type=int, default=500, help="in the stream")
    parser.add_argument("--cases", nargs="*", default=[], help="parts of names; default all")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--clock", choices=tuple(CLOCKS), default="wall")
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    runtimes = {
        label: build(new_encoder(arguments.model, arguments.layers)) for label, build in RUNTIMES.items()
    }
    headings = f"{'ms (low-high)':>26} {'first':>9} {'tokens/s':>9} {'share':>6} {'cosine':>8}"
    print(f"{'case':>19} {'runtime':>15} {headings}")
    with torch.inference_mode():
        results = measure(runtimes, arguments)
    report = {
        **machine(),
        "dtype": "see runtime",
        "openvino": version("openvino"),
        "model": arguments.model,
        "layers": next(iter(runtimes.values())).encoder.config.backbone.num_layers,
        "clock": arguments.clock,
        "rounds": arguments.rounds,
        "results": results,
    }
    if arguments.output:
        arguments.output.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report))


if __name__ == "__main__":
    main()
