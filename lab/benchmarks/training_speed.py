"""Tokens read a second in training: attention over rectangles (as training does) or over blocks (as inference
does, and training did before), bfloat16 or float32; whole steps on `mini` in interleaved rounds, one thread.

python lab/benchmarks/training_speed.py --rounds 5 --output RESULT.json
"""

import argparse
import json
import platform
import statistics
import time
from functools import partial
from importlib.metadata import version
from itertools import product
from pathlib import Path

import numpy as np
import torch

from jaspertc import machine
from jaspertc.checkpoint import load_checkpoint
from jaspertc.model import attention
from jaspertc.recipe.objective import Objective
from jaspertc.reports.origin import processor
from jaspertc.train.step import StepBatch, accumulate_gradients

TEXTS, MEAN_TOKENS, LONGEST = 128, 65, 300
KINDS = {"rectangles": attention.padded_attention, "blocks": attention.blocked_attention}


def random_batch(width: int, vocabulary: int) -> StepBatch:
    """Random ids, lengths as of sentences and paragraphs; targets of width E."""
    random = np.random.default_rng(0)
    lengths = np.clip(random.gamma(2, MEAN_TOKENS / 2, TEXTS), 6, LONGEST).astype(int)
    teacher = random.standard_normal((TEXTS, width)).astype(np.float32)
    teacher /= np.linalg.norm(teacher, axis=1, keepdims=True)
    rows = [random.integers(5, vocabulary, length) for length in lengths]
    return StepBatch(rows=rows, teacher=teacher, ids=[str(number) for number in range(TEXTS)])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    encoder = load_checkpoint("mini").encoder.float().train()
    for name, parameter in encoder.named_parameters():
        parameter.requires_grad_("word_embeddings" not in name)
    batch = random_batch(encoder.config.embedding_dims, encoder.config.backbone.vocab_size)
    optimizer = torch.optim.Adam(encoder.parameters(), lr=1e-6)
    gradients = partial(
        accumulate_gradients,
        encoder,
        batch,
        Objective(cosine=10, similarity=100),
        threshold=80,
        seed=0,
        graph_tokens=32768,
    )
    machine._bfloat16_is_fast = lambda: True  # both are computed as asked, whichever is faster
    rates: dict[str, list[float]] = {}
    every = list(product((1.0, 0.33), (2048, 8192), KINDS, (torch.bfloat16, torch.float32)))
    for turn in range(arguments.rounds + 1):  # the first warms up
        for ratio, budget, kind, dtype in every:
            attention.padded_attention = KINDS[kind]
            started = time.perf_counter()
            optimizer.zero_grad(set_to_none=True)
            gradients(ratio=ratio, token_budget=budget, dtype=dtype)
            optimizer.step()
            if turn:
                rate = batch.tokens / (time.perf_counter() - started)
                name = f"{str(dtype).removeprefix('torch.')}, {kind}, ratio {ratio}, token_budget {budget}"
                rates.setdefault(name, []).append(rate)
    found = {
        name: {"median": statistics.median(values), "lowest": min(values), "highest": max(values)}
        for name, values in rates.items()
    }
    for name, figures in found.items():
        print(f"{name}: {figures['median']:.0f} ({figures['lowest']:.0f}-{figures['highest']:.0f}) tokens/s")
    result = {
        "processor": processor(),
        "python": platform.python_version(),
        "torch": version("torch"),
        "rounds": arguments.rounds,
        "tokens a second": found,
    }
    if arguments.output is not None:
        arguments.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
