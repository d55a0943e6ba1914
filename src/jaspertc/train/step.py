"""The gradients of one optimiser step, over any number of micro-batches and processes.

The loss of a step is defined on the whole batch, however it is cut: vectors of all texts are computed
first, the loss and its gradient with respect to each vector follow on the whole matrix, and each
micro-batch is then run again to carry its rows' gradients back (gradient cache, Gao et al. 2021). So
accumulating or adding processes never shrinks the candidates of a contrastive or similarity loss.

Shape legend: B texts of the whole batch, b texts of this process, E width.
"""

from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from jaspertc.engine.batcher import plan_batches
from jaspertc.model.encoder import Encoder
from jaspertc.text.packing import IntArray, pack
from jaspertc.train.objective import Objective


@dataclass(frozen=True, kw_only=True)
class StepBatch:
    """The texts of one step, the same on every process.

    Attributes:
        rows: token ids of B texts; with ``queries`` > 0 first the queries, then their documents.
        teacher: unit vectors of the B texts, shape (B, E), float32.
        ids: the texts' ids, for messages.
        queries: N, or 0 for plain texts.
        negatives: K.
    """

    rows: Sequence[IntArray]
    teacher: np.ndarray
    ids: Sequence[str]
    queries: int = 0
    negatives: int = 0


class Processes(Protocol):
    """What a step asks of the other processes; one process alone is ``Alone``."""

    rank: int
    count: int

    def gather(self, rows: Tensor) -> Tensor:
        """Rows of all processes, in order of rank: (b, E) -> (sum of b, E). No gradient flows."""

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over processes."""


class Alone:
    """One process."""

    rank = 0
    count = 1

    def gather(self, rows: Tensor) -> Tensor:
        return rows

    def add(self, tensors: Sequence[Tensor]) -> None:
        return


def accumulate_gradients(
    encoder: Encoder,
    batch: StepBatch,
    objective: Objective,
    *,
    ratio: float,
    threshold: int,
    token_budget: int,
    seed: int,
    processes: Processes | None = None,
    dtype: torch.dtype = torch.float32,
) -> dict[str, float]:
    """Add the gradients of the batch's loss to the parameters' ``grad``, on every process alike.

    Args:
        ratio: compression ratio of the step, in (0, 1].
        threshold: length threshold, in tokens.
        token_budget: compressed tokens a micro-batch may hold; a longer text makes one of its own.
        seed: of random draws within the loss.
        dtype: ``torch.bfloat16`` computes the encoder under autocast.

    Returns:
        Each weighted loss by name, and their sum as ``total``.
    """
    processes = processes or Alone()
    own = np.arange(processes.rank, len(batch.rows), processes.count)
    rows = batch.rows[processes.rank :: processes.count]
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    targets = encoder.compressor.target_lengths(
        lengths, ratio=ratio, threshold=threshold, max_compressed=encoder.config.backbone.max_positions
    )
    pieces = plan_batches(targets, lengths, token_budget=token_budget)
    device = encoder.backbone.token_table.weight.device
    precision = nullcontext() if dtype == torch.float32 else torch.autocast(device.type, dtype)

    def vectors(piece: IntArray) -> Tensor:
        with precision:
            return F.normalize(encoder(pack([rows[i] for i in piece.tolist()]), targets[piece]), dim=-1)

    keep_graph = len(pieces) == 1  # then the second pass is not needed
    with torch.set_grad_enabled(keep_graph):
        parts = [vectors(piece) for piece in pieces]
    order = torch.from_numpy(np.concatenate(pieces)).to(device)
    computed = torch.empty_like(cat := torch.cat(parts).detach()).index_copy_(0, order, cat)

    gathered = processes.gather(computed)
    student = _interleaved(gathered, len(batch.rows), processes.count).requires_grad_()
    teacher = torch.from_numpy(batch.teacher).to(device)
    losses = objective(student, teacher, queries=batch.queries, negatives=batch.negatives, seed=seed)
    total = torch.stack(list(losses.values())).sum()
    (gradient,) = torch.autograd.grad(total, student)
    gradient = gradient[torch.from_numpy(own).to(device)]

    for place, piece in enumerate(pieces):
        part = parts[place] if keep_graph else vectors(piece)
        part.backward(gradient[torch.from_numpy(piece).to(device)])  # type: ignore[no-untyped-call]
    if processes.count > 1:
        processes.add([p.grad for p in encoder.parameters() if p.grad is not None])
    return {**{name: float(value.detach()) for name, value in losses.items()}, "total": float(total.detach())}


def _interleaved(gathered: Tensor, texts: int, processes: int) -> Tensor:
    """Undo the dealing out of texts: rank r holds texts r, r + P, r + 2 P ..."""
    if processes == 1:
        return gathered
    order = np.concatenate([np.arange(rank, texts, processes) for rank in range(processes)])
    back = torch.from_numpy(np.argsort(order)).to(gathered.device)
    return gathered[back]
