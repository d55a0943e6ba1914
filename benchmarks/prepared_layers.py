"""What preparing layers at load is worth on this CPU: trained modules against ``TorchRuntime``, interleaved.

    python benchmarks/prepared_layers.py [--shape 600m] [--dtype bfloat16] [--layers 4] [--threads 2]

Weights are random, in the shape of the released 600M model or of ``mini``. Both sides fold the lookup table
and use the same attention; they are checked against each other first. Medians (lowest to highest) in
milliseconds a batch, and of the ratios of each round. The last line is JSON.
"""

import argparse
import json
import statistics
import time
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F

from jaspertc.config import BackboneConfig, CompressorConfig, HeadConfig, ModelConfig
from jaspertc.engine.runtimes.torch_runtime import TorchRuntime
from jaspertc.engine.torch_layers import prepared
from jaspertc.model.compression import target_lengths
from jaspertc.model.encoder import Encoder
from jaspertc.text.packing import pack
from packed_vs_padded import MIXED, machine, milliseconds, random_encoder, released_shape

BATCHES = {"1 x 16": (16,), "4 x 128": (128,) * 4, "1 x 512": (512,), "mixed 26-515, ratio 0.33": MIXED}


def mini_shape(layers: int) -> ModelConfig:
    """The configuration of ``mini`` with this many layers."""
    return ModelConfig(
        backbone=BackboneConfig(
            kind="bert",
            vocab_size=49804,
            hidden_size=384,
            num_layers=layers,
            num_heads=12,
            num_kv_heads=12,
            head_dim=32,
            intermediate_size=1536,
            norm_eps=1e-12,
            max_positions=515,
            causal=False,
        ),
        compressor=CompressorConfig(kind="adaptive-average", mlp="residual-swiglu", mlp_size=384),
        head=HeadConfig(dims=384),
    )


SHAPES = {"600m": released_shape, "mini": mini_shape}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--shape", choices=SHAPES, default="600m")
    parser.add_argument("--dtype", choices=("bfloat16", "float32"), default="bfloat16")
    parser.add_argument("--layers", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    encoder = random_encoder(SHAPES[arguments.shape](arguments.layers))
    runtime = TorchRuntime(encoder, device="cpu", dtype=arguments.dtype)  # converts the trained modules too
    started = time.perf_counter()
    prepared(encoder.backbone)  # again: the first time includes oneDNN's own start
    loading = 1000 * (time.perf_counter() - started)
    print(f"preparing {arguments.layers} layers: {loading:.0f} ms")

    def trained(*batch: object) -> torch.Tensor:
        with torch.inference_mode():
            vectors: torch.Tensor = Encoder.__call__(encoder, *batch)
            return vectors

    generator, results = np.random.default_rng(0), []
    for name, lengths in BATCHES.items():
        batch = pack([generator.integers(0, encoder.config.backbone.vocab_size, n) for n in lengths])
        ratio = 0.33 if "ratio" in name else 1.0
        targets = target_lengths(batch.lengths, ratio=ratio, threshold=80)
        ours, theirs = torch.from_numpy(runtime.embed(batch, targets)), trained(batch, targets)
        cosine = float(F.cosine_similarity(ours, theirs).min())
        assert cosine > 0.999, f"{name}: the two sides disagree, cosine {cosine}"
        times = [
            (milliseconds(trained, batch, targets), milliseconds(runtime.embed, batch, targets))
            for _ in range(arguments.rounds)
        ]
        columns = {
            "trained_ms": [before for before, _ in times],
            "prepared_ms": [after for _, after in times],
            "speedup": [before / after for before, after in times],
        }
        row: dict[str, object] = {"batch": name, "min_cosine": round(cosine, 6)}
        for key, values in columns.items():
            row[key] = [round(f(values), 3) for f in (statistics.median, min, max)]
        results.append(row)
        cells = (f"{key} {v[0]} ({v[1]}-{v[2]})" for key, v in row.items() if isinstance(v, list))
        print(f"{name:>26}  " + "  ".join(cells), flush=True)
    report = {**machine(), "shape": arguments.shape, "dtype": arguments.dtype, "layers": arguments.layers}
    report |= {"rounds": arguments.rounds, "preparing_ms": round(loading), "results": results}
    if arguments.output:
        arguments.output.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report))


if __name__ == "__main__":
    main()
