"""What a stage minimises: a weighted sum of losses over the whole batch.

Shape legend: B texts of the batch, E width of the target, H widths of all vectors of a text side by side.
"""

from dataclasses import dataclass
from typing import Annotated

import torch
import torch.nn.functional as F
from torch import Tensor

from jaspertc.config import Between, Count, Positive, check_values, require, require_choice
from jaspertc.errors import ConfigError
from jaspertc.losses import (
    KL_DIRECTIONS,
    contrastive_loss,
    cosine_loss,
    positive_indices,
    relative_similarity_loss,
    similarity_loss,
    soft_distillation_loss,
)

WEIGHTS = ("cosine", "similarity", "relative", "contrastive", "soft")
Weight = Annotated[float, Between(0)]


@dataclass(frozen=True, kw_only=True)
class Objective:
    """Loss weights (0 leaves a loss out) and the losses' own settings.

    The report's: stages 1 and 2 ``cosine=10``; stage 3 adds ``similarity=100``; stage 4 is
    ``contrastive=1, soft=16, cosine=10``.

    Args:
        temperature: tau of the contrastive loss, > 0.
        soft_temperature: alpha of the soft loss, > 0.
        kl_direction: see ``losses.soft_distillation_loss``.
        margin: of the relative loss.
        max_terms: most terms of the relative loss.
        matryoshka: widths of prefixes of the vectors, each of which gets all losses but the cosine (which
            needs the target's width).
        matryoshka_heads: widths of further linear heads, trained likewise and left out of the result.
    """

    cosine: Weight = 0.0
    similarity: Weight = 0.0
    relative: Weight = 0.0
    contrastive: Weight = 0.0
    soft: Weight = 0.0
    temperature: Positive = 0.3
    soft_temperature: Positive = 0.1
    kl_direction: str = KL_DIRECTIONS[0]
    margin: float = 0.015
    max_terms: Count = 1_000_000
    matryoshka: tuple[Count, ...] = ()
    matryoshka_heads: tuple[Count, ...] = ()

    def __post_init__(self) -> None:
        check_values(type(self), vars(self))
        require_choice("kl_direction", self.kl_direction, KL_DIRECTIONS)
        weights = {name for name in WEIGHTS if getattr(self, name)}
        require(bool(weights), f"every loss weight is 0; give one of {', '.join(WEIGHTS)}")
        require(
            not (self.matryoshka or self.matryoshka_heads) or weights != {"cosine"},
            "matryoshka widths are given but only the cosine loss, which needs the target's width; add "
            "similarity, relative, contrastive or soft",
        )

    @property
    def needs_pairs(self) -> bool:
        """Whether texts must come as queries with documents."""
        return bool(self.contrastive or self.soft)


def weighted_losses(
    objective: Objective, student: Tensor, teacher: Tensor, *, queries: int, negatives: int, seed: int
) -> dict[str, Tensor]:
    """Each loss in use times its weight; their sum is what is minimised.

    Args:
        student: the student's vectors before normalisation, shape (B, H): its own, then one for each of
            ``objective.matryoshka_heads``. With ``queries`` > 0 first the queries, then their documents as
            (positive, K negatives) query by query.
        teacher: unit targets of the same texts, shape (B, E).
        queries: N, or 0 for plain texts.
        negatives: K.
        seed: of the terms drawn for the relative loss.

    Raises:
        ConfigError: a width does not fit.
    """
    vectors, *extra = torch.split(student, _widths(objective, student.shape[1]), dim=1)
    if objective.cosine and vectors.shape[1] != teacher.shape[1]:
        raise ConfigError(
            f"the student has {vectors.shape[1]} dimensions and the targets {teacher.shape[1]}, but "
            "the cosine loss needs the same; give the student a head of the target's width"
        )
    spaces = [vectors, *(vectors[:, :width] for width in objective.matryoshka), *extra]
    parts: dict[str, Tensor] = {}
    if objective.cosine:
        parts["cosine"] = objective.cosine * cosine_loss(F.normalize(vectors, dim=-1), teacher)
    for space in spaces:
        for name, value in _between_texts(
            objective, F.normalize(space, dim=-1), teacher, queries=queries, negatives=negatives, seed=seed
        ).items():
            parts[name] = parts[name] + value if name in parts else value
    return parts


def picture_losses(
    objective: Objective, pictures: Tensor, targets: Tensor, captions: Tensor, *, seed: int
) -> dict[str, Tensor]:
    """Each loss in use times its weight, between pictures and what the text side says of them.

    Args:
        pictures: vectors before normalisation, shape (B, E).
        targets: unit vectors of what each shows, shape (B, E).
        captions: unit vectors of one caption of each, shape (B, E).
    """
    parts: dict[str, Tensor] = {}
    if objective.cosine:
        parts["cosine"] = objective.cosine * cosine_loss(F.normalize(pictures, dim=-1), targets)
    for width in (None, *objective.matryoshka):
        ours, theirs = (F.normalize(side[:, :width], dim=-1) for side in (pictures, captions))
        between = _between_texts(objective, ours, targets, queries=0, negatives=0, seed=seed)
        if objective.contrastive:
            diagonal = torch.arange(len(ours), device=ours.device)
            both = [
                contrastive_loss(one, other, diagonal, temperature=objective.temperature)
                for one, other in ((ours, theirs), (theirs, ours))
            ]
            between["contrastive"] = objective.contrastive * torch.stack(both).mean()
        for name, value in between.items():
            parts[name] = parts[name] + value if name in parts else value
    return parts


def _widths(objective: Objective, total: int) -> list[int]:
    extra = list(objective.matryoshka_heads)
    first = total - sum(extra)
    if first < 1 or any(width > first for width in objective.matryoshka):
        raise ConfigError(
            f"matryoshka widths {[*objective.matryoshka, *extra]} do not fit vectors of {first} dimensions"
        )
    return [first, *extra]


def _between_texts(
    objective: Objective, student: Tensor, teacher: Tensor, *, queries: int, negatives: int, seed: int
) -> dict[str, Tensor]:
    """The losses that compare texts with each other; they fit vectors of any width."""
    parts: dict[str, Tensor] = {}
    if objective.similarity:
        parts["similarity"] = objective.similarity * similarity_loss(student, teacher)
    if objective.relative:
        generator = torch.Generator().manual_seed(seed)
        parts["relative"] = objective.relative * relative_similarity_loss(
            student, teacher, margin=objective.margin, max_terms=objective.max_terms, generator=generator
        )
    if objective.contrastive and queries:
        positives = positive_indices(queries, negatives)
        parts["contrastive"] = objective.contrastive * contrastive_loss(
            student[:queries], student[queries:], positives, temperature=objective.temperature
        )
    if objective.soft:
        parts["soft"] = objective.soft * soft_distillation_loss(
            (student[:queries], student[queries:]),
            (teacher[:queries], teacher[queries:]),
            temperature=objective.soft_temperature,
            direction=objective.kl_direction,
        )
    return parts
