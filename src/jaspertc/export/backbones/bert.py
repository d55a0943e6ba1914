"""``BertBackbone``'s layers in an exported graph.

Shape legend: C compressed tokens, D model width.
"""

from typing import Any

from jaspertc.export.backbones.layers import Layers
from jaspertc.export.graph import Value
from jaspertc.model.weights import dense


def export_layers(layers: Layers, x: Value, weights: Any) -> Value:
    """Compressed word embeddings, (C, D) -> last hidden states, (C, D)."""
    graph, config, linear = layers.graph, layers.config, layers.products.linear
    tables = weights.embeddings
    positions = dense(tables.position_embeddings)[config.position_offset :]
    added = positions + dense(tables.token_type_embeddings)[0]
    rows = layers.products.small("positions.weight", added)
    x = layers.norm(
        "embeddings.norm", x + graph.op("Gather", rows, layers.layout.positions), tables.LayerNorm
    )
    gelu = {"none": "none", "tanh": "tanh"}[config.gelu]
    for number, layer in enumerate(weights.encoder.layer):
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
