"""Qwen3: pre-norm, rotary positions, grouped-query attention with per-head q/k norms, SwiGLU.

Parameter names are those of Transformers' ``Qwen3Model``.
Shape legend: C compressed tokens, D model width, H heads, K key/value heads, W width of a head.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from jaspertc.config import BackboneConfig
from jaspertc.model.attention import PackedLayout, attention
from jaspertc.model.backbones.base import Backbone


class RMSNorm(nn.Module):
    """x / rms(x) * weight, with the statistic in float32."""

    def __init__(self, width: int, eps: float) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x: Tensor) -> Tensor:
        # vector_norm reads half precision once; rms_norm makes float32 copies (5 times slower on a CPU).
        norm = torch.linalg.vector_norm(x, dim=-1, keepdim=True, dtype=torch.float32)
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
