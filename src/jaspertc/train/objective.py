"""What a stage minimises: a weighted sum of losses over the whole batch."""

from dataclasses import dataclass, fields

import torch
from torch import Tensor

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

_WEIGHTS = ("cosine", "similarity", "relative", "contrastive", "soft")


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
    """

    cosine: float = 0.0
    similarity: float = 0.0
    relative: float = 0.0
    contrastive: float = 0.0
    soft: float = 0.0
    temperature: float = 0.3
    soft_temperature: float = 0.1
    kl_direction: str = KL_DIRECTIONS[0]
    margin: float = 0.015
    max_terms: int = 1_000_000

    def __post_init__(self) -> None:
        weights = {name: getattr(self, name) for name in _WEIGHTS}
        for name, value in weights.items():
            if not value >= 0:
                raise ConfigError(f"loss weight {name} is {value}, it must be >= 0")
        if not any(weights.values()):
            raise ConfigError(f"every loss weight is 0; give one of {', '.join(_WEIGHTS)}")
        for item in fields(self):
            if "temperature" in item.name and not getattr(self, item.name) > 0:
                raise ConfigError(f"{item.name} is {getattr(self, item.name)}, it must be > 0")
        if self.kl_direction not in KL_DIRECTIONS:
            raise ConfigError(f"kl_direction is {self.kl_direction!r}, use {' or '.join(KL_DIRECTIONS)}")

    @property
    def needs_pairs(self) -> bool:
        """Whether texts must come as queries with documents."""
        return bool(self.contrastive or self.soft)

    def __call__(
        self, student: Tensor, teacher: Tensor, *, queries: int, negatives: int, seed: int
    ) -> dict[str, Tensor]:
        """Each loss in use times its weight; their sum is what is minimised.

        Args:
            student: unit vectors of B texts, shape (B, E): with ``queries`` > 0 first the queries, then
                their documents as (positive, K negatives) query by query.
            teacher: unit vectors of the same texts, shape (B, E).
            queries: N, or 0 for plain texts.
            negatives: K.
            seed: of the terms drawn for the relative loss.
        """
        parts: dict[str, Tensor] = {}
        if self.cosine:
            parts["cosine"] = self.cosine * cosine_loss(student, teacher)
        if self.similarity:
            parts["similarity"] = self.similarity * similarity_loss(student, teacher)
        if self.relative:
            generator = torch.Generator().manual_seed(seed)
            parts["relative"] = self.relative * relative_similarity_loss(
                student, teacher, margin=self.margin, max_terms=self.max_terms, generator=generator
            )
        if self.contrastive:
            positives = positive_indices(queries, negatives)
            parts["contrastive"] = self.contrastive * contrastive_loss(
                student[:queries], student[queries:], positives, temperature=self.temperature
            )
        if self.soft:
            parts["soft"] = self.soft * soft_distillation_loss(
                (student[:queries], student[queries:]),
                (teacher[:queries], teacher[queries:]),
                temperature=self.soft_temperature,
                direction=self.kl_direction,
            )
        return parts
