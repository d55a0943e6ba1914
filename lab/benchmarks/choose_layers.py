"""Which layers of a model can go: drops one after the other, the one that is missed least.

Missed least: the similarities among the sample texts correlate best with those of the whole model.

    python lab/benchmarks/choose_layers.py MODEL TEXTS.jsonl.gz MORE.jsonl.gz --to 6
"""

import argparse
import json
import platform
import random
from pathlib import Path

import numpy as np
import torch
from torch import nn

from jaspertc.checkpoint import load_checkpoint
from jaspertc.checkpoint.surgery import kept_layers
from jaspertc.files.texts import read_texts
from jaspertc.train.watching import encode_rows


def sample(paths: list[Path], count: int, seed: int) -> list[str]:
    """``count`` texts of each file."""
    rng = random.Random(seed)
    found: list[str] = []
    for path in paths:
        texts = [row.text for row in read_texts(path)]
        found += rng.sample(texts, min(count, len(texts)))
    return found


class Model:
    """A model whose layers can be left out."""

    def __init__(self, folder: str, texts: list[str], max_length: int, prompt: str) -> None:
        checkpoint = load_checkpoint(folder, pooler="mean")
        self.encoder = checkpoint.encoder.float()
        self.rows = checkpoint.tokenizer.encode_batch(
            [prompt + text for text in texts], max_length=max_length
        )
        backbone = self.encoder.backbone
        *path, self.name = backbone.layers_name.split(".")
        self.holder = backbone.get_submodule(".".join(path))
        self.layers = list(getattr(self.holder, self.name))
        self.whole = self.similarities(list(range(len(self.layers))))

    def similarities(self, keep: list[int]) -> np.ndarray:
        """Cosines of all pairs of centred vectors, with these layers only."""
        setattr(self.holder, self.name, nn.ModuleList(self.layers[index] for index in keep))
        vectors = encode_rows(self.encoder, self.rows, ratio=1.0, threshold=10**9, dtype=torch.bfloat16)
        vectors = vectors - vectors.mean(0)
        vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
        return (vectors @ vectors.T)[np.triu_indices(len(vectors), 1)]

    def agreement(self, keep: list[int]) -> float:
        """Correlation with the whole model's similarities."""
        return float(np.corrcoef(self.similarities(keep), self.whole)[0, 1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("texts", nargs="+", type=Path)
    parser.add_argument("--to", type=int, default=6, help="layers that are left in the end")
    parser.add_argument("--count", type=int, default=220, help="texts of each file")
    parser.add_argument("--max-length", type=int, default=64)
    parser.add_argument("--prompt", default="query: ")
    parser.add_argument("--output", type=Path, help="JSON file for the result")
    options = parser.parse_args()
    model = Model(options.model, sample(options.texts, options.count, 1), options.max_length, options.prompt)
    keep = list(range(len(model.layers)))
    rows = []
    while len(keep) > options.to:
        choices = [[index for index in keep if index != dropped] for dropped in keep]
        scores = [model.agreement(choice) for choice in choices]
        best = int(np.argmax(scores))
        keep = choices[best]
        uniform = kept_layers(len(model.layers), len(keep))
        rows.append(
            {
                "layers": len(keep),
                "keep": keep,
                "agreement": scores[best],
                "every k-th": uniform,
                "its agreement": model.agreement(uniform),
            }
        )
        print(
            f"{len(keep):2d} layers: {scores[best]:.4f} with {keep}; "
            f"{rows[-1]['its agreement']:.4f} with every k-th, {uniform}",
            flush=True,
        )
    result = {
        "model": Path(options.model).name,
        "texts": len(model.rows),
        "max_length": options.max_length,
        "torch": torch.__version__,
        "machine": platform.machine(),
        "rows": rows,
    }
    if options.output:
        options.output.write_text(json.dumps(result, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(result))


if __name__ == "__main__":
    main()
