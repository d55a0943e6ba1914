"""The layers of each backbone as a graph. To add one: a class here and a line in ``BACKBONES``.

All but attention is computed on packed tokens, (C, D), so that padding costs nothing there; attention on
rows of one text each.

Shape legend: N texts, S width of the rows, C compressed tokens, D model width, H heads, K key/value heads,
W width of a head.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from jaspertc.config import BackboneConfig
from jaspertc.export.compression import Layout
from jaspertc.export.graph import Value
from jaspertc.export.products import Products, array
from jaspertc.model.backbones import Backbone

FAR = np.array(-1e9, dtype=np.float32)  # added to the scores of what a token must not see


class Layers:
    """What backbones have in common."""

    def __init__(self, products: Products, config: BackboneConfig, layout: Layout) -> None:
        self.products, self.graph, self.config, self.layout = products, products.graph, config, layout
        self.mask = self._mask()

    def _mask(self) -> Value:
        """Added to scores, (N, H, S, S): no token sees empty cells, a causal one no later ones."""
        graph = self.graph
        if not self.config.causal:
            seen = graph.unsqueeze(self.layout.real, 1, 2)
        else:  # empty cells lie at the end
            positions = graph.range(graph.dimension(self.layout.real, 1))
            seen = graph.op("LessOrEqual", graph.unsqueeze(positions, 0), graph.unsqueeze(positions, 1))
        return graph.op("Where", seen, np.array(0, np.float32), FAR)

    def attend(self, q: Value, k: Value, v: Value) -> Value:
        """Attention within each text: scaled (C, H W) and twice (C, K W) -> (C, H W)."""
        graph, config = self.graph, self.config
        q = self._rows(q, config.num_heads, 0, 2, 1, 3)
        k = self._rows(k, config.num_kv_heads, 0, 2, 3, 1)
        v = self._rows(v, config.num_kv_heads, 0, 2, 1, 3)
        groups = config.num_heads // config.num_kv_heads
        if groups > 1:
            k, v = (self._repeated(x, groups) for x in (k, v))
        scores = graph.op("Softmax", graph.op("MatMul", q, k) + self.mask, axis=3)
        out = graph.op("Transpose", graph.op("MatMul", scores, v), perm=[0, 2, 1, 3])
        rows = graph.reshape(out, -1, config.num_heads * config.head_dim)
        return graph.op("Gather", rows, self.layout.places)

    def _rows(self, x: Value, heads: int, *order: int) -> Value:
        rows = self.graph.reshape(self.graph.op("Gather", x, self.layout.cells), 0, 0, heads, -1)
        return self.graph.op("Transpose", rows, perm=order)

    def _repeated(self, x: Value, times: int) -> Value:
        """(N, K, ...) -> (N, H, ...): each key/value head once for each of its query heads."""
        heads = np.repeat(np.arange(self.config.num_kv_heads), times)
        return self.graph.op("Gather", x, heads, axis=1)

    def norm(self, name: str, x: Value, layer: Any) -> Value:
        scale, bias = (
            self.graph.weight(f"{name}.{part}", array(getattr(layer, part))) for part in ("weight", "bias")
        )
        return self.graph.op("LayerNormalization", x, scale, bias, epsilon=self.config.norm_eps)

    def rms(self, name: str, x: Value, layer: Any, times: float = 1.0) -> Value:
        graph = self.graph
        mean = graph.op("ReduceMean", x * x, np.array([-1]), keepdims=1)
        weight = graph.weight(f"{name}.weight", array(layer.weight) * np.float32(times))
        return x / graph.op("Sqrt", mean + float(layer.eps)) * weight

    def split(self, x: Value, *widths: int) -> list[Value]:
        return self.graph.ops("Split", len(widths), x, np.array(widths), axis=-1)


def bert(layers: Layers, x: Value, backbone: Any) -> Value:
    """Compressed word embeddings, (C, D) -> last hidden states, (C, D)."""
    graph, config, linear = layers.graph, layers.config, layers.products.linear
    tables = backbone.embeddings
    positions = array(tables.position_embeddings.weight)[tables.position_offset :]
    rows = graph.weight("positions.weight", positions + array(tables.token_type_embeddings.weight)[0])
    x = layers.norm(
        "embeddings.norm", x + graph.op("Gather", rows, layers.layout.positions), tables.LayerNorm
    )
    gelu = {"none": "none", "tanh": "tanh"}[config.gelu]
    for number, layer in enumerate(backbone.encoder.layer):
        name, attention = f"layer.{number}", layer.attention.self
        qkv = linear(f"{name}.qkv", x, attention.query, attention.key, attention.value)
        q, k, v = layers.split(qkv, *[config.hidden_size] * 3)
        seen = layers.attend(q * config.head_dim**-0.5, k, v)
        seen = linear(f"{name}.attention", seen, layer.attention.output.dense)
        x = layers.norm(f"{name}.attention.norm", seen + x, layer.attention.output.LayerNorm)
        middle = linear(f"{name}.up", x, layer.intermediate.dense)
        out = linear(f"{name}.down", graph.op("Gelu", middle, approximate=gelu), layer.output.dense)
        x = layers.norm(f"{name}.norm", out + x, layer.output.LayerNorm)
    return x


def qwen3(layers: Layers, x: Value, backbone: Any) -> Value:
    """Compressed token embeddings, (C, D) -> last hidden states, (C, D)."""
    graph, config, linear = layers.graph, layers.config, layers.products.linear
    turns = _Rotary(layers)
    width, keys = config.num_heads * config.head_dim, config.num_kv_heads * config.head_dim
    for number, layer in enumerate(backbone.layers):
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
    return layers.rms("norm", x, backbone.norm)


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


BACKBONES: dict[str, Callable[[Layers, Value, Any], Value]] = {"bert": bert, "qwen3": qwen3}


def layers_graph(products: Products, backbone: Backbone, layout: Layout, x: Value) -> Value:
    """A backbone's layers over packed tokens, (C, D) -> (C, D)."""
    layers = Layers(products, backbone.config, layout)
    return BACKBONES[backbone.config.kind](layers, x, backbone)
