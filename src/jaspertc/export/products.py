"""Matrix products and the token table of an exported graph, in float32, float16 or int8.

Shape legend: R rows, I inputs, O outputs, V vocabulary, D model width, C compressed tokens, W widest window.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np

from jaspertc.errors import InputError
from jaspertc.export.graph import Array, Graph, Value
from jaspertc.model.weights import array, dense, int8_rows, is_int8

WEIGHTS = ("float32", "float16", "int8")
MIDDLE = np.array(128, dtype=np.uint8)  # what 0 is stored as


def check_weights(weights: str) -> None:
    """Raise InputError unless ``weights`` is one of ``WEIGHTS``."""
    if weights not in WEIGHTS:
        raise InputError(f"weights is {weights!r}, it must be one of {', '.join(WEIGHTS)}")


def unsigned(whole: Array) -> Array:
    """int8 as uint8 around ``MIDDLE``.

    Processors without VNNI add pairs of unsigned and signed products in 16 bits, which overflow; of two
    unsigned ones they do not (ONNX Runtime's page on quantization).
    """
    return np.ascontiguousarray((whole.astype(np.int16) + int(MIDDLE)).astype(np.uint8))


class Products:
    """How matrices are stored and multiplied.

    Args:
        weights: ``float32``; ``float16``, computed in float32; or ``int8``: one scale per output, and the
            other side is rounded as it comes, row by row.
    """

    def __init__(self, graph: Graph, weights: str) -> None:
        check_weights(weights)
        self.graph, self.weights = graph, weights

    def linear(self, name: str, x: Value, *layers: Any) -> Value:
        """One product for all layers that read ``x``, (R, I), their outputs side by side: (R, O)."""
        bias = None
        if layers[0].bias is not None:
            bias = np.concatenate([array(layer.bias) for layer in layers])
        if self._is_int8(layers[0]):
            return self._int8_product(name, x, layers, bias)
        matrix = self.matrix(f"{name}.weight", np.concatenate([dense(layer) for layer in layers]))
        out = self.graph.op("MatMul", x, matrix)
        return out if bias is None else out + self.graph.weight(f"{name}.bias", bias)

    def _is_int8(self, layer: Any) -> bool:
        """Whether a layer's product, and that of those beside it, is one of int8."""
        return self.weights == "int8"

    def matrix(self, name: str, weight: Any) -> Value:
        """A weight, (O, I), as what a product takes, (I, O) float32."""
        return self.small(name, np.ascontiguousarray(array(weight).T))

    def small(self, name: str, values: Array) -> Value:
        """A table or matrix that is computed in float32 always; stored in float16 unless all is float32."""
        if self.weights == "float32":
            return self.graph.weight(name, values)
        return self.graph.cast(self.graph.weight(name, values.astype(np.float16)), np.float32)

    def _int8_product(self, name: str, x: Value, layers: Sequence[Any], bias: Array | None) -> Value:
        """With x = scale (q - zero) for each row, x W = scale (q W) - scale zero (sum of W): the second part
        and the bias are one product of two columns, (R, 2) by (2, O)."""
        graph = self.graph
        pairs = [int8_rows(layer) for layer in layers]
        whole = np.concatenate([rows for rows, _ in pairs])
        scales = np.concatenate([scale for _, scale in pairs])[:, 0]
        sums: Array = (whole.sum(1, dtype=np.int64) * scales).astype(np.float32)
        rounded, scale, low = self._rounded(x)
        stored = graph.weight(f"{name}.weight", unsigned(whole.T))
        product = graph.op("MatMulInteger", rounded, stored, np.array(0, np.uint8), MIDDLE)
        out = graph.cast(product, np.float32) * graph.weight(f"{name}.scale", scales) * scale
        if bias is None:
            return out + low * sums
        ones = graph.op("Expand", np.ones((1, 1), np.float32), graph.op("Shape", low))
        rest = graph.weight(f"{name}.rest", np.stack([sums, bias]))
        return out + graph.op("MatMul", graph.op("Concat", low, ones, axis=1), rest)

    def _rounded(self, x: Value) -> tuple[Value, Value, Value]:
        """Rows as uint8 from their lowest to their highest value, (R, I); of each row the scale and what 0
        stands for, (R, 1). A row is rounded by itself, so a text's vector does not depend on others."""
        graph = self.graph
        low = graph.op("Min", graph.reduce("Min", x, 1, keepdims=True), np.array(0, np.float32))
        high = graph.op("Max", graph.reduce("Max", x, 1, keepdims=True), np.array(1e-12, np.float32))
        scale = (high - low) * np.array(1 / 255, np.float32)
        zero = graph.op("Round", low / scale)  # in -255 ... 0
        zeros = graph.reshape(graph.cast(graph.op("Neg", zero), np.uint8), -1)
        rounded = graph.op("QuantizeLinear", x, graph.reshape(scale, -1), zeros, axis=0)
        return rounded, scale, zero * scale


class Table:
    """The token table with the compressor's per-token transform folded in."""

    def __init__(self, graph: Graph, weights: str, rows: Any) -> None:
        self.graph = graph
        self._scales: Value | None = None
        if weights == "int8":
            whole, scales = int8_rows(rows)
            self._rows = graph.weight("tokens.weight", whole)
            self._scales = graph.weight("tokens.scale", scales[:, 0])
        else:
            dtype = np.float16 if weights == "float16" else np.float32
            values = dense(rows) if is_int8(rows) else rows
            self._rows = graph.weight("tokens.weight", array(values, dtype))
        self._float = weights == "float32"

    def mean(self, ids: Value, weights: Value) -> Value:
        """Weighted sums of rows: ids and weights, (C, W) -> (C, D)."""
        graph = self.graph
        rows = graph.op("Gather", self._rows, ids)
        if not self._float:
            rows = graph.cast(rows, np.float32)
        if self._scales is not None:
            weights = graph.op("Gather", self._scales, ids) * weights
        return graph.reduce("Sum", rows * graph.unsqueeze(weights, 2), 1)
