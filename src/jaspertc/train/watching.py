"""How good a student is during training: against people's judgements, and against its teachers.

Shape legend: N texts, E width.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from jaspertc.engine.batching import plan_batches
from jaspertc.model.encoder import Encoder
from jaspertc.recipe.recipe import Recipe
from jaspertc.teachers.fusion import unit
from jaspertc.teaching.measures import cosines, retrieval_scores, spearman
from jaspertc.teaching.validation import PairSet, RetrievalSet, read_validation
from jaspertc.text.packing import pack
from jaspertc.text.tokenizer import Tokenizer
from jaspertc.train.batches import TargetsOf, targets_by_role
from jaspertc.train.step import autocast
from jaspertc.train.tokens import Tokens, tokenize
from jaspertc.types import FloatArray, IntArray

Rows = Sequence[IntArray]

NEIGHBOURS = 10
TOKEN_BUDGET = 4096


def encode_rows(
    encoder: Encoder, rows: Rows, *, ratio: float, threshold: int, dtype: torch.dtype = torch.float32
) -> FloatArray:
    """The encoder's vectors, not normalised, of N rows of token ids: shape (N, E).

    A model without compressor is run at ratio 1.
    """
    ratio = ratio if encoder.compressor.can_compress else 1.0
    lengths = np.array([len(row) for row in rows], dtype=np.int64)
    targets = encoder.compressor.target_lengths(
        lengths, ratio=ratio, threshold=threshold, max_compressed=encoder.config.backbone.max_positions
    )
    device = encoder.backbone.token_table.weight.device
    result: FloatArray | None = None
    training = encoder.training
    encoder.eval()
    try:
        with torch.inference_mode(), autocast(device, dtype, cache=True):
            for piece in plan_batches(targets, lengths, token_budget=TOKEN_BUDGET):
                batch = pack([rows[number] for number in piece.tolist()])
                vectors = encoder(batch, targets[piece]).float().cpu().numpy()
                if result is None:
                    result = np.empty((len(rows), vectors.shape[1]), np.float32)
                result[piece] = vectors
    finally:
        encoder.train(training)
    assert result is not None
    return result


def neighbour_retention(student: FloatArray, targets: FloatArray, count: int = NEIGHBOURS) -> float:
    """Share of each text's nearest ``count`` texts by the target that are the student's, too, in [0, 1].

    Args:
        student: shape (N, E), N > ``count``.
        targets: of the same texts, any width.

    >>> x = np.array([[1, 0], [0.9, 0.1], [0, 1]], np.float32)
    >>> neighbour_retention(x, x, 1)
    1.0
    """
    nearest = [_nearest(unit(vectors), count) for vectors in (student, targets)]
    common = [len(set(a.tolist()) & set(b.tolist())) for a, b in zip(*nearest)]
    return float(np.mean(common) / count)


def _nearest(vectors: FloatArray, count: int) -> IntArray:
    scores = vectors @ vectors.T
    np.fill_diagonal(scores, -np.inf)
    nearest: IntArray = np.argpartition(-scores, count - 1, axis=1)[:, :count]
    return nearest


@dataclass(frozen=True, kw_only=True)
class _Pairs:
    set: PairSet
    first: Rows
    second: Rows


@dataclass(frozen=True, kw_only=True)
class _Retrieval:
    set: RetrievalSet
    queries: Rows
    documents: Rows


class Watch:
    """Scores an encoder at several ratios.

    Args:
        held_out: numbers of texts that are never trained on, shape (N,).
        threshold: length threshold, in tokens.

    Raises:
        ConfigError: a validation set is empty.
        DataFileError: a file cannot be read.
    """

    def __init__(
        self, recipe: Recipe, tokenizer: Tokenizer, tokens: Tokens, held_out: IntArray, targets_of: TargetsOf
    ) -> None:
        assert recipe.student is not None
        assert recipe.training is not None
        self.ratios = recipe.training.ratios
        student = recipe.student

        def rows(role: str, texts: Sequence[str]) -> Rows:
            return tokenize(list(texts), role, student, tokenizer)

        pairs, retrieval = read_validation(recipe.validation) if recipe.validation else ([], [])
        self._pairs = [
            _Pairs(set=item, first=rows(item.role, item.first), second=rows(item.role, item.second))
            for item in pairs
        ]
        self._retrieval = [
            _Retrieval(
                set=item,
                queries=rows(item.query_role, item.queries),
                documents=rows(item.document_role, item.documents),
            )
            for item in retrieval
        ]
        self._held_out = [tokens.row(number) for number in held_out.tolist()]
        self._targets = targets_by_role(tokens, held_out, targets_of) if len(held_out) else None

    def scores(
        self, encoder: Encoder, *, threshold: int, dtype: torch.dtype = torch.float32
    ) -> dict[str, dict[str, float]]:
        """Scores by ratio and name: Spearman of each sts set, nDCG@10 of each retrieval set, and of the
        held-out texts the mean cosine to the target and the retention of its neighbours.
        """
        ratios = self.ratios if encoder.compressor.can_compress else (1.0,)

        def scores_at(ratio: float) -> dict[str, float]:
            def vectors(rows: Rows) -> FloatArray:
                return encode_rows(encoder, rows, ratio=ratio, threshold=threshold, dtype=dtype)

            return self._scores(vectors)

        return {f"{ratio:g}": scores_at(ratio) for ratio in ratios}

    def _scores(self, vectors: Callable[[Rows], FloatArray]) -> dict[str, float]:
        scores: dict[str, float] = {}
        for pair in self._pairs:
            likeness = cosines(vectors(pair.first), vectors(pair.second))
            scores[f"{pair.set.name} Spearman"] = spearman(likeness, pair.set.scores)
        for item in self._retrieval:
            _, gain = retrieval_scores(vectors(item.queries), vectors(item.documents), item.set.relevant)
            scores[f"{item.set.name} nDCG@10"] = gain
        if self._targets is not None:
            held_out = vectors(self._held_out)
            if held_out.shape[1] == self._targets.shape[1]:
                scores["cosine to target"] = float(cosines(held_out, self._targets).mean())
            if len(held_out) > NEIGHBOURS:
                scores["neighbours kept"] = neighbour_retention(held_out, self._targets)
        return scores
