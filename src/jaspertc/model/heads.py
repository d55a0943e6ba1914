"""From pooled vector to embedding."""

from jaspertc.config import HeadConfig
from jaspertc.pytorch import Tensor, nn, torch
from jaspertc.pytorch import functional as F
from jaspertc.types import FloatArray

SMALL = 1 << 18  # weights that OpenBLAS multiplies with one thread


class Head(nn.Module):
    """A linear layer (1024 -> 2048 with bias in the released model), or nothing when ``dims`` is 0.

    Computed in float32: it is one product per text, and the vector is what users keep.
    """

    def __init__(self, config: HeadConfig, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, config.dims, bias=config.bias) if config.dims else None
        self.extra = nn.ModuleList()  # further heads that are only trained; see train.students

    def forward(self, x: Tensor) -> Tensor:
        """Pooled vectors, shape (N, D) float32 -> embeddings before normalisation, shape (N, E) float32.

        In training, the vectors of the extra heads follow, side by side.
        """
        main = x if self.linear is None else _linear(self.linear, x)
        if self.training and len(self.extra):
            return torch.cat([main, *(_linear(layer, x) for layer in self.extra)], dim=-1)
        return main

    @property
    def is_small(self) -> bool:
        """Whether numpy multiplies by it with one thread; others would wait, spinning, on cores in use."""
        return self.linear is None or self.linear.weight.numel() <= SMALL

    def of_array(self, x: FloatArray) -> FloatArray:
        """``forward`` in inference, of a head in float32 on the CPU, in numpy: (N, D) -> (N, E).

        For one text PyTorch takes three times as long, where other work has emptied the caches.
        """
        if self.linear is None:
            return x
        out: FloatArray = x @ self.linear.weight.detach().numpy().T
        if self.linear.bias is not None:
            out += self.linear.bias.detach().numpy()
        return out


def _linear(layer: nn.Module, x: Tensor) -> Tensor:
    assert isinstance(layer, nn.Linear)
    bias = None if layer.bias is None else layer.bias.to(x.dtype)
    return F.linear(x, layer.weight.to(x.dtype), bias)
