"""A backbone's layers as they are computed for vectors: all that can be done at load is done at load.

Products that read the same input are one; on a CPU, weights are laid out for oneDNN once, and what follows a
product (activation, gate, residual) is done within it. Results equal the trained modules' to rounding.

Shape legend: C compressed tokens, D model width, H heads, K key/value heads, W width of a head.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jaspertc.config import BackboneConfig
from jaspertc.model.attention import PackedLayout, attention
from jaspertc.model.backbones.base import Backbone
from jaspertc.model.backbones.bert import BertBackbone, BertLayer
from jaspertc.model.backbones.qwen3 import Qwen3Backbone, Qwen3Layer, rotary_tables

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


class ReadyBackbone(Backbone):
    """Another backbone's layers, prepared. Its weights are copied where they are laid out anew."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone.config)
        self._table = backbone.token_table

    @property
    def token_table(self) -> nn.Embedding:
        return self._table


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / rms(x) * weight over the last dimension, float32."""
    wide = x.float()
    norm = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
    scale = torch.rsqrt(norm * norm / x.shape[-1] + eps)
    return (wide * scale if wide is x else wide.mul_(scale)).mul_(weight)


Stage = Callable[..., Tensor]


@dataclass(frozen=True, kw_only=True)
class Stages:
    """What a Qwen3 layer does between its matrix products: each as the function of its name below."""

    norm: Stage
    turn: Stage
    gate: Stage


def norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """RMSNorm in float32, rounded once: (C, D) -> (C, D)."""
    return rms_norm(x, weight, eps).to(x.dtype)


def turn(qk: Tensor, weight: Tensor, eps: float, turns: Tensor, dtype: torch.dtype) -> Tensor:
    """Queries and keys, normalised and turned to their positions: (C, heads, W) -> (C, heads, W).

    Args:
        weight: shape (heads, W).
        turns: complex numbers of length 1, shape (C, 1, W / 2); they turn neighbouring components.
        dtype: of the result.
    """
    qk = rms_norm(qk, weight, eps)
    pairs = torch.view_as_complex(qk.view(*qk.shape[:2], -1, 2))
    return torch.view_as_real(pairs.mul_(turns)).flatten(-2).to(dtype)


def gate(y: Tensor, gate: Product, up: Product) -> Tensor:
    """SwiGLU's middle: (C, D) -> (C, inner width)."""
    return up.times(y, gate(y, "silu"))


EAGER = Stages(norm=norm, turn=turn, gate=gate)


def _neighbours(width: int, device: torch.device) -> Tensor:
    """An order of a head's components in which the two that rotary positions turn together are adjacent."""
    return torch.arange(width, device=device).view(2, -1).T.reshape(-1)


class _Qwen3Layer:
    """A layer whose queries and keys have their components reordered, so that turning is a complex product.

    Products of queries and keys do not depend on the order, values keep theirs.
    """

    def __init__(self, layer: Qwen3Layer, config: BackboneConfig, stages: Stages) -> None:
        self.stages = stages
        own, mlp = layer.self_attn, layer.mlp
        self.heads, self.width, self.causal = config.num_heads, config.head_dim, config.causal
        order = _neighbours(config.head_dim, own.q_proj.weight.device)
        parts = [
            _reordered(own.q_proj.weight, order),
            _reordered(own.k_proj.weight, order),
            own.v_proj.weight,
        ]
        self.qkv = Product(torch.cat(parts), None)
        norms = (
            own.q_norm.weight.expand(config.num_heads, -1),
            own.k_norm.weight.expand(config.num_kv_heads, -1),
        )
        self.qk_weight = torch.cat(norms).detach().float()[:, order].contiguous()
        self.qk_split = (config.num_heads + config.num_kv_heads) * config.head_dim
        self.eps = config.norm_eps
        self.out = Product.of(own.o_proj)
        self.gate, self.up, self.down = (
            Product.of(part) for part in (mlp.gate_proj, mlp.up_proj, mlp.down_proj)
        )
        self.before_attention = layer.input_layernorm.weight.detach().float()
        self.before_mlp = layer.post_attention_layernorm.weight.detach().float()

    def __call__(self, x: Tensor, layout: PackedLayout, turns: Tensor) -> Tensor:
        shape = (len(x), -1, self.width)
        qkv = self.qkv(self.stages.norm(x, self.before_attention, self.eps))
        qk, v = qkv[:, : self.qk_split].view(shape), qkv[:, self.qk_split :].view(shape)
        # A GPU's kernels want one dtype; on a CPU the scores stay in float32.
        dtype = torch.float32 if x.device.type == "cpu" else x.dtype
        qk = self.stages.turn(qk, self.qk_weight, self.eps, turns, dtype)
        seen = attention(qk[:, : self.heads], qk[:, self.heads :], v, layout, causal=self.causal)
        x = self.out.plus(seen, x)
        y = self.stages.norm(x, self.before_mlp, self.eps)
        return self.down.plus(self.stages.gate(y, self.gate, self.up), x)


def _reordered(weight: Tensor, order: Tensor) -> Tensor:
    """Rows of a projection, (heads * W, D), with each head's in ``order``."""
    return weight.detach().view(-1, len(order), weight.shape[1])[:, order].flatten(0, 1)


class ReadyQwen3(ReadyBackbone):
    """``Qwen3Backbone`` prepared."""

    def __init__(self, backbone: Backbone, stages: Stages = EAGER) -> None:
        super().__init__(backbone)
        assert isinstance(backbone, Qwen3Backbone)
        config = backbone.config
        self._layers = [_Qwen3Layer(cast(Qwen3Layer, layer), config, stages) for layer in backbone.layers]
        self._stages, self._norm = stages, backbone.norm.weight.detach().float()

    def forward(self, x: Tensor, layout: PackedLayout) -> Tensor:
        turns = self._turns(layout.positions)
        for layer in self._layers:
            x = layer(x, layout, turns)
        return self._stages.norm(x, self._norm, self.config.norm_eps)

    def _turns(self, positions: Tensor) -> Tensor:
        """Rotary positions as complex numbers of length 1: (C,) -> (C, 1, W / 2)."""
        config = self.config
        cos, sin = rotary_tables(positions, config.head_dim, config.rope_theta, torch.float32)
        half = config.head_dim // 2  # the second half repeats the first
        return torch.complex(cos[..., :half].contiguous(), sin[..., :half].contiguous())


class _BertLayer:
    def __init__(self, layer: BertLayer, config: BackboneConfig) -> None:
        own = layer.attention.self
        self.heads, self.causal = config.num_heads, config.causal
        self.qkv = Product.of(own.query, own.key, own.value)
        self.out, self.out_norm = Product.of(layer.attention.output.dense), layer.attention.output.LayerNorm
        self.up, self.down = Product.of(layer.intermediate.dense), Product.of(layer.output.dense)
        self.norm = layer.output.LayerNorm
        self.activation = "gelu-tanh" if config.gelu == "tanh" else "gelu"

    def __call__(self, x: Tensor, layout: PackedLayout) -> Tensor:
        q, k, v = self.qkv(x).view(len(x), 3, self.heads, -1).unbind(1)
        x = self.out_norm(self.out.plus(attention(q, k, v, layout, causal=self.causal), x))
        out: Tensor = self.norm(self.down.plus(self.up(x, self.activation), x))
        return out


class ReadyBert(ReadyBackbone):
    """``BertBackbone`` prepared; positions and token type are one table."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone)
        assert isinstance(backbone, BertBackbone)
        tables = backbone.embeddings
        places = tables.position_embeddings.weight.detach()[tables.position_offset :]
        self._places = places + tables.token_type_embeddings.weight.detach()[0]  # (positions, D)
        self._norm = tables.LayerNorm
        self._layers = [_BertLayer(cast(BertLayer, layer), self.config) for layer in backbone.encoder.layer]

    def forward(self, x: Tensor, layout: PackedLayout) -> Tensor:
        x = self._norm(x + self._places[layout.positions])
        for layer in self._layers:
            x = layer(x, layout)
        return x


READY: dict[type[Backbone], type[ReadyBackbone]] = {Qwen3Backbone: ReadyQwen3, BertBackbone: ReadyBert}


def prepared(backbone: Backbone) -> Backbone:
    """The same layers, ready to compute vectors; a kind that ``READY`` has not is returned as it is."""
    ready = READY.get(type(backbone))
    return backbone if ready is None else ready(backbone)
