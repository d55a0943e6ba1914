"""Matrix products of a backbone's prepared form: all that can be done at load is done at load.

Products that read the same input are one; on a CPU, weights are laid out for oneDNN once, and what follows a
product (activation, gate, residual) is done within it. Results equal the trained modules' to rounding.

Shape legend: C compressed tokens.
"""

import logging
from functools import cache
from typing import cast

from jaspertc.pytorch import Tensor, nn, torch
from jaspertc.pytorch import functional as F

logger = logging.getLogger(__name__)

# oneDNN's name and variant of each activation.
ACTIVATIONS = {
    "none": ("none", ""),
    "silu": ("swish", ""),
    "gelu": ("gelu", "none"),
    "gelu-tanh": ("gelu", "tanh"),
}


def activate(x: Tensor, name: str) -> Tensor:
    """The activation ``name`` of ``ACTIVATIONS``, elementwise."""
    if name == "none":
        return x
    return F.silu(x) if name == "silu" else F.gelu(x, approximate=ACTIVATIONS[name][1])


class Product:
    """x @ weight.T + bias with what follows it: (C, in) -> (C, out).

    Args:
        weight: shape (out, in).
        bias: shape (out,), or ``None``.
        packed: lay the weight out for oneDNN; by default where this machine can.
    """

    def __init__(self, weight: Tensor, bias: Tensor | None, *, packed: bool | None = None) -> None:
        self.packed = can_pack(weight.dtype) and weight.device.type == "cpu" if packed is None else packed
        weight = weight.detach()
        self._weight = torch.ops.mkldnn._reorder_linear_weight(weight.contiguous()) if self.packed else weight
        self._bias = None if bias is None else bias.detach().contiguous()

    @classmethod
    def of(cls, *layers: nn.Linear) -> "Product":
        """One product for layers that read the same input, their outputs side by side."""
        if len(layers) == 1:
            return cls(layers[0].weight, layers[0].bias)
        biases = [layer.bias.detach() for layer in layers if layer.bias is not None]
        return cls(
            torch.cat([layer.weight.detach() for layer in layers]), torch.cat(biases) if biases else None
        )

    def __call__(self, x: Tensor, activation: str = "none") -> Tensor:
        """The product, activated."""
        if self.packed:
            name, variant = ACTIVATIONS[activation]
            return cast(
                Tensor,
                torch.ops.mkldnn._linear_pointwise(x, self._weight, self._bias, name, [], variant),
            )
        return activate(F.linear(x, self._weight, self._bias), activation)

    def plus(self, x: Tensor, other: Tensor) -> Tensor:
        """The product + other."""
        return self._and(x, other, "add") if self.packed else F.linear(x, self._weight, self._bias) + other

    def times(self, x: Tensor, other: Tensor) -> Tensor:
        """The product * other."""
        return self._and(x, other, "mul") if self.packed else F.linear(x, self._weight, self._bias) * other

    def _and(self, x: Tensor, other: Tensor, what: str) -> Tensor:
        fused = torch.ops.mkldnn._linear_pointwise.binary
        return cast(Tensor, fused(x, other, self._weight, self._bias, what))


@cache
def can_pack(dtype: torch.dtype) -> bool:
    """Whether PyTorch has oneDNN's prepacked products here. They are no public interface, so small ones are
    computed and compared."""
    if not torch.backends.mkldnn.is_available():  # type: ignore[no-untyped-call]
        return False
    try:
        if dtype == torch.bfloat16 and not torch.ops.mkldnn._is_mkldnn_bf16_supported():
            return False
        with torch.inference_mode():
            works = _packed_equals_plain(dtype)
    except (AttributeError, RuntimeError, TypeError) as error:
        logger.info("prepacked products of %s: not in this PyTorch (%s)", dtype, error)
        return False
    logger.info("prepacked products of %s: %s", dtype, "yes" if works else "no, results differ")
    return works


def _packed_equals_plain(dtype: torch.dtype) -> bool:
    ramp = torch.linspace(-1, 1, 40)
    weight, x, other = ramp.outer(ramp.roll(7)), ramp[:3, None] + ramp, ramp.expand(3, 40).contiguous()
    weight, bias, x, other = (part.to(dtype) for part in (weight, ramp, x, other))
    packed, plain = (Product(weight, bias, packed=choice) for choice in (True, False))
    pairs = [(packed(x, name), plain(x, name)) for name in ACTIVATIONS]
    pairs += [(packed.plus(x, other), plain.plus(x, other)), (packed.times(x, other), plain.times(x, other))]
    bound = 1e-4 if dtype == torch.float32 else 0.05
    return all(bool((ours.float() - theirs.float()).abs().max() < bound) for ours, theirs in pairs)
