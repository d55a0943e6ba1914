"""What an encoder asks of a backbone."""

from abc import ABC, abstractmethod
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from jaspertc.config import BackboneConfig
from jaspertc.model.attention import PackedLayout


class Backbone(nn.Module, ABC):
    """Layers over packed (compressed) token embeddings; parameters are named as in Transformers."""

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.config = config
        self.checkpointing = False

    def run(self, layer: nn.Module, *arguments: Any) -> Tensor:
        """A layer's output; with ``checkpointing``, what lies within is computed again for gradients."""
        if self.checkpointing and torch.is_grad_enabled():
            out: Tensor = checkpoint(layer, *arguments, use_reentrant=False)
        else:
            out = layer(*arguments)
        return out

    @property
    @abstractmethod
    def token_table(self) -> nn.Embedding:
        """The lookup table of token embeddings, shape (V, D)."""

    @abstractmethod
    def forward(self, x: Tensor, layout: PackedLayout) -> Tensor:
        """Token embeddings after compression, shape (C, D) -> last hidden states, shape (C, D)."""
