"""What backbones' layers are made of in an exported graph: attention, norms, the layout they need.

All but attention is computed on packed tokens, (C, D), so that padding costs nothing there; attention on
rows of one text each.

Shape legend: N texts, S width of the rows, C compressed tokens, D model width, H heads, K key/value heads,
W width of a head.
"""

from typing import Any

import numpy as np

from jaspertc.config import BackboneConfig
from jaspertc.export.compression import Layout
from jaspertc.export.graph import Value
from jaspertc.export.products import Products
from jaspertc.model.weights import array

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
        return x / graph.op("Sqrt", mean + self.config.norm_eps) * weight

    def split(self, x: Value, *widths: int) -> list[Value]:
        return self.graph.ops("Split", len(widths), x, np.array(widths), axis=-1)
