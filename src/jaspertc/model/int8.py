"""Layers whose matrices stay int8 with one scale per row, as they are stored.

For runtimes that compute in int8, and for lookup. Shape legend: I inputs, O outputs, V vocabulary, D width.
"""

from jaspertc.model.shapes_only import shapes_only
from jaspertc.model.weights import int8_rows
from jaspertc.pytorch import Tensor, nn, torch
from jaspertc.pytorch import functional as F


def quantize_rows(weight: Tensor) -> tuple[Tensor, Tensor]:
    """Symmetric int8 with each row's largest value at 127: (O, I) -> int8 (O, I) and scales (O, 1), float32.

    >>> whole, scale = quantize_rows(torch.tensor([[1.0, -2.0], [0.0, 0.0]]))
    >>> whole.tolist(), round(float(scale[0]), 6)
    ([[64, -127], [0, 0]], 0.015748)
    """
    whole, scale = int8_rows(weight)
    return torch.from_numpy(whole), torch.from_numpy(scale)


class Int8Matrix(nn.Module):
    """A matrix of rows, int8, shape (O, I), with scales, float32, shape (O, 1)."""

    def __init__(self, weight: Tensor, scale: Tensor) -> None:
        super().__init__()
        self.weight: Tensor
        self.scale: Tensor
        self.register_buffer("weight", weight)
        self.register_buffer("scale", scale)

    def dense(self) -> Tensor:
        """The matrix in float32, shape (O, I)."""
        return self.weight.float() * self.scale


class Int8Linear(Int8Matrix):
    """``nn.Linear`` with an int8 weight, (O, I); the product is computed in the input's dtype."""

    def __init__(self, weight: Tensor, scale: Tensor, bias: Tensor | None) -> None:
        super().__init__(weight, scale)
        self.bias = None if bias is None else nn.Parameter(bias, requires_grad=False)

    def forward(self, x: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return F.linear(x, self.dense().to(x.dtype), bias)


class Int8Embedding(Int8Matrix):
    """``nn.Embedding`` with int8 rows, (V, D); lookup gives float32."""

    @property
    def num_embeddings(self) -> int:
        """V, the number of rows."""
        return len(self.weight)

    def forward(self, ids: Tensor) -> Tensor:
        return self.weight[ids].float() * self.scale[ids]


def int8_like(module: nn.Module) -> Int8Matrix:
    """The int8 counterpart of an ``nn.Linear`` or ``nn.Embedding``, without values (on the meta device)."""
    assert isinstance(module, (nn.Linear, nn.Embedding))
    rows, width = module.weight.shape
    whole = torch.empty(rows, width, dtype=torch.int8, device="meta")
    scale = torch.empty(rows, 1, device="meta")
    if isinstance(module, nn.Embedding):
        return Int8Embedding(whole, scale)
    return Int8Linear(whole, scale, module.bias)


def dense_like(module: Int8Matrix) -> nn.Linear | nn.Embedding:
    """The float32 counterpart of an int8 layer."""
    rows, width = module.weight.shape
    layer: nn.Linear | nn.Embedding
    with shapes_only():
        if isinstance(module, Int8Linear):
            layer = nn.Linear(width, rows, bias=module.bias is not None)
        else:
            layer = nn.Embedding(rows, width)
    layer.weight = nn.Parameter(module.dense())
    if isinstance(module, Int8Linear) and module.bias is not None:
        layer.bias = module.bias
    return layer


def dequantize(root: nn.Module) -> None:
    """Replace every int8 layer within ``root`` by its float32 counterpart, in place."""
    for name, module in list(root.named_modules()):
        if isinstance(module, Int8Matrix):
            root.set_submodule(name, dense_like(module))
