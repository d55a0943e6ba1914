"""The speed of matrix products: what a forward pass cannot beat at a precision."""

import time
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor

from jaspertc.config import BackboneConfig
from jaspertc.machine import cpu_has_bfloat16

ROWS = 2048  # tokens at once
SECONDS = 0.2

Product = Callable[[], object]


def gemm_rate(
    precision: str, shape: BackboneConfig, device: torch.device, *, seconds: float = SECONDS
) -> float | None:
    """FLOP/s of the product of 2,048 tokens with the first matrix of the MLP, the fastest of several tries.

    Where PyTorch has two ways of computing it, the faster one counts. int8 means unsigned activations and
    signed weights with a scale for each output.

    Args:
        precision: ``float32``, ``bfloat16`` or ``int8``.

    Returns:
        ``None`` where this machine's PyTorch has no such product.
    """
    width, middle = shape.hidden_size, shape.intermediate_size
    fastest = None
    for product in _products(precision, width, middle, device):
        try:
            product()
        except (RuntimeError, NotImplementedError, AttributeError):
            continue
        found = _fastest(product, seconds, device)
        fastest = found if fastest is None else min(fastest, found)
    return None if fastest is None else 2 * ROWS * width * middle / fastest


def _fastest(product: Product, seconds: float, device: torch.device) -> float:
    best, end = float("inf"), time.perf_counter() + seconds
    while True:
        started = time.perf_counter()
        product()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        now = time.perf_counter()
        best = min(best, now - started)
        if now >= end:
            return best


def _products(precision: str, width: int, middle: int, device: torch.device) -> list[Product]:
    if precision == "int8":
        return [_int8(width, middle)] if device.type == "cpu" else []
    dtype = {"float32": torch.float32, "bfloat16": torch.bfloat16}[precision]
    x, weight = (torch.randn(rows, width, device=device).to(dtype) for rows in (ROWS, middle))
    found: list[Product] = [lambda: F.linear(x, weight)]
    if device.type == "cpu" and precision == "float32":
        found.append(_onednn(x, weight))
    return found


def _onednn(x: Tensor, weight: Tensor) -> Product:
    prepared: list[Tensor] = []

    def product() -> object:
        if not prepared:
            prepared.extend((x.to_mkldnn(), weight.to_mkldnn()))
        return F.linear(*prepared)

    return product


def _int8(width: int, middle: int) -> Product:
    x = torch.randint(0, 255, (ROWS, width), dtype=torch.uint8)
    weight = torch.randint(-127, 127, (middle, width), dtype=torch.int8)
    scales, zeros = torch.ones(middle), torch.zeros(middle, dtype=torch.long)
    prepared: list[Tensor] = []
    # Without instructions for bfloat16, writing it is left to code a thousand times slower.
    out = torch.bfloat16 if cpu_has_bfloat16() else torch.float32

    def product() -> object:
        operations = torch.ops.onednn
        if not prepared:
            prepared.append(operations.qlinear_prepack(weight, [ROWS, width]))
        return operations.qlinear_pointwise(
            x, 1.0, 0, prepared[0], scales, zeros, None, 1.0, 0, out, "none", [], ""
        )

    return product
