"""The whole model trained with each compressor, alike and by ranking; several seeds; judged by retrieval.

    python -m lab.compressors.arms.long run mini data/train RUNS --sets data/eval/retrieval/xquad_en ...
    python -m lab.compressors.arms.long table RUNS --output results.json

Fixed before the first run:

- Primary endpoint: nDCG@10 at ratio 0.1 of queries whose answer has 257 to 512 tokens, both validation sets
  of lab/compressors/windows.py together, against ``disjoint-average`` of the same seed, mean over seeds. An
  arm wins if 95 % (bootstrap over queries of that mean) lies above 0 and at 0.33 its mean is not below.
- Second: the loss from ratio 1 to 0.1 (same model, same queries) against that of ``adaptive-average``; half
  of it is the aim.
- ``--sets`` are for the report; nothing is chosen by them.

Objective: each batch is made of four pairs and the three nearest answers of each with their queries, so that
neighbours are told apart, not strangers. Queries at ratio 1 must find their answer among the batch's
(InfoNCE), and answer and query must each rank their nearest texts and queries as the untrained model's
vectors at ratio 1 do (KL; those are looked up). Answers are compressed, ratios log-uniform, at a threshold
below the user's: windows of 1 to 10 tokens. Everything but the token table is trained; parameters that an arm
adds learn faster. Texts, ratios and their order depend on the seed alone.

Shape legend: N pairs, E width of the vectors, B pairs of a batch, K candidates.
"""

import argparse
import json
import time
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from jaspertc import Embedder
from jaspertc.checkpoint import load_checkpoint, resolve
from jaspertc.checkpoint.save import save_changed
from jaspertc.engine.embedder import Embedder as Engine
from jaspertc.engine.precision import normalized
from jaspertc.losses import contrastive_loss, positive_indices
from jaspertc.model.compressors import COMPRESSORS, build_compressor
from jaspertc.model.encoder import Encoder
from jaspertc.model.lengths import target_lengths
from jaspertc.reports.origin import machine, versions
from jaspertc.text.packing import pack
from jaspertc.train.watching import encode_rows
from jaspertc.types import FloatArray, IntArray
from lab.compressors.arms import ARMS, CONTROLS
from lab.compressors.arms.after_layers import AfterLayers
from lab.compressors.arms.train import DRAWN, NEAREST, TEMPERATURE, long_answers, ranking_loss
from lab.compressors.windows import MOST, VALIDATION, pairs, strata
from lab.search.sets import RetrievalSet, interval, load_set, ndcg, ranked

RATIOS = (1.0, 0.33, 0.1)
LOWEST, HIGHEST = 0.05, 0.6  # ratios in training, log-uniform
THRESHOLD = 32  # in training
GROUPS, NEIGHBOURS = 4, 3
RATE, FASTER = 2e-5, {"weighted-average": 500, "slot-average": 500}  # others: 50 times
WARM_UP = 10
LONGEST = "257-512"
LATER = {"after-1-layer": 1, "after-2-layers": 2}
BASE = "disjoint-average"


@dataclass(frozen=True)
class Pairs:
    """Pairs to train on; the bank is the untrained model's vectors at 1 of texts, then of queries, (2 N, E).

    Attributes:
        similar: of each text, the nearest other texts, shape (N, NEIGHBOURS).
        nearest: of each text and query, rows of the bank: itself first, then its other half, then the
            nearest, shape (2 N, K).
    """

    texts: list[IntArray]
    queries: list[IntArray]
    bank: Tensor
    similar: IntArray
    nearest: Tensor


def read_pairs(embedder: Engine, folder: Path, each: int, cache: Path) -> Pairs:
    """Pairs with long answers, none of them a validation pair. The bank is kept in a file of ``cache``."""
    found = long_answers(embedder, folder, each)
    texts = embedder.tokenize(list(found), prompt=embedder.prompts["document"])
    queries = embedder.tokenize(list(found.values()), prompt=embedder.prompts["query"], max_length=MOST)
    path = cache / f"bank-{embedder.fingerprint[:12]}-{each}.npy"
    if not path.exists():
        np.save(path.with_suffix(".part.npy"), embedder.encode_ids(texts + queries, ratio=1.0))
        path.with_suffix(".part.npy").rename(path)
    bank = torch.from_numpy(np.load(path))
    number, count = torch.arange(2 * len(texts)), len(texts)
    scores = bank @ bank.T
    scores[number, number] = -torch.inf
    similar = scores[:count, :count].topk(NEIGHBOURS, dim=1).indices.numpy()
    scores[number, number] = torch.inf
    scores[number, (number + count) % len(number)] = torch.finfo().max
    return Pairs(texts, queries, bank, similar, scores.topk(NEAREST + 2, dim=1).indices)


def with_arm(encoder: Encoder, arm: str, seed: int) -> tuple[Encoder, list[str]]:
    """A copy of the encoder with the arm in it, and the names of parameters that it did not have."""
    torch.manual_seed(seed)
    new = deepcopy(encoder)
    if arm in LATER:
        return AfterLayers.of(new, LATER[arm]), []
    before = new.compressor
    config = COMPRESSORS[arm].read_config({**vars(before.config), "kind": arm})
    new.compressor = build_compressor(config, new.config.backbone.hidden_size)
    missing = new.compressor.load_state_dict(before.state_dict(), strict=False).missing_keys
    return new, [f"compressor.{name}" for name in missing]


def batch_of(data: Pairs, random: np.random.Generator) -> IntArray:
    """Numbers of pairs whose texts are near each other in groups, shape (B,), none twice."""
    size = GROUPS * (1 + NEIGHBOURS)
    chosen: dict[int, None] = {}
    for first in random.permutation(len(data.texts)).tolist():
        chosen |= dict.fromkeys([first, *data.similar[first].tolist()])
        if len(chosen) >= size:
            break
    return np.array([*chosen][:size])


def train(encoder: Encoder, own: list[str], faster: float, data: Pairs, steps: int, seed: int) -> list[float]:
    """Train in place; the loss of each step."""
    random = np.random.default_rng(seed)
    encoder.requires_grad_(True).train()
    encoder.backbone.token_table.requires_grad_(False)
    learns = {name: each for name, each in encoder.named_parameters() if each.requires_grad}
    groups = [
        {"params": [each for name, each in learns.items() if (name in own) == new], "lr": rate}
        for new, rate in ((False, RATE), (True, faster * RATE))
    ]
    optimizer = torch.optim.AdamW([each for each in groups if each["params"]], weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1, (step + 1) / WARM_UP) * (1 - step / steps)
    )
    losses = []
    for _ in range(steps):
        rows = batch_of(data, random)
        ratios = np.exp(random.uniform(np.log(LOWEST), np.log(HIGHEST), len(rows)))
        drawn = torch.from_numpy(random.integers(len(data.bank), size=(2 * len(rows), DRAWN)))
        batch = pack([data.texts[row] for row in rows] + [data.queries[row] for row in rows])
        targets = target_lengths(
            batch.lengths, ratio=np.append(ratios, np.ones(len(rows))), threshold=THRESHOLD
        )
        vectors = F.normalize(encoder(batch, targets), dim=1)
        texts, queries = vectors.split(len(rows))
        of_bank = torch.from_numpy(np.append(rows, rows + len(data.texts)))
        loss = 2 * ranking_loss(vectors, of_bank, drawn, data)
        loss += contrastive_loss(queries, texts, positive_indices(len(rows), 0), temperature=TEMPERATURE)
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(list(learns.values()), 1.0)
        optimizer.step()
        schedule.step()
        losses.append(round(float(loss.detach()), 4))
    encoder.eval().requires_grad_(False)
    return losses


def vectors_of(encoder: Encoder, texts: list[IntArray], ratio: float) -> FloatArray:
    """Unit vectors as users get them, shape (N, E)."""
    threshold = encoder.config.compressor.threshold
    return normalized(encode_rows(encoder, texts, ratio=ratio, threshold=threshold))


def gains_of(encoder: Encoder, embedder: Engine, task: RetrievalSet) -> dict[float, FloatArray]:
    """nDCG@10 of each query, shape (Q,), by the documents' ratio; what is over 512 tokens is cut."""
    encoder.fold()
    asked = vectors_of(encoder, embedder.tokenize(task.queries, prompt=embedder.prompts["query"]), 1.0)
    documents = embedder.tokenize(task.documents, prompt=embedder.prompts["document"], max_length=MOST)
    return {
        ratio: ndcg(ranked(asked @ vectors_of(encoder, documents, ratio).T, task.document_ids), task)
        for ratio in RATIOS
    }


def save(encoder: Encoder, embedder: Engine, folder: Path) -> None:
    """A trained model as a checkpoint, to be judged by other commands."""
    save_changed(folder, embedder.checkpoint, encoder, weights="float32")


def run(options: argparse.Namespace) -> None:
    """Each arm and seed that the folder does not hold yet: a file of gains and one of facts."""
    embedder = Embedder.load(options.model)
    encoder = load_checkpoint(resolve(options.model)).encoder.float().eval()
    tasks = [
        pairs(embedder, options.data / f"{name}.jsonl.gz", sources, options.most)
        for name, sources in VALIDATION.items()
    ]
    tasks += [load_set(folder) for folder in options.sets]
    options.runs.mkdir(parents=True, exist_ok=True)
    data = None
    for seed in range(options.seeds):
        for arm in options.arms:
            name = arm.removeprefix("untrained:")
            path = options.runs / f"{arm.replace(':', '-')}-{seed}.npz"
            if path.exists() or (seed and name != arm):
                continue
            trained, own = with_arm(encoder, name, seed)
            begin, losses = time.monotonic(), list[float]()
            if name == arm:
                data = data or read_pairs(embedder, options.data, options.each, options.runs)
                losses = train(trained, own, FASTER.get(name, 50), data, options.steps, seed)
                if options.models:
                    save(trained, embedder, options.models / f"{name}-{seed}")
            seconds = round(time.monotonic() - begin)
            found = {}
            for task in tasks:
                for stratum, here in strata(embedder, task).items():
                    found[f"{task.name}|{stratum}"] = np.flatnonzero(here)
                for ratio, gains in gains_of(trained, embedder, task).items():
                    found[f"{task.name}|{ratio:g}"] = gains
            facts = {"arm": arm, "seed": seed, "losses": losses, "seconds": seconds, "steps": options.steps}
            facts |= {"pairs": len(data.texts) if data else 0, "model": embedder.fingerprint}
            facts |= {"processor": machine(), "versions": versions("jaspertc", "numpy", "torch")}
            np.savez_compressed(path.with_suffix(".part.npz"), facts=json.dumps(facts), **found)
            path.with_suffix(".part.npz").rename(path)
            print(arm, seed, f"{seconds} s", losses[:1], losses[-1:], flush=True)


@dataclass(frozen=True)
class Run:
    """What ``run`` left of one arm and seed."""

    facts: dict[str, object]
    arrays: dict[str, "np.ndarray"]

    @classmethod
    def read(cls, path: Path) -> "Run":
        with np.load(path) as file:
            arrays = dict(file)
        return cls(json.loads(str(arrays.pop("facts"))), arrays)

    def sets(self) -> list[str]:
        return [name.removesuffix("|all") for name in self.arrays if name.endswith("|all")]

    def gains(self, sets: list[str], stratum: str, ratio: float) -> FloatArray:
        """nDCG@10 of the stratum's queries of these sets, one after another."""
        parts = [self.arrays[f"{name}|{ratio:g}"][self.arrays[f"{name}|{stratum}"]] for name in sets]
        return np.concatenate(parts)


def table(options: argparse.Namespace) -> None:
    """Means over seeds by arm, sets, stratum and ratio, and what they differ from the base of these seeds."""
    runs: dict[str, dict[int, Run]] = {}
    for path in sorted(options.runs.glob("*[0-9].npz")):
        found = Run.read(path)
        runs.setdefault(str(found.facts["arm"]), {})[int(str(found.facts["seed"]))] = found
    some = next(iter(runs[BASE].values()))
    validation = [name for name in some.sets() if name.split()[0] in VALIDATION]
    asked = {"validation": validation} | {name: [name] for name in some.sets()}
    rows = []
    for arm, seeds in runs.items():
        for name, stratum in ((name, stratum) for name in asked for stratum in (LONGEST, "all")):
            row: dict[str, object] = {"arm": arm, "queries": f"{name}, {stratum}"}
            for ratio in RATIOS:
                own = {n: each.gains(asked[name], stratum, ratio) for n, each in seeds.items()}
                row["count"] = len(own[min(own)])
                row[f"{ratio:g}"] = round(100 * float(np.mean(list(own.values()))), 2)
                row[f"{ratio:g}, by seed"] = [round(100 * float(each.mean()), 2) for each in own.values()]
                differences = [
                    each - runs[BASE][n].gains(asked[name], stratum, ratio)
                    for n, each in own.items()
                    if n in runs[BASE]
                ]
                row[f"{ratio:g}, against {BASE}"] = interval(np.mean(differences, axis=0))
            rows.append(row)
            print(json.dumps(row, ensure_ascii=False))
    if options.output:
        facts = [each.facts for seeds in runs.values() for each in seeds.values()]
        text = json.dumps({"runs": facts, "rows": rows}, indent=1, ensure_ascii=False)
        options.output.write_text(text + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(required=True)
    running = commands.add_parser("run")
    running.add_argument("model")
    running.add_argument("data", type=Path)
    running.add_argument("runs", type=Path)
    running.add_argument("--arms", nargs="*", default=[BASE, "adaptive-average", *ARMS, *LATER, "wider-mlp"])
    running.add_argument("--sets", nargs="*", type=Path, default=[])
    running.add_argument("--each", type=int, default=2000, help="training pairs of a language")
    running.add_argument("--steps", type=int, default=80)
    running.add_argument("--seeds", type=int, default=3)
    running.add_argument("--most", type=int, default=300, help="validation pairs of a file")
    running.add_argument("--models", type=Path, help="keep trained models in this folder")
    running.set_defaults(do=run)
    showing = commands.add_parser("table")
    showing.add_argument("runs", type=Path)
    showing.add_argument("--output", type=Path)
    showing.set_defaults(do=table)
    options = parser.parse_args()
    COMPRESSORS.update(ARMS | CONTROLS)
    options.do(options)


if __name__ == "__main__":
    main()
