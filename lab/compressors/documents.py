"""Documents only, compressed, learn to rank as they do at ratio 1; what they rank never moves.

    python -m lab.compressors.documents bank mini data/train FOLDER
    python -m lab.compressors.documents train mini data/train FOLDER --steps 2000

An index is written at a low ratio and asked at ratio 1. So the model's own vectors at ratio 1 of documents
and queries, the bank, are computed once and stay; compressed documents are moved towards them by three
losses over neighbours in the bank, not strangers: a document ranks its nearest documents and queries as its
own vector at 1 does (KL); its query is the first of the queries near it; and it is the first that its query
finds, where all other documents near the query stand as at ratio 1. No query passes through the layers, so
that tokens at a low ratio are most of what a step costs; one document and some queries at ratio 1 hold
what is compared there.

Both commands go on where they were cut off. Everything but the token table is trained.

Shape legend: D documents, Q queries, R = D + Q rows of the bank, E width of the vectors, B documents of a
batch, K candidates.
"""

import argparse
import json
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from jaspertc import Embedder
from jaspertc.checkpoint import load_checkpoint, resolve
from jaspertc.engine.embedder import Embedder as Engine
from jaspertc.engine.options import EncodeOptions
from jaspertc.files.json_lines import read_objects
from jaspertc.reports.origin import machine, versions
from jaspertc.teaching.keys import place_of
from jaspertc.text.packing import pack
from jaspertc.types import FloatArray, IntArray
from lab.compressors.arms.long import gains_of, save
from lab.compressors.arms.train import DRAWN, NEAREST, TEMPERATURE, ranking_loss
from lab.compressors.windows import MOST, VALIDATION, pairs

LEAST = 100  # tokens of a document
MOST_OF = {"pairs_en": 6000, "pairs_zh": 6000, "pairs_en_zh": 2000, "long_texts": 1500, "texts_en": 3000}
MOST_OF |= {"texts_zh": 3000}  # documents of a file; of long texts, before they are cut
LOWEST, HIGHEST = 0.04, 0.6  # ratios, log-uniform
THRESHOLD = 16
BATCH, SHORT = 32, 12  # documents, and queries at ratio 1, of a step
OTHERS = 64  # queries near a document, and documents near a query
HELD = 4.0  # weight of the cosine of short rows to their own vectors
WARM_UP, KEPT, VALIDATED = 50, 100, 400  # steps


@dataclass(frozen=True)
class Bank:
    """What is learnt, and what is ranked: vectors at ratio 1 of documents, then of queries, shape (R, E).

    Attributes:
        query_of: each document's query as a row of the bank, or -1, shape (D,).
        nearest: of each document, rows of the bank: itself, its query or the next, then the nearest, (D, K).
        queries: of each document, the nearest queries that are not its own, rows of the bank, (D, OTHERS).
        found: of each document that has a query, the other documents nearest to that, (D, OTHERS).
    """

    documents: list[IntArray]
    asked: list[IntArray]
    bank: Tensor
    query_of: Tensor
    nearest: Tensor
    queries: Tensor
    found: Tensor


def texts_of(embedder: Engine, folder: Path) -> tuple[list[IntArray], list[str], list[int]]:
    """Token ids of documents; queries; and of each document which of them is its own, or -1."""
    documents: list[IntArray] = []
    queries: list[str] = []
    own: list[int] = []
    prompt = embedder.prompts["document"]
    for name, most in MOST_OF.items():
        rows = [row for _, row in read_objects(folder / f"{name}.jsonl.gz")]
        if name.startswith("pairs"):
            rows = [row for row in rows if place_of(f"q:{row['id']}") < 0.6]  # no validation pair
        rows.sort(key=lambda row: place_of(f"documents {row['id']}"))
        kept: dict[str, tuple[str | None, IntArray]] = {}
        for start in range(0, len(rows), 4096):
            texts = {
                row.get("positive") or row["text"]: row.get("query") for row in rows[start : start + 4096]
            }
            ids = embedder.tokenize(list(texts), prompt=prompt)
            long = name == "long_texts"
            kept |= {
                text: (query, row)
                for (text, query), row in zip(texts.items(), ids)
                if len(row) >= LEAST and (long or len(row) <= MOST)
            }
            if len(kept) >= most:
                break
        for text, (query, ids) in list(kept.items())[:most]:
            fitted = embedder.texts.fitting.fit(
                [ids], np.array(1.0), EncodeOptions(), texts=[text], prompt=prompt
            )
            documents += fitted.texts.rows
            own += [-1 if query is None else len(queries)] * len(fitted.texts.rows)
            queries += [] if query is None else [query]
    return documents, queries, own


def read_bank(embedder: Engine, data: Path, folder: Path) -> Bank:
    """The bank, whose vectors are computed in blocks that are kept."""
    documents, queries, own = texts_of(embedder, data)
    asked = embedder.tokenize(queries, prompt=embedder.prompts["query"])
    rows, block, parts = documents + asked, 1024, list[FloatArray]()
    for start in range(0, len(rows), block):
        path = folder / f"bank-{embedder.fingerprint[:12]}-{len(rows)}-{start}.npy"
        if not path.exists():
            np.save(
                path.with_suffix(".part.npy"), embedder.encode_ids(rows[start : start + block], ratio=1.0)
            )
            path.with_suffix(".part.npy").rename(path)
            print(f"bank: {start + block:,} of {len(rows):,}", flush=True)
        parts.append(np.load(path))
    bank, count = torch.from_numpy(np.concatenate(parts)), len(documents)
    query_of = torch.tensor([count + query if query >= 0 else -1 for query in own])
    lists: list[list[Tensor]] = [[], [], []]
    for part in torch.arange(count).split(1024):
        scores = bank[part] @ bank.T
        has, line = query_of[part] >= 0, torch.arange(len(part))
        scores[line[has], query_of[part][has]] = -torch.inf
        lists[1].append(count + scores[:, count:].topk(OTHERS, dim=1).indices)
        scores[line, part] = torch.inf
        scores[line[has], query_of[part][has]] = torch.finfo().max
        lists[0].append(scores.topk(NEAREST + 2, dim=1).indices)
        found = bank[query_of[part]] @ bank[:count].T
        found[line, part] = -torch.inf
        # A piece of the same text, or the same text again, is no wrong answer.
        found[query_of[part][:, None] == query_of[None, :]] = -torch.inf
        lists[2].append(found.topk(OTHERS, dim=1).indices)
    return Bank(documents, asked, bank, query_of, *(torch.cat(each) for each in lists))


def loss_of(vectors: Tensor, rows: Tensor, drawn: Tensor, data: Bank, pairs_weight: float) -> Tensor:
    """The three losses of compressed documents' unit vectors, (B, E), of the documents ``rows``, (B,)."""
    loss = 2 * ranking_loss(vectors, rows, drawn, data)
    has = data.query_of[rows] >= 0
    if not pairs_weight or not has.any():
        return loss
    rows, vectors = rows[has], vectors[has]
    query = data.bank[data.query_of[rows]]
    own = (vectors * query).sum(1, keepdim=True)
    asked = (data.bank[data.queries[rows]] @ vectors[:, :, None])[..., 0]
    found = (data.bank[data.found[rows]] @ query[:, :, None])[..., 0]
    first = torch.zeros(len(rows), dtype=torch.long)
    for others in (asked, found):
        # Nearer to the query than its own document at ratio 1: it may be as right an answer.
        at_one = (data.bank[rows] * query).sum(1, keepdim=True)
        others = others.masked_fill(others.detach() > at_one + 0.02, -torch.inf)
        scores = torch.cat([own, others], dim=1) / TEMPERATURE
        loss = loss + pairs_weight * F.cross_entropy(scores, first) * len(rows) / len(has)
    return loss


def train(options: argparse.Namespace) -> None:
    """Steps from where the folder's state is; validation and losses as JSON lines."""
    embedder = Embedder.load(options.model)
    data = read_bank(embedder, options.data, options.folder)
    encoder = load_checkpoint(resolve(options.model)).encoder.float()
    encoder.requires_grad_(True).train()
    encoder.backbone.token_table.requires_grad_(False)
    learns = [each for each in encoder.parameters() if each.requires_grad]
    optimizer = torch.optim.AdamW(learns, lr=options.rate, weight_decay=0.0)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1, (step + 1) / WARM_UP) * (1 - step / options.steps)
    )
    tasks = [
        pairs(embedder, options.data / f"{name}.jsonl.gz", sources, 300)
        for name, sources in VALIDATION.items()
    ]
    state, log = options.folder / "state.pt", options.folder / "steps.jsonl"
    begin, losses, read = 0, list[float](), 0
    if state.exists():
        kept = torch.load(state, weights_only=True)
        encoder.load_state_dict(kept["encoder"])
        optimizer.load_state_dict(kept["optimizer"])
        schedule.load_state_dict(kept["schedule"])
        begin, read = kept["step"], kept["tokens"]
    started = time.monotonic()

    def tell(step: int, **facts: object) -> None:
        line = {"step": step, "tokens": read, "seconds": round(time.monotonic() - started), **facts}
        with log.open("a") as file:
            file.write(json.dumps(line) + "\n")
        print(json.dumps(line), flush=True)

    def validated() -> dict[str, float]:
        encoder.eval()
        with torch.no_grad():
            found = {
                f"{task.name.split()[0]} {ratio:g}": round(100 * float(gains.mean()), 2)
                for task in tasks
                for ratio, gains in gains_of(encoder, embedder, task).items()
            }
        encoder.train()
        return found

    if not begin:
        facts = {"processor": machine(), "versions": versions("jaspertc", "numpy", "torch")}
        tell(0, **validated(), model=embedder.fingerprint, documents=len(data.documents), **facts)
    for step in range(begin, options.steps):
        random = np.random.default_rng((options.seed, step))
        rows = random.choice(len(data.documents), BATCH, replace=False)
        short = random.choice(len(data.asked), SHORT, replace=False)
        ratios = np.exp(random.uniform(np.log(LOWEST), np.log(HIGHEST), BATCH))
        ratios[0] = 1.0
        batch = pack([data.documents[row] for row in rows] + [data.asked[row] for row in short])
        targets = encoder.compressor.target_lengths(
            batch.lengths,
            ratio=np.append(ratios, np.ones(SHORT)),
            threshold=THRESHOLD,
            max_compressed=encoder.config.backbone.max_positions,
        )
        vectors = F.normalize(encoder(batch, targets), dim=1)
        drawn = torch.from_numpy(random.integers(len(data.bank), size=(BATCH, DRAWN)))
        loss = loss_of(vectors[:BATCH], torch.from_numpy(rows), drawn, data, options.pairs_weight)
        held = data.bank[len(data.documents) + torch.from_numpy(short)]
        loss = loss + HELD * (1 - (vectors[BATCH:] * held).sum(1)).mean()
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(learns, 1.0)
        optimizer.step()
        schedule.step()
        read += int(batch.lengths.sum())
        losses.append(float(loss.detach()))
        if (step + 1) % KEPT == 0:
            tell(step + 1, loss=round(float(np.mean(losses[-KEPT:])), 4))
            kept = {"encoder": encoder.state_dict(), "optimizer": optimizer.state_dict()}
            kept |= {"schedule": schedule.state_dict(), "step": step + 1, "tokens": read}
            torch.save(kept, state.with_suffix(".part"))
            state.with_suffix(".part").rename(state)
        if (step + 1) % VALIDATED == 0 or step + 1 == options.steps:
            tell(step + 1, **validated())
            shutil.rmtree(options.folder / "model", ignore_errors=True)
            save(encoder, embedder, options.folder / "model")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    commands = parser.add_subparsers(required=True)
    for name in ("bank", "train"):
        command = commands.add_parser(name)
        command.add_argument("model")
        command.add_argument("data", type=Path)
        command.add_argument("folder", type=Path)
        command.set_defaults(do=name)
    command.add_argument("--steps", type=int, default=2000)
    command.add_argument("--rate", type=float, default=3e-5)
    command.add_argument("--pairs-weight", type=float, default=1.0, help="of the losses that know pairs")
    command.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    if options.do == "bank":
        read_bank(Embedder.load(options.model), options.data, options.folder)
    else:
        train(options)


if __name__ == "__main__":
    main()
