"""The gradients of one optimiser step, over any number of micro-batches and processes.

The loss of a step is defined on the whole batch, however it is cut: vectors of all texts are computed
first, the loss and its gradient with respect to each vector follow on the whole matrix, and each
micro-batch is then run again to carry its rows' gradients back (gradient cache, Gao et al. 2021). So
accumulating or adding processes never shrinks the candidates of a contrastive or similarity loss.

Where the encoder is sharded, every forward and backward pass is a conversation of all processes: they run
as many micro-batches as the one with the most, with empty ones at the end, and keep graphs together or not.

Shape legend: B texts of the whole batch, b texts of this process, E width.
"""

from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import torch
from torch import Tensor

from jaspertc.engine.batching import plan_batches
from jaspertc.machine import computes_bfloat16
from jaspertc.model.encoder import Encoder
from jaspertc.recipe.objective import Objective, weighted_losses
from jaspertc.text.packing import pack
from jaspertc.train.sharding import is_sharded
from jaspertc.types import IntArray


class Batch(Protocol):
    """What one step trains on."""

    @property
    def ids(self) -> Sequence[str]:
        """Names of the texts or pictures, for messages."""

    @property
    def tokens(self) -> int:
        """Tokens before compression, of all together."""


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

    @property
    def tokens(self) -> int:
        """Tokens before compression."""
        return sum(len(row) for row in self.rows)


class Processes(Protocol):
    """What a step asks of the other processes; one process alone is ``Alone``."""

    rank: int
    count: int

    def gather(self, rows: Tensor) -> Tensor:
        """Rows of all processes, in order of rank: (b, E) -> (sum of b, E). No gradient flows."""

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Replace each tensor by its sum over processes."""

    def wait(self) -> None:
        """Return when every process has come here."""


class Alone:
    """One process."""

    rank = 0
    count = 1

    def gather(self, rows: Tensor) -> Tensor:
        return rows

    def add(self, tensors: Sequence[Tensor]) -> None:
        return

    def wait(self) -> None:
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
    graph_tokens: int = 0,
    processes: Processes | None = None,
    gather: bool = True,
    dtype: torch.dtype = torch.float32,
) -> dict[str, float]:
    """Add the gradients of the batch's loss to the parameters' ``grad``, on every process alike.

    Args:
        ratio: compression ratio of the step, in (0, 1].
        threshold: length threshold, in tokens.
        token_budget: compressed tokens a micro-batch may hold; a longer text makes one of its own.
        seed: of random draws within the loss.
        graph_tokens: up to so many compressed tokens, what gradients need is kept and nothing is run twice.
        gather: the loss is that of the whole batch; false: the mean of each process's loss on its own texts.
        dtype: ``torch.bfloat16`` computes the encoder under autocast.

    Returns:
        Each weighted loss by name, and their sum as ``total``.
    """
    processes = processes or Alone()
    shares = _shares(batch, processes.count)
    our_rows = shares[processes.rank]
    sharded = is_sharded(encoder)
    lengths = np.array([len(row) for row in batch.rows], dtype=np.int64)
    targets = encoder.compressor.target_lengths(
        lengths, ratio=ratio, threshold=threshold, max_compressed=encoder.config.backbone.max_positions
    )
    plans = [
        plan_batches(targets[share], lengths[share], token_budget=token_budget)
        for share in (shares if sharded else [our_rows])
    ]
    pieces = plans[processes.rank if sharded else 0]
    rounds = max(1, *(len(plan) for plan in plans))
    pieces += [np.empty(0, np.int64)] * (rounds - len(pieces))
    device = encoder.backbone.token_table.weight.device
    precision = autocast(device, dtype, cache=not sharded)

    def vectors(piece: IntArray) -> Tensor:
        # An empty piece runs the shortest text and keeps nothing of it.
        rows = our_rows[piece] if len(piece) else np.argmin(lengths, keepdims=True)
        with precision:
            out: Tensor = encoder(pack([batch.rows[i] for i in rows.tolist()]), targets[rows])
            return out[: len(piece)]

    most = max(int(targets[share].sum()) for share in (shares if sharded else [our_rows]))
    keep_graph = rounds == 1 or most <= graph_tokens
    with torch.set_grad_enabled(keep_graph):
        parts = [vectors(piece) for piece in pieces]
    order = torch.from_numpy(np.concatenate(pieces)).to(device)
    computed = torch.empty_like(cat := torch.cat(parts).detach()).index_copy_(0, order, cat)

    seen = np.concatenate(shares) if gather else our_rows
    student = processes.gather(computed) if gather else computed.clone()
    back = torch.from_numpy(np.argsort(seen)).to(device)
    student = student[back].requires_grad_()
    teacher = torch.from_numpy(batch.teacher[np.sort(seen)]).to(device)
    queries = batch.queries if gather else int((our_rows < batch.queries).sum())
    losses = weighted_losses(
        objective, student, teacher, queries=queries, negatives=batch.negatives, seed=seed
    )
    total = torch.stack(list(losses.values())).sum()
    (gradient,) = torch.autograd.grad(total, student)
    gradient = gradient[torch.from_numpy(np.searchsorted(np.sort(seen), our_rows)).to(device)]
    if not gather:
        gradient = gradient / processes.count

    for number, piece in enumerate(pieces):
        part = parts[number] if keep_graph else vectors(piece)
        part.backward(gradient[torch.from_numpy(piece).to(device)])  # type: ignore[no-untyped-call]
    if processes.count > 1 and not sharded:
        processes.add([p.grad for p in encoder.parameters() if p.grad is not None])
    return {**{name: float(value.detach()) for name, value in losses.items()}, "total": float(total.detach())}


def autocast(device: torch.device, dtype: torch.dtype, *, cache: bool) -> AbstractContextManager[None]:
    """Autocast, but where float32 is faster (``computes_bfloat16``): it is more exact, too.

    Its cache of weights would hold on to those of all layers of a sharded encoder.
    """
    if dtype == torch.float32 or not computes_bfloat16(device.type):
        return nullcontext()
    return torch.autocast(device.type, dtype, cache_enabled=cache)


def _shares(batch: StepBatch, processes: int) -> list[IntArray]:
    """The texts of each process: each text by itself, or each query with its documents."""
    if not batch.queries:
        return [np.arange(rank, len(batch.rows), processes) for rank in range(processes)]
    group = 1 + batch.negatives
    shares = []
    for rank in range(processes):
        queries = np.arange(rank, batch.queries, processes)
        documents = batch.queries + (queries[:, None] * group + np.arange(group)).reshape(-1)
        shares.append(np.concatenate([queries, documents]))
    return shares
