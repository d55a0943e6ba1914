"""A turn of a model's vectors after which their first values are vectors of their own.

Turning keeps every cosine between whole vectors. Of all turns this is one whose prefixes find what the whole
vectors find: it is learned from pairs of texts, with the model itself as the teacher.

Shape legend: N pairs, E width of the vectors, W a shorter one.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F
from torch.nn.utils.parametrizations import orthogonal

from jaspertc.checkpoint import Checkpoint
from jaspertc.checkpoint.parts import with_turn
from jaspertc.checkpoint.save import save_changed
from jaspertc.engine.optimize import NOTE
from jaspertc.errors import CheckpointError, InputError
from jaspertc.files.texts import check_fields
from jaspertc.recipe.texts import PairTexts
from jaspertc.teaching.keys import place_of
from jaspertc.teaching.measures import retrieval_scores
from jaspertc.teaching.recipe_texts import read_file
from jaspertc.types import FloatArray

STEPS = 200
BATCH = 768  # pairs of each file, a step
LEARNING_RATE = 3e-3
TEMPERATURE = 0.05
HELD_OUT = 10  # of so many pairs one only judges
LEAST = 100  # pairs in all


@dataclass(frozen=True, kw_only=True)
class Sides:
    """Unit vectors of the pairs of one file: queries and what answers them, shape (N, E) each."""

    queries: FloatArray
    documents: FloatArray

    @property
    def held_out(self) -> int:
        """How many pairs, the last ones, are not learned from."""
        return len(self.queries) // HELD_OUT

    def score(self, turn: FloatArray | None, width: int) -> float:
        """nDCG@10 of the held-out queries among all documents, by the first ``width`` values."""
        count, held = len(self.queries), self.held_out
        sides = (self.queries[count - held :], self.documents)
        queries, documents = ((side if turn is None else side @ turn.T)[:, :width] for side in sides)
        return retrieval_scores(queries, documents, [{row} for row in range(count - held, count)])[1]


def read_pairs(file: PairTexts, count: int) -> tuple[list[str], list[str]]:
    """Both sides of up to ``count`` pairs of a file, drawn by hashes of their ids; the same ones each time.

    Raises:
        InputError: there are fewer than ``LEAST``.
        DataFileError: the file cannot be read, or is of a kind without fields.
    """
    check_fields(file.path)
    options = ("with --query-field", "with --positive-field")
    rows = zip(*(read_file(side, option) for side, option in zip(file.sides, options)))
    drawn = sorted((place_of(f"turn {query.id}"), query.text, answer.text) for query, answer in rows)[:count]
    if len(drawn) < LEAST:
        raise InputError(f"{file.path} holds {len(drawn)} pairs; at least {LEAST} are needed, better 4,000")
    return [query for _, query, _ in drawn], [answer for _, _, answer in drawn]


def check_widths(checkpoint: Checkpoint, widths: Iterable[int]) -> tuple[int, ...]:
    """Widths to learn, ascending.

    Raises:
        InputError: one is not in 1 ... E - 1, or there is none.
        CheckpointError: ``optimize`` wrote the checkpoint, whose parts are of several types.
    """
    if NOTE in checkpoint.info.notes:
        raise CheckpointError(f"{checkpoint.name} is optimised already; give what it was made from")
    whole, widths = checkpoint.info.config.embedding_dims, tuple(sorted(set(widths)))
    if not widths or widths[0] < 1 or widths[-1] >= whole:
        raise InputError(f"dims are {list(widths)}, they must be 1 to {whole - 1}: the model's are {whole}")
    return widths


def learned_turn(
    files: Sequence[Sides],
    widths: Sequence[int],
    *,
    steps: int = STEPS,
    seed: int = 0,
    advance: Callable[[int], None] = lambda count: None,
) -> FloatArray:
    """A turn, shape (E, E): a vector's dot product with row i is value i of the turned one.

    It begins with the principal directions of all vectors, the strongest first, and is learned: at each
    width, prefixes rank the documents of a batch for its queries, and for its documents, as whole vectors do
    (Kullback-Leibler divergence), and rank each query's own document first (cross-entropy, half).

    Args:
        files: batches are of one file each, so that its texts are told apart from their like.
        widths: prefixes, all losses of which are added.
        advance: told of each step.
    """
    learn = [
        tuple(torch.from_numpy(side[: len(side) - file.held_out]) for side in (file.queries, file.documents))
        for file in files
    ]
    turn = _principal([side for sides in learn for side in sides])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        layer = torch.nn.Linear(len(turn), len(turn), bias=False)
        with torch.no_grad():
            layer.weight.copy_(turn)
        orthogonal(layer, orthogonal_map="cayley")
        optimizer = torch.optim.Adam(layer.parameters())
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, LEARNING_RATE, total_steps=steps)
        for _ in range(steps):
            weight, loss = layer.weight, torch.zeros(())
            for queries, documents in learn:
                chosen = torch.randperm(len(queries))[:BATCH]
                loss = loss + _loss(queries[chosen], documents[chosen], weight, widths)
            optimizer.zero_grad()
            loss.backward()  # type: ignore[no-untyped-call]
            optimizer.step()
            schedule.step()
            advance(1)
        learned: FloatArray = layer.weight.detach().numpy()
    return learned


def _principal(sides: Sequence[Tensor]) -> Tensor:
    """The principal directions of vectors, one a row, the strongest first; shape (E, E)."""
    moment = torch.stack([side.double().T @ side.double() for side in sides]).sum(0)
    _, directions = torch.linalg.eigh(moment)
    rows: Tensor = directions.flip(1).T.float()
    return rows


def _loss(queries: Tensor, documents: Tensor, turn: Tensor, widths: Sequence[int]) -> Tensor:
    """Of a batch of pairs, over all widths."""
    turned_queries, turned_documents = queries @ turn.T, documents @ turn.T
    own = torch.eye(len(documents), dtype=torch.bool)
    wanted = _shares(queries @ documents.T)
    alike = _shares((documents @ documents.T).masked_fill(own, -torch.inf))
    loss = torch.zeros(())
    for width in widths:
        q, d = (F.normalize(side[:, :width], dim=1) for side in (turned_queries, turned_documents))
        found = F.log_softmax(q @ d.T / TEMPERATURE, dim=1)
        among = F.log_softmax((d @ d.T).masked_fill(own, -1) / TEMPERATURE, dim=1)
        ranked = -(wanted * found).sum(1).mean() / 2 - (alike * among).sum(1).mean()
        loss = loss + ranked - found.diagonal().mean() / 2
    return loss


def _shares(scores: Tensor) -> Tensor:
    return torch.softmax(scores / TEMPERATURE, dim=1)


def turn_checkpoint(
    checkpoint: Checkpoint, turn: FloatArray, widths: Sequence[int], out: Path, *, overwrite: bool = False
) -> None:
    """Write the checkpoint with turned vectors; all else stays.

    Raises:
        CheckpointError: ``out`` exists.
    """
    save_changed(
        out,
        checkpoint,
        with_turn(checkpoint.encoder, torch.from_numpy(turn), widths),
        weights="int8" if checkpoint.has_int8_weights else "keep",
        overwrite=overwrite,
    )
