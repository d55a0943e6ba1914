"""``Qwen3Backbone``'s layers in an exported graph.

Shape legend: C compressed tokens, D model width, W width of a head.
"""

from typing import Any

import numpy as np

from jaspertc.export.backbones.layers import Layers
from jaspertc.export.graph import Value


def export_layers(layers: Layers, x: Value, weights: Any) -> Value:
    """Compressed token embeddings, (C, D) -> last hidden states, (C, D)."""
    graph, config, linear = layers.graph, layers.config, layers.products.linear
    turns = _Rotary(layers)
    width, keys = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    for number, layer in enumerate(weights.layers):
        name, attention, mlp = f"layer.{number}", layer.self_attn, layer.mlp
        y = layers.rms(f"{name}.norm", x, layer.input_layernorm)
        q, k, v = layers.split(
            linear(f"{name}.qkv", y, attention.q_proj, attention.k_proj, attention.v_proj), width, keys, keys
        )
        q = turns.turned(f"{name}.q", q, attention.q_norm, config.head_dim**-0.5)
        k = turns.turned(f"{name}.k", k, attention.k_norm, 1.0)
        x = x + linear(f"{name}.attention", layers.attend(q, k, v), attention.o_proj)
        y = layers.rms(f"{name}.mlp.norm", x, layer.post_attention_layernorm)
        gate, up = layers.split(
            linear(f"{name}.up", y, mlp.gate_proj, mlp.up_proj), *[config.intermediate_size] * 2
        )
        x = x + linear(f"{name}.down", gate * graph.op("Sigmoid", gate) * up, mlp.down_proj)
    return layers.rms("norm", x, weights.norm)


class _Rotary:
    """Rotary positions, computed once for all layers."""

    def __init__(self, layers: Layers) -> None:
        graph, config = layers.graph, layers.config
        exponents = np.arange(0, config.head_dim, 2, dtype=np.float32) / np.float32(config.head_dim)
        inverse = (np.float32(config.rope_theta) ** -exponents).astype(np.float32)
        angles = graph.unsqueeze(graph.cast(layers.layout.positions, np.float32), 1) * inverse
        both = graph.unsqueeze(graph.op("Concat", angles, angles, axis=-1), 1)  # (C, 1, W)
        self._layers, self._half = layers, config.head_dim // 2
        self._cos, self._sin = graph.op("Cos", both), graph.op("Sin", both)

    def turned(self, name: str, x: Value, norm: Any, times: float) -> Value:
        """Queries or keys, normalised and turned to their positions: (C, heads W) -> (C, heads W)."""
        graph, config = self._layers.graph, self._layers.config
        x = graph.reshape(x, 0, -1, config.head_dim)
        x = self._layers.rms(f"{name}.norm", x, norm, times)
        low, high = self._layers.split(x, self._half, self._half)
        turned = graph.op("Concat", graph.op("Neg", high), low, axis=-1)
        x = x * self._cos + turned * self._sin
        return graph.op("Flatten", x, axis=1)
