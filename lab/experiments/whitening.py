"""A finished model with the directions of its vectors nearer to equal strength; nothing is trained.

    python -m lab.experiments.whitening mini data/train FOLDER --exponent 0.2

Its head is turned to the principal directions of the vectors of training pairs, queries and answers at ratio
1, and each direction is divided by its strength (mean square) to this power: 0 keeps dot products, 0.5 makes
all equally strong. All other weights stay as they are. docs/reports/more-tokens says what it does.
"""

import argparse
from pathlib import Path

import numpy as np
import torch

from jaspertc import Embedder
from jaspertc.checkpoint import load_checkpoint, resolve
from jaspertc.checkpoint.parts import scaled_head, turned_head
from jaspertc.checkpoint.save import save_changed
from jaspertc.files.json_lines import read_objects
from jaspertc.teaching.keys import place_of

FILES = {"pairs_en": "document", "pairs_zh": "document", "pairs_en_zh": "query"}  # role of the answers
WEAKEST = 1e-6  # share of the strongest direction's strength; weaker ones are divided as this one
LAST = 0.9  # validation pairs hash into what is above


def vectors(model: str, data: Path, each: int) -> torch.Tensor:
    """Queries and answers of each file's pairs with the lowest hashes."""
    embedder = Embedder.load(model, device="cpu")
    found = []
    for name, role in FILES.items():
        rows = [row for _, row in read_objects(data / f"{name}.jsonl.gz") if place_of(row["id"]) < LAST]
        rows = sorted(rows, key=lambda row: place_of(row["id"]))[:each]
        found.append(embedder.encode_query([row["query"] for row in rows], ratio=1.0))
        found.append(embedder.encode([row["positive"] for row in rows], prompt_name=role, ratio=1.0))
    return torch.from_numpy(np.concatenate(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model", help="mini, or a checkpoint folder")
    parser.add_argument("data", type=Path, help="folder of pairs_en, pairs_zh and pairs_en_zh")
    parser.add_argument("folder", type=Path, help="where the model is written")
    parser.add_argument("--exponent", type=float, default=0.2)
    parser.add_argument("--each", type=int, default=3000, help="pairs of a file that are measured")
    options = parser.parse_args()
    sample = vectors(options.model, options.data, options.each)
    checkpoint = load_checkpoint(resolve(options.model))
    info = checkpoint.info
    encoder = turned_head(checkpoint.encoder.float(), sample, info.config.embedding_dims)
    strengths = torch.linalg.eigvalsh(sample.double().T @ sample.double()).flip(0)
    factors = (strengths / strengths[0]).clamp(min=WEAKEST) ** -options.exponent
    save_changed(options.folder, checkpoint, scaled_head(encoder, factors.float()), weights="int8")


if __name__ == "__main__":
    main()
