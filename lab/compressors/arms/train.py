"""Compressors that learn, trained alike for a few steps from one model, layers frozen; judged by retrieval.

    python -m lab.compressors.arms.train mini data/train --output results.json

Primary endpoint, fixed before the first run: nDCG@10 at ratio 0.1 on the Chinese validation pairs of
lab/compressors/windows.py, each arm against ``mlp`` (disjoint windows whose MLP is trained as long), 95 %
bootstrap over queries. An arm wins if its interval is above 0 there and its mean is not below at 0.33.

Objective: a text at 0.1 or 0.33 shall rank its own vector at 1, its query and its nearest texts and queries
as its vector at 1 ranks them: KL over those candidates, which are looked up and never computed. Only the
compressor's own new parameters are trained, so that ratio 1 gives what it gave (of ``mlp``: its MLP).

Shape legend: N texts, E width of the vectors, B texts of a batch, K candidates.
"""

import argparse
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from jaspertc import Embedder
from jaspertc.checkpoint import load_checkpoint, resolve
from jaspertc.engine.embedder import Embedder as Engine
from jaspertc.files.json_lines import read_objects
from jaspertc.model.compressors import COMPRESSORS, Compressor, build_compressor
from jaspertc.model.encoder import Encoder
from jaspertc.model.lengths import target_lengths
from jaspertc.reports.origin import machine, versions
from jaspertc.teaching.keys import place_of
from jaspertc.text.packing import pack
from jaspertc.types import FloatArray, IntArray
from lab.compressors.arms import ARMS
from lab.compressors.windows import LEAST, MOST, VALIDATION, Asked, pairs
from lab.search.sets import interval

RATIOS, SHARES = (0.1, 0.33), (2 / 3, 1 / 3)
BATCH, NEAREST, DRAWN, TEMPERATURE = 16, 64, 64, 0.05
SOURCES = {"pairs_zh": VALIDATION["pairs_zh"], "pairs_en": [*VALIDATION["pairs_en"], "medquad"]}


class Candidates(Protocol):
    """A bank of vectors, (R, E), and of some of its rows the rows that they shall rank, (rows, K)."""

    @property
    def bank(self) -> Tensor: ...

    @property
    def nearest(self) -> Tensor: ...


@dataclass(frozen=True)
class Taught:
    """Texts to train on, and the bank: their vectors at ratio 1, then those of their queries, shape (2 N, E).

    Attributes:
        nearest: of each text, rows of the bank: itself first, then its query, then the nearest, (N, K).
    """

    ids: list[IntArray]
    bank: Tensor
    nearest: Tensor


def long_answers(embedder: Engine, folder: Path, each: int, rows_read: int | None = None) -> dict[str, str]:
    """Long answers with their queries that hash into [0, 0.6): none is of a validation pair.

    Args:
        each: the most of a language.
        rows_read: of a file, in the order of their hashes; ``None``: all.
    """
    found: dict[str, str] = {}
    for name, sources in SOURCES.items():
        rows = [row for _, row in read_objects(folder / f"{name}.jsonl.gz") if row["source"] in sources]
        rows = [row for row in rows if place_of(f"q:{row['id']}") < 0.6]
        rows.sort(key=lambda row: place_of(f"arms {row['id']}"))
        kept = {row["positive"]: row["query"] for row in rows[:rows_read]}
        lengths = [len(ids) for ids in embedder.tokenize(list(kept))]
        long = [item for item, length in zip(kept.items(), lengths) if LEAST <= length <= MOST]
        found.update(long[:each])
    return found


def taught(embedder: Engine, folder: Path, each: int) -> Taught:
    """Texts to train on, and what they have to rank."""
    texts = long_answers(embedder, folder, each, 8 * each)
    ids = embedder.tokenize(list(texts), prompt=embedder.prompts["document"])
    own = embedder.encode_ids(ids, ratio=1.0)
    bank = torch.from_numpy(np.concatenate([own, embedder.encode_query(list(texts.values()), ratio=1.0)]))
    number = torch.arange(len(ids))
    scores = bank[: len(ids)] @ bank.T
    scores[number, number] = torch.inf
    scores[number, number + len(ids)] = torch.finfo().max
    return Taught(ids, bank, scores.topk(NEAREST + 2, dim=1).indices)


def trained(
    encoder: Encoder, data: Taught, kind: str, steps: int, rate: float, seed: int
) -> tuple[Compressor, list[float]]:
    """A compressor in place of the encoder's, and the loss of each step."""
    before = encoder.compressor
    torch.manual_seed(seed)
    random = np.random.default_rng(seed)  # the same texts, ratios and candidates for each arm
    config = {**vars(before.config), "kind": "disjoint-average" if kind == "mlp" else kind}
    new = build_compressor(
        COMPRESSORS[str(config["kind"])].read_config(config), encoder.config.backbone.hidden_size
    )
    new.load_state_dict(before.state_dict(), strict=False)
    known = set() if kind == "mlp" else set(before.state_dict())
    encoder.requires_grad_(False)
    for name, parameter in new.named_parameters():
        parameter.requires_grad_(name not in known)
    learns = [parameter for parameter in new.parameters() if parameter.requires_grad]
    encoder.compressor = new
    encoder.train()
    optimizer = torch.optim.AdamW(learns, lr=rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1, (step + 1) / 5) * (1 - step / steps)
    )
    losses = []
    for _ in range(steps):
        rows = random.choice(len(data.ids), BATCH, replace=False)
        batch = pack([data.ids[row] for row in rows])
        ratios = random.choice(RATIOS, BATCH, p=SHARES)
        drawn = torch.from_numpy(random.integers(len(data.bank), size=(BATCH, DRAWN)))
        targets = target_lengths(batch.lengths, ratio=ratios, threshold=encoder.config.compressor.threshold)
        with torch.autocast("cpu", torch.bfloat16):
            vectors = encoder(batch, targets)
        loss = ranking_loss(vectors.float(), torch.from_numpy(rows), drawn, data)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learns, 1.0)
        optimizer.step()
        schedule.step()
        losses.append(round(float(loss.detach()), 4))
    encoder.compressor = before
    return new.eval().requires_grad_(False), losses


def ranking_loss(vectors: Tensor, rows: Tensor, drawn: Tensor, data: Candidates) -> Tensor:
    """KL(own vector's ranking || these vectors' ranking) of the candidates of the bank's ``rows``.

    (B, E), (B,), and more candidates drawn, (B, drawn) -> ().
    """
    candidates = data.bank[torch.cat([data.nearest[rows], drawn], dim=1)]
    own = data.bank[rows]
    wanted = (candidates @ own[:, :, None])[..., 0] / TEMPERATURE
    found = (candidates @ F.normalize(vectors, dim=1)[:, :, None])[..., 0] / TEMPERATURE
    return F.kl_div(found.log_softmax(1), wanted.log_softmax(1), reduction="batchmean", log_target=True)


def scored(
    embedder: Engine, asked: list[Asked], compressor: Compressor
) -> dict[tuple[str, float], FloatArray]:
    """nDCG@10 of each query by set and ratio."""
    encoder = embedder.runtime.encoder
    encoder.compressor = compressor.to(embedder.runtime.dtype)
    encoder.fold()
    return {(each.task.name, ratio): each.gains(embedder, ratio) for each in asked for ratio in RATIOS}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("model")
    parser.add_argument("data", type=Path)
    parser.add_argument("--arms", nargs="*", default=["mlp", *ARMS])
    parser.add_argument("--each", type=int, default=500, help="training texts of a language")
    parser.add_argument("--steps", type=int, default=48)
    parser.add_argument("--rate", type=float, default=1e-3)
    parser.add_argument("--seeds", type=int, default=1)
    parser.add_argument("--most", type=int, default=400, help="validation pairs of a file")
    parser.add_argument("--output", type=Path)
    options = parser.parse_args()
    COMPRESSORS.update(ARMS)
    embedder = Embedder.load(options.model)
    data = taught(embedder, options.data, options.each)
    encoder = load_checkpoint(resolve(options.model)).encoder.float()
    asked = []
    for name, sources in VALIDATION.items():
        task = pairs(embedder, options.data / f"{name}.jsonl.gz", sources, options.most)
        asked.append(Asked(task, embedder.encode_query(task.queries, ratio=1.0)))
    untrained = scored(embedder, asked, encoder.compressor)
    rows: list[dict[str, object]] = []
    controls: dict[int, dict[tuple[str, float], FloatArray]] = {}

    def report(arm: str, seed: int, found: dict[tuple[str, float], FloatArray], losses: list[float]) -> None:
        for (name, ratio), gains in found.items():
            row = {
                "arm": arm,
                "seed": seed,
                "set": name,
                "ratio": ratio,
                "ndcg@10": round(100 * float(gains.mean()), 2),
                "against untrained, 95 %": interval(gains - untrained[name, ratio]),
                "against mlp, 95 %": interval(gains - controls.get(seed, untrained)[name, ratio]),
                "loss of the first and last ten steps": [
                    round(float(np.mean(part)), 4) for part in (losses[:10], losses[-10:]) if part
                ],
            }
            print(row, flush=True)
            rows.append(row)

    report("untrained", 0, untrained, [])
    for seed in range(options.seeds):
        for arm in options.arms:
            compressor, losses = trained(encoder, data, arm, options.steps, options.rate, seed)
            found = scored(embedder, asked, compressor)
            if arm == "mlp":
                controls[seed] = found
            report(arm, seed, found, losses)
    if options.output:
        facts: dict[str, object] = {"model": embedder.fingerprint, "runtime": repr(embedder)}
        facts |= {"processor": machine(), "versions": versions("jaspertc", "numpy", "torch", "openvino")}
        facts |= {"texts": len(data.ids), "steps": options.steps, "batch": BATCH, "rate": options.rate}
        options.output.write_text(json.dumps(facts | {"rows": rows}, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
