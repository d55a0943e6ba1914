"""What a stage minimises: a weighted sum of losses over the whole batch.

Shape legend: B texts of the batch, E width of the target, H widths of all vectors of a text side by side.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from jaspertc.errors import ConfigError
from jaspertc.losses import (
    contrastive_loss,
    cosine_loss,
    positive_indices,
    relative_similarity_loss,
    similarity_loss,
    soft_distillation_loss,
)
from jaspertc.recipe.stages import Objective


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
    own, *extra = torch.split(student, _widths(objective, student.shape[1]), dim=1)
    if objective.cosine and own.shape[1] != teacher.shape[1]:
        raise ConfigError(
            f"the student's vectors have {own.shape[1]} dimensions and the targets {teacher.shape[1]}, but "
            "the cosine loss needs the same; give the student a head of the target's width"
        )
    spaces = [own, *(own[:, :width] for width in objective.matryoshka), *extra]
    parts: dict[str, Tensor] = {}
    if objective.cosine:
        parts["cosine"] = objective.cosine * cosine_loss(F.normalize(own, dim=-1), teacher)
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
        found = _between_texts(objective, ours, targets, queries=0, negatives=0, seed=seed)
        if objective.contrastive:
            own = torch.arange(len(ours), device=ours.device)
            both = [
                contrastive_loss(one, other, own, temperature=objective.temperature)
                for one, other in ((ours, theirs), (theirs, ours))
            ]
            found["contrastive"] = objective.contrastive * torch.stack(both).mean()
        for name, value in found.items():
            parts[name] = parts[name] + value if name in parts else value
    return parts


def _widths(objective: Objective, total: int) -> list[int]:
    extra = list(objective.matryoshka_heads)
    own = total - sum(extra)
    if own < 1 or any(width > own for width in objective.matryoshka):
        raise ConfigError(
            f"matryoshka widths {[*objective.matryoshka, *extra]} do not fit vectors of {own} dimensions"
        )
    return [own, *extra]


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
