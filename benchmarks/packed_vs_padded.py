"""Our packed forward against a padded Transformers forward, on the same weights, in one run.

    python benchmarks/packed_vs_padded.py [--layers 28] [--rounds 3] [--threads 2] [--output FILE.json]

Weights have the released model's shape (600M) and random values, made here. The padded reference computes
as the released code does: lookup and MLP on every token, padding included, one pooling call per text,
a padded bfloat16 forward through Transformers' Qwen3Model with an attention mask, mean over real tokens.
Both sides are checked against each other first. Rounds are interleaved; ratios are medians of the ratios
of each round. The last line is JSON.
"""

import argparse
import json
import platform
import statistics
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
import transformers
from torch import Tensor
from transformers import Qwen3Config, Qwen3Model

from jaspertc.config import BackboneConfig, CompressorConfig, HeadConfig, ModelConfig
from jaspertc.engine.runtimes.torch_runtime import TorchRuntime
from jaspertc.model.compression import target_lengths
from jaspertc.model.encoder import Encoder
from jaspertc.text.packing import pack

THRESHOLD = 80
MIXED = (26, 61, 97, 133, 180, 249, 338, 515)
BATCHES = {"4 x 128": (128,) * 4, "2 x 512": (512,) * 2, "1 x 1024": (1024,), "mixed 26-515": MIXED}
RATIOS: dict[str, float | None] = {"none": None, "0.5": 0.5, "0.33": 0.33, "0.1": 0.1}


def released_shape(layers: int) -> ModelConfig:
    """The released 600M model's configuration with this many layers."""
    return ModelConfig(
        backbone=BackboneConfig(
            kind="qwen3",
            vocab_size=151669,
            hidden_size=1024,
            num_layers=layers,
            num_heads=16,
            num_kv_heads=8,
            head_dim=128,
            intermediate_size=3072,
            norm_eps=1e-6,
            max_positions=32768,
            causal=True,
        ),
        compressor=CompressorConfig(kind="adaptive-average", mlp="swiglu", mlp_size=3072),
        head=HeadConfig(dims=2048),
    )


def random_encoder(config: ModelConfig, seed: int = 0) -> Encoder:
    """An encoder in bfloat16 with normal weights, so that both sides compute something sensible."""
    with torch.device("meta"):
        encoder = Encoder(config).to(torch.bfloat16)
    encoder = encoder.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, weight in encoder.named_parameters():
            if name.endswith("norm.weight"):
                weight.fill_(1.0)
            else:
                scale = 1.0 if name.endswith("embed_tokens.weight") else 0.02
                weight.copy_(torch.randn(weight.shape, generator=generator, dtype=torch.bfloat16) * scale)
    return encoder.eval().requires_grad_(False)


class PaddedReference:
    """The padded way of computing the same vectors, on the same tensors."""

    def __init__(self, encoder: Encoder) -> None:
        shape = encoder.config.backbone
        config = Qwen3Config(
            vocab_size=8,
            hidden_size=shape.hidden_size,
            intermediate_size=shape.intermediate_size,
            num_hidden_layers=shape.num_layers,
            num_attention_heads=shape.num_heads,
            num_key_value_heads=shape.num_kv_heads,
            head_dim=shape.head_dim,
            rms_norm_eps=shape.norm_eps,
            rope_theta=shape.rope_theta,
            max_position_embeddings=shape.max_positions,
            use_cache=False,
            pad_token_id=None,
        )
        self.encoder = encoder
        self.model = Qwen3Model(config).to(torch.bfloat16).eval()
        state = {k: v for k, v in encoder.backbone.state_dict().items() if not k.startswith("embed_tokens")}
        self.model.load_state_dict(state, strict=False, assign=True)

    @torch.inference_mode()
    def __call__(self, rows: list[np.ndarray], ratio: float | None) -> Tensor:
        longest = max(map(len, rows))
        ids = torch.zeros(len(rows), longest, dtype=torch.long)
        mask = torch.zeros(len(rows), longest, dtype=torch.long)
        for place, row in enumerate(rows):
            ids[place, : len(row)] = torch.from_numpy(row)
            mask[place, : len(row)] = 1
        x = self.encoder.compressor.transform(self.encoder.backbone.token_table(ids))
        if ratio is not None:
            pooled = []
            for place in range(len(rows)):  # one text and one device answer at a time
                length = int(mask[place].sum())
                target = length if length <= THRESHOLD else int(THRESHOLD + (length - THRESHOLD) * ratio)
                pooled.append(F.adaptive_avg_pool1d(x[place, :length].T[None], target)[0].T)
            longest = max(map(len, pooled))
            mask = torch.tensor([[1] * len(part) + [0] * (longest - len(part)) for part in pooled])
            x = torch.stack([F.pad(part, (0, 0, 0, longest - len(part))) for part in pooled])
        hidden = self.model(inputs_embeds=x, attention_mask=mask).last_hidden_state.float()
        mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdim=True)
        return self.encoder.head(mean)


def milliseconds(work: Callable[..., object], *arguments: object) -> float:
    """Wall time of one call."""
    started = time.perf_counter()
    work(*arguments)
    return 1000 * (time.perf_counter() - started)


def machine() -> dict[str, object]:
    """What the numbers depend on."""
    described = Path("/proc/cpuinfo")
    lines = described.read_text().splitlines() if described.exists() else []
    models = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit.stdout.strip(),
        "cpu": models[0] if models else platform.processor(),
        "threads": torch.get_num_threads(),
        "dtype": "bfloat16",
        "python": platform.python_version(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
    }


def _spread(values: list[float], digits: int) -> str:
    median, low, high = values
    return f"{median:.{digits}f} ({low:.{digits}f}-{high:.{digits}f})"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--layers", type=int, default=28)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    encoder = random_encoder(released_shape(arguments.layers))
    padded = PaddedReference(encoder)
    runtime = TorchRuntime(encoder, device="cpu", dtype="bfloat16")
    generator = np.random.default_rng(0)
    results = []
    header = ("packed ms/text", "padded ms/text", "padded / packed")
    print(f"{'batch':>14} {'ratio':>5} " + " ".join(f"{heading:>22}" for heading in header))
    for name, lengths in BATCHES.items():
        rows = [generator.integers(0, 151_000, length) for length in lengths]
        counts = np.array(lengths)
        for label, ratio in RATIOS.items():
            targets = target_lengths(counts, ratio=ratio or 1.0, threshold=THRESHOLD)
            batch = pack(rows)
            ours, theirs = (
                torch.from_numpy(runtime.embed(batch, targets)),
                padded(rows, ratio),
            )  # also warms up
            cosine = float(F.cosine_similarity(ours, theirs).min())
            assert cosine > 0.99, f"{name} at {label}: the two sides disagree, cosine {cosine}"
            times = [
                (milliseconds(runtime.embed, batch, targets), milliseconds(padded, rows, ratio))
                for _ in range(arguments.rounds)
            ]
            row: dict[str, Any] = {"batch": name, "ratio": label, "min_cosine": round(cosine, 5)}
            for key, values in (
                ("packed_ms", [ours / len(rows) for ours, _ in times]),
                ("padded_ms", [theirs / len(rows) for _, theirs in times]),
                ("speedup", [theirs / ours for ours, theirs in times]),
            ):
                row[key] = [round(f(values), 2) for f in (statistics.median, min, max)]
            results.append(row)
            cells = [_spread(row["packed_ms"], 0), _spread(row["padded_ms"], 0), _spread(row["speedup"], 2)]
            print(f"{name:>14} {label:>5} " + " ".join(f"{cell:>22}" for cell in cells), flush=True)
    report = {**machine(), "layers": arguments.layers, "rounds": arguments.rounds, "results": results}
    if arguments.output:
        arguments.output.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report))


if __name__ == "__main__":
    main()
