"""A backbone's layers as an OpenVINO graph over packed tokens; attention over rows, one text in each.

Weights are int8 with one scale per output channel; activations are quantised by OpenVINO as they come, in
groups within a token, so a text's vector does not depend on its neighbours.

Shape legend: C tokens, R rows, S width of a row, D model width, H heads, K key/value heads, W head width.
"""

import math
from abc import ABC, abstractmethod
from itertools import pairwise
from typing import Any

import numpy as np
import openvino as ov
from openvino import Type
from openvino import opset13 as op

from jaspertc.config import BackboneConfig
from jaspertc.model.weights import array, dense, int8_rows, is_int8
from jaspertc.types import IntArray

Node = Any
JOINED_BYTES = 1 << 20  # int8 weights up to this size are joined, larger ones stay in their file
CAUSAL_BLOCKS = 2  # of a row's queries; more save less than they cost in memory and at the start
BLOCK_STEP = 64  # causal blocks begin at multiples of this
TO_HEADS = (0, 2, 1, 3)  # (R, S, H, W) <-> (R, H, S, W)


class LayerGraph(ABC):
    """The layers of one kind of backbone; a subclass says how they follow from the parts below.

    Args:
        weights: the backbone, or arrays under the same names (``model.weights.Weights``).

    Attributes:
        has_bfloat16: whether layers beside int8 ones were left in bfloat16; known once the graph is built.
    """

    def __init__(self, config: BackboneConfig, weights: Any, *, int8: bool, bfloat16: bool = False) -> None:
        self.weights, self.config, self.int8 = weights, config, int8
        self.stored = Type.bf16 if bfloat16 else Type.f32  # of matrices that are not int8
        self.mixed = any(map(is_int8, weights.modules()))
        self.has_bfloat16 = False
        self._constants: dict[tuple[Any, ...], Node] = {}

    @abstractmethod
    def layers(self, x: Node, *extra: Node) -> Node:
        """Token embeddings after compression, (C, D) -> last hidden states, (C, D)."""

    def extra_inputs(self) -> list[Node]:
        """Further inputs of the graph, whose values ``extra_values`` gives."""
        return []

    @staticmethod
    def extra_values(config: BackboneConfig, positions: IntArray) -> list[np.ndarray]:
        """Values of the further inputs for tokens at these positions in their texts, shape (C,)."""
        return []

    def build(self) -> ov.Model:
        """The graph, with the inputs that ``runtimes.rows`` describes.

        Inputs: states, (C, D) float32; cells, (R, S) int32, the token in each cell; places, (C,) int32, the
        cell of each token; mask, (1 or R, 1, 1 or S, S) float32, added to scores; then the extra ones.
        Output: last hidden states, (C, D) float32.
        """
        states = op.parameter([-1, self.config.hidden_size], Type.f32, "states")
        cells = op.parameter([-1, -1], Type.i32, "cells")
        self.places = op.parameter([-1], Type.i32, "places")
        mask = op.parameter([-1, 1, -1, -1], Type.f32, "mask")
        blocks = self._causal_blocks(cells, mask) if self.config.causal else [(cells, cells, mask)]
        self.blocks = [(queries, self._of_heads(seen), part) for queries, seen, part in blocks]
        extra = self.extra_inputs()
        return ov.Model([self.layers(states, *extra)], [states, cells, self.places, mask, *extra], "layers")

    def linears(self, x: Node, *layers: Any) -> list[Node]:
        """The output of each of the layers that read ``x``; of small ones by one product."""
        if self.int8 and sum(math.prod(layer.weight.shape) for layer in layers) > JOINED_BYTES:
            return [self.linear(x, layer) for layer in layers]
        widths = self.ints(*(len(layer.weight) for layer in layers))
        parts: list[Node] = op.variadic_split(self.linear(x, *layers), self.ints(-1), widths).outputs()
        return parts

    def linear(self, x: Node, *layers: Any) -> Node:
        """One product for all layers that read ``x``, their outputs side by side.

        In int8, float layers beside int8 ones are computed in bfloat16: they were left so on purpose.
        """
        out = self.product(x, *layers)
        if layers[0].bias is None:
            return out
        return op.add(out, op.constant(np.concatenate([array(layer.bias) for layer in layers])))

    def product(self, x: Node, *layers: Any) -> Node:
        if not self.int8:
            stored = op.constant(np.concatenate([dense(layer) for layer in layers]), self.stored)
            matrix = stored if self.stored == Type.f32 else op.convert(stored, Type.f32)
            return op.matmul(x, matrix, False, True)
        if self.mixed and not is_int8(layers[0]):
            self.has_bfloat16 = True
            matrix = op.constant(np.concatenate([dense(layer) for layer in layers]), Type.bf16)
            return op.convert(op.matmul(op.convert(x, Type.bf16), matrix, False, True), Type.f32)
        whole, scale = _int8(*layers)
        matrix = op.multiply(op.convert(whole, Type.f32), op.constant(scale))
        return op.matmul(x, matrix, False, True)

    def heads(self, x: Node) -> Node:
        """(C, H W) -> (C, H, W)."""
        return op.reshape(x, self.ints(0, -1, self.config.head_dim), True)

    def attend(self, q: Node, k: Node, v: Node) -> Node:
        """Attention within each row: scaled queries, (C, H, W), and twice (C, K, W) -> (C, H W).

        Written so that OpenVINO makes one kernel of all but the gathers: products, softmax, transpositions.
        """
        width = self.config.head_dim
        k, v = (op.reshape(x, self.ints(-1, width), False) for x in (k, v))
        blocks = []
        for queries, seen, mask in self.blocks:
            rows_q, rows_k, rows_v = (
                op.transpose(op.gather(x, cells, self.ints(0)), self.ints(*TO_HEADS))
                for x, cells in ((q, queries), (k, seen), (v, seen))
            )
            scores = op.add(op.matmul(rows_q, rows_k, False, True), mask)
            out = op.matmul(op.softmax(scores, 3), rows_v, False, False)
            blocks.append(op.transpose(out, self.ints(*TO_HEADS)))
        rows = op.reshape(op.concat(blocks, 1), self.ints(-1, self.config.num_heads * width), False)
        return op.gather(rows, self.places, self.ints(0))

    def _causal_blocks(self, cells: Node, mask: Node) -> list[tuple[Node, Node, Node]]:
        """Cells of queries, cells of the keys that they may see, and their mask, for parts of the rows.

        No part looks at the keys of later ones. In narrow rows some parts are empty.
        """
        width = op.gather(op.shape_of(cells), self.ints(1), self.ints(0))
        steps = op.divide(width, self.ints(BLOCK_STEP * CAUSAL_BLOCKS))
        inner = [op.multiply(steps, self.ints(BLOCK_STEP * i)) for i in range(1, CAUSAL_BLOCKS)]
        edges = [self.ints(0), *inner, width]
        return [
            (
                self.slice(cells, begin, end, 1),
                self.slice(cells, edges[0], end, 1),
                self.slice(self.slice(mask, begin, end, 2), edges[0], end, 3),
            )
            for begin, end in pairwise(edges)
        ]

    def slice(self, x: Node, begin: Node, end: Node, axis: int) -> Node:
        return op.slice(x, begin, end, self.ints(1), self.ints(axis))

    def ints(self, *values: int) -> Node:
        """A constant, shape (number of values,); one node for all its uses, of which there are thousands."""
        return self._constant(np.array(values, dtype=np.int64))

    def number(self, value: float) -> Node:
        return self._constant(np.float32(value))

    def _constant(self, value: Any) -> Node:
        key = (value.dtype, value.shape, value.tobytes())
        if key not in self._constants:
            self._constants[key] = op.constant(value)
        return self._constants[key]

    def _of_heads(self, cells: Node) -> Node:
        """The cells' rows in keys or values of shape (C K, W), for each query head: (R, S) -> (R, S, H)."""
        heads, groups = self.config.num_heads, self.config.num_kv_heads
        which = op.constant(np.repeat(np.arange(groups, dtype=np.int32), heads // groups))
        return op.add(op.multiply(op.unsqueeze(cells, self.ints(2)), op.constant(np.int32(groups))), which)


def _int8(*layers: Any) -> tuple[Node, np.ndarray]:
    """The layers' weights one below the other, (O, I), and their scales, (O, 1)."""
    pairs = [int8_rows(layer) for layer in layers]
    if len(layers) == 1 and is_int8(layers[0]):
        return op.constant(pairs[0][0], shared_memory=True), pairs[0][1]
    whole, scale = (np.concatenate(parts) for parts in zip(*pairs))
    return op.constant(whole), scale
