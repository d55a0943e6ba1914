"""From pooled vector to embedding."""

import torch.nn.functional as F
from torch import Tensor, nn

from jaspertc.config import HeadConfig


class Head(nn.Module):
    """A linear layer (1024 -> 2048 with bias in the released model), or nothing when ``dims`` is 0.

    Computed in float32: it is one product per text, and the vector is what users keep.
    """

    def __init__(self, config: HeadConfig, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, config.dims, bias=config.bias) if config.dims else None

    def forward(self, x: Tensor) -> Tensor:
        """Pooled vectors, shape (N, D) float32 -> embeddings before normalisation, shape (N, E) float32."""
        if self.linear is None:
            return x
        bias = None if self.linear.bias is None else self.linear.bias.to(x.dtype)
        return F.linear(x, self.linear.weight.to(x.dtype), bias)
