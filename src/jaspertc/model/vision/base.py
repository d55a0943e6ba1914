"""What the picture side asks of an image encoder: pixels to a grid of features."""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, ClassVar, Self

from jaspertc.pytorch import Tensor, nn


class ImageEncoder(nn.Module, ABC):
    """A network from square pictures to a square grid of features.

    Attributes:
        keys: configuration as it is stored; ``type(self)(**keys)`` has the same shape.
        image_size: S, pixels a side of what it sees.
        grid: G, features a side.
        width: F, numbers of a feature.
        mean: what is subtracted from red, green and blue in [0, 1] ...
        std: ... and what the difference is divided by.
        crop: whether a picture that is not square loses its edges, or is stretched.
    """

    kind: ClassVar[str]
    keys: Mapping[str, Any]
    image_size: int
    grid: int
    width: int
    mean: tuple[float, float, float]
    std: tuple[float, float, float]
    crop: bool = False

    @abstractmethod
    def forward(self, pixels: Tensor) -> Tensor:
        """Normalised pixels, shape (N, 3, S, S), float -> features, shape (N, F, G, G)."""

    @classmethod
    @abstractmethod
    def from_folder(cls, config: Mapping[str, Any], weights: Mapping[str, Tensor]) -> Self | None:
        """What a folder's ``config.json`` and weights describe, or ``None`` if it is of another kind."""
