"""From pixels to rows of the text backbone: features, averaged to k x k, projected to the backbone's width.

Shape legend: N pictures, F features, G features a side of the grid, D width of the backbone.
"""

from dataclasses import dataclass
from math import isqrt

from jaspertc.errors import ConfigError, InputError
from jaspertc.model.vision.base import ImageEncoder
from jaspertc.pytorch import Tensor, nn, torch
from jaspertc.pytorch import functional as F
from jaspertc.types import is_integer


@dataclass(frozen=True, kw_only=True)
class VisionConfig:
    """The picture side of a model, but for its image encoder.

    Args:
        tokens: tokens of a picture where a call names none: a square number.
        mlp_size: middle width of the projection, or 0 for a linear one.
        before: rows before a picture's, which start as those of the first special token and the prompt.
        after: rows after it. A backbone trained on text gives the same vector for every row without them.
    """

    tokens: int = 16
    mlp_size: int = 0
    before: int = 0
    after: int = 0

    def __post_init__(self) -> None:
        if self.tokens < 1 or isqrt(self.tokens) ** 2 != self.tokens:
            raise ConfigError(f"tokens is {self.tokens}, it must be a square number: 1, 4, 9, 16 ...")
        for name in ("mlp_size", "before", "after"):
            if getattr(self, name) < 0:
                raise ConfigError(f"{name} is {getattr(self, name)}, it must be >= 0")


class VisionTower(nn.Module):
    """An image encoder and the projection of its features; rows come out as a text's compressed tokens do."""

    def __init__(self, config: VisionConfig, encoder: ImageEncoder, width: int) -> None:
        super().__init__()
        self.config, self.encoder, self.width = config, encoder, width
        self.side_of(config.tokens)
        wide = config.mlp_size
        self.projection = nn.Sequential(
            nn.LayerNorm(encoder.width),
            *([nn.Linear(encoder.width, wide), nn.GELU()] if wide else []),
            nn.Linear(wide or encoder.width, width),
        )
        self.before = nn.Parameter(torch.zeros(config.before, width))
        self.after = nn.Parameter(torch.zeros(config.after, width))

    def train(self, mode: bool = True) -> "VisionTower":
        super().train(mode)
        self.encoder.eval()  # batch norm keeps its statistics: a step's pictures are too few for new ones
        return self

    @property
    def most_tokens(self) -> int:
        """The largest number of tokens: one for each of the grid's features."""
        return self.encoder.grid**2

    def side_of(self, tokens: int) -> int:
        """k of k x k tokens.

        Raises:
            InputError: not a square number up to ``most_tokens``.
        """
        allowed = [side**2 for side in range(1, self.encoder.grid + 1)]
        if not is_integer(tokens) or tokens not in allowed:
            raise InputError(f"tokens is {tokens!r}, a picture has {', '.join(map(str, allowed))} of them")
        return isqrt(tokens)

    def rows_of(self, tokens: int) -> int:
        """Rows of the backbone that a picture of so many tokens takes."""
        return self.config.before + tokens + self.config.after

    def pool(self, features: Tensor, tokens: int) -> Tensor:
        """Features averaged over k x k parts of a picture: (N, F, G, G) -> (N, tokens, F)."""
        return F.adaptive_avg_pool2d(features, self.side_of(tokens)).flatten(2).transpose(1, 2)

    def forward(self, pooled: Tensor) -> Tensor:
        """``pool``'s result, shape (N, tokens, F) -> rows of the backbone, shape (N x rows_of(tokens), D)."""
        rows = self.projection(pooled)
        ends = [part.expand(len(rows), -1, -1).to(rows.dtype) for part in (self.before, self.after)]
        return torch.cat([ends[0], rows, ends[1]], dim=1).flatten(0, 1)
