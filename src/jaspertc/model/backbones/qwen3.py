"""Qwen3: pre-norm, rotary positions, grouped-query attention with per-head q/k norms, SwiGLU.

Parameter names are those of Transformers' ``Qwen3Model``.
Shape legend: C compressed tokens, D model width, H heads, K key/value heads, W width of a head.
"""

from collections.abc import Mapping
from typing import Any, cast

from jaspertc.config import BackboneConfig
from jaspertc.model.attention import PackedLayout, attention
from jaspertc.model.backbones.base import Backbone, PreparedBackbone, require_supported
from jaspertc.model.products import Product
from jaspertc.pytorch import Tensor, nn, torch
from jaspertc.pytorch import functional as F


class RMSNorm(nn.Module):
    """x / rms(x) * weight, with the statistic in float32, or float64 if x is."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        # vector_norm reads half precision once; rms_norm makes float32 copies (5 times slower on a CPU).
        wide = torch.promote_types(x.dtype, torch.float32)
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=wide)
        scale = torch.rsqrt(norm * norm / x.shape[-1] + self.eps)
        return self.weight * (x * scale).to(x.dtype)


class SwiGLU(nn.Module):
    """down(silu(gate(x)) * up(x)), without biases: Qwen3's MLP and the compressor's."""

    def __init__(self, width: int, middle: int) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(width, middle, bias=False)
        self.up_proj = nn.Linear(width, middle, bias=False)
        self.down_proj = nn.Linear(middle, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))
        return out


def rotary_tables(positions: Tensor, width: int, theta: float, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Cosines and sines, each (C, 1, W), computed in float32 for positions of shape (C,)."""
    inverse = theta ** (-torch.arange(0, width, 2, dtype=torch.float32, device=positions.device) / width)
    angles = positions.float()[:, None] * inverse
    angles = torch.cat((angles, angles), -1)[:, None]
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Apply rotary positions to x of shape (C, H, W)."""
    low, high = x.chunk(2, -1)
    return x * cos + torch.cat((-high, low), -1) * sin


class Qwen3Attention(nn.Module):
    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.config = config
        width, head = config.hidden_size, config.head_dim
        self.q_proj = nn.Linear(width, config.num_heads * head, bias=False)
        self.k_proj = nn.Linear(width, config.num_kv_heads * head, bias=False)
        self.v_proj = nn.Linear(width, config.num_kv_heads * head, bias=False)
        self.o_proj = nn.Linear(config.num_heads * head, width, bias=False)
        self.q_norm = RMSNorm(head, config.norm_eps)
        self.k_norm = RMSNorm(head, config.norm_eps)

    def forward(self, x: Tensor, layout: PackedLayout, cos: Tensor, sin: Tensor) -> Tensor:
        heads = (len(x), -1, self.config.head_dim)
        q = rotate(self.q_norm(self.q_proj(x).view(heads)), cos, sin)
        k = rotate(self.k_norm(self.k_proj(x).view(heads)), cos, sin)
        v = self.v_proj(x).view(heads)
        out: Tensor = self.o_proj(attention(q, k, v, layout, causal=self.config.causal))
        return out


class Qwen3Layer(nn.Module):
    def __init__(self, config: BackboneConfig) -> None:
        super().__init__()
        self.input_layernorm = RMSNorm(config.hidden_size, config.norm_eps)
        self.self_attn = Qwen3Attention(config)
        self.post_attention_layernorm = RMSNorm(config.hidden_size, config.norm_eps)
        self.mlp = SwiGLU(config.hidden_size, config.intermediate_size)

    def forward(self, x: Tensor, layout: PackedLayout, cos: Tensor, sin: Tensor) -> Tensor:
        x = x + self.self_attn(self.input_layernorm(x), layout, cos, sin)
        out: Tensor = x + self.mlp(self.post_attention_layernorm(x))
        return out


class Qwen3Backbone(Backbone):
    """Causal as released; ``config.causal=False`` makes it bidirectional."""

    model_types = ("qwen3",)
    usual_pooler = "last"
    table_name = "embed_tokens"
    mlp_matrices = 3
    openvino_graph = "jaspertc.engine.runtimes.openvino.qwen3"
    export_graph = "jaspertc.export.backbones.qwen3"

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__(config)
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Qwen3Layer(config) for _ in range(config.num_layers))
        self.norm = RMSNorm(config.hidden_size, config.norm_eps)

    @property
    def token_table(self) -> nn.Embedding:
        return self.embed_tokens

    def forward(self, x: Tensor, layout: PackedLayout) -> Tensor:
        cos, sin = rotary_tables(layout.positions, self.config.head_dim, self.config.rope_theta, x.dtype)
        for layer in self.layers:
            x = self.run(layer, x, layout, cos, sin)
        out: Tensor = self.norm(x)
        return out

    @classmethod
    def read_hugging_face(cls, config: Mapping[str, Any]) -> BackboneConfig:
        rope = config.get("rope_parameters") or {}
        scaling = config.get("rope_scaling") or {}
        kind = rope.get("rope_type") or scaling.get("rope_type") or scaling.get("type") or "default"
        require_supported("rope_type", kind, "default")
        require_supported("attention_bias", config.get("attention_bias", False), False)
        require_supported("use_sliding_window", config.get("use_sliding_window", False), False)
        require_supported("hidden_act", config.get("hidden_act", "silu"), "silu")
        return BackboneConfig(
            kind="qwen3",
            vocab_size=config["vocab_size"],
            hidden_size=config["hidden_size"],
            num_layers=config["num_hidden_layers"],
            num_heads=config["num_attention_heads"],
            num_kv_heads=config["num_key_value_heads"],
            head_dim=config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"],
            intermediate_size=config["intermediate_size"],
            norm_eps=config["rms_norm_eps"],
            max_positions=config["max_position_embeddings"],
            causal=True,
            rope_theta=float(rope.get("rope_theta") or config["rope_theta"]),
        )

    def prepared(self) -> Backbone:
        return PreparedQwen3(self)


def rms_norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """x / rms(x) * weight over the last dimension, float32."""
    wide = x.float()
    norm = torch.linalg.vector_norm(wide, dim=-1, keepdim=True)
    scale = torch.rsqrt(norm * norm / x.shape[-1] + eps)
    return (wide * scale if wide is x else wide.mul_(scale)).mul_(weight)


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


def _neighbours(width: int, device: torch.device) -> Tensor:
    """An order of a head's components in which the two that rotary positions turn together are adjacent."""
    return torch.arange(width, device=device).view(2, -1).T.reshape(-1)


class PreparedLayer:
    """A layer whose queries and keys have their components reordered, so that turning is a complex product.

    Products of queries and keys do not depend on the order, values keep theirs.
    """

    # What lies between the products; another form of it is a subclass.
    norm = staticmethod(norm)
    turn = staticmethod(turn)
    gate = staticmethod(gate)

    def __init__(self, layer: Qwen3Layer, config: BackboneConfig) -> None:
        attention, mlp = layer.self_attn, layer.mlp
        self.heads, self.width, self.causal = config.num_heads, config.head_dim, config.causal
        order = _neighbours(config.head_dim, attention.q_proj.weight.device)
        parts = [
            _reordered(attention.q_proj.weight, order),
            _reordered(attention.k_proj.weight, order),
            attention.v_proj.weight,
        ]
        self.qkv = Product(torch.cat(parts), None)
        norms = (
            attention.q_norm.weight.expand(config.num_heads, -1),
            attention.k_norm.weight.expand(config.num_kv_heads, -1),
        )
        self.qk_weight = torch.cat(norms).detach().float()[:, order].contiguous()
        self.qk_split = (config.num_heads + config.num_kv_heads) * config.head_dim
        self.eps = config.norm_eps
        self.out = Product.of(attention.o_proj)
        self.gate_proj, self.up_proj, self.down_proj = (
            Product.of(part) for part in (mlp.gate_proj, mlp.up_proj, mlp.down_proj)
        )
        self.before_attention = layer.input_layernorm.weight.detach().float()
        self.before_mlp = layer.post_attention_layernorm.weight.detach().float()

    def __call__(self, x: Tensor, layout: PackedLayout, turns: Tensor) -> Tensor:
        shape = (len(x), -1, self.width)
        qkv = self.qkv(self.norm(x, self.before_attention, self.eps))
        qk, v = qkv[:, : self.qk_split].view(shape), qkv[:, self.qk_split :].view(shape)
        # A GPU's kernels want one dtype; on a CPU the scores stay in float32.
        dtype = torch.float32 if x.device.type == "cpu" else x.dtype
        qk = self.turn(qk, self.qk_weight, self.eps, turns, dtype)
        seen = attention(qk[:, : self.heads], qk[:, self.heads :], v, layout, causal=self.causal)
        x = self.out.plus(seen, x)
        y = self.norm(x, self.before_mlp, self.eps)
        return self.down_proj.plus(self.gate(y, self.gate_proj, self.up_proj), x)


def _reordered(weight: Tensor, order: Tensor) -> Tensor:
    """Rows of a projection, (heads * W, D), with each head's in ``order``."""
    return weight.detach().view(-1, len(order), weight.shape[1])[:, order].flatten(0, 1)


class PreparedQwen3(PreparedBackbone):
    """``Qwen3Backbone`` prepared."""

    layer_class: type[PreparedLayer] = PreparedLayer

    def __init__(self, backbone: Qwen3Backbone) -> None:
        super().__init__(backbone)
        self._layers = [self.layer_class(cast(Qwen3Layer, layer), self.config) for layer in backbone.layers]
        self._norm = backbone.norm.weight.detach().float()

    def forward(self, x: Tensor, layout: PackedLayout) -> Tensor:
        turns = self._turns(layout.positions)
        for layer in self._layers:
            x = layer(x, layout, turns)
        return self.layer_class.norm(x, self._norm, self.config.norm_eps)

    def _turns(self, positions: Tensor) -> Tensor:
        """Rotary positions as complex numbers of length 1: (C,) -> (C, 1, W / 2)."""
        config = self.config
        cos, sin = rotary_tables(positions, config.head_dim, config.rope_theta, torch.float32)
        half = config.head_dim // 2  # the second half repeats the first
        return torch.complex(cos[..., :half].contiguous(), sin[..., :half].contiguous())
