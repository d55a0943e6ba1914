"""What an encoder asks of a backbone."""

from abc import ABC, abstractmethod

from torch import Tensor, nn

from jaspertc.config import BackboneConfig
from jaspertc.model.attention import PackedLayout


class Backbone(nn.Module, ABC):
    """Layers over packed (compressed) token embeddings; parameters are named as in Transformers."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.config = config

    @property
    @abstractmethod
    def token_table(self) -> nn.Embedding:
        """The lookup table of token embeddings, shape (V, D)."""

    @abstractmethod
    def forward(self, x: Tensor, layout: PackedLayout) -> Tensor:
        """Token embeddings after compression, shape (C, D) -> last hidden states, shape (C, D)."""
