"""A backbone's layers as an OpenVINO graph over packed tokens; attention over rows, one text in each.

Weights are int8 with one scale per output channel; activations are quantised by OpenVINO as they come, in
groups within a token, so a text's vector does not depend on its neighbours.

Shape legend: C tokens, R rows, S width of a row, D model width, H heads, K key/value heads, W head width.
"""

from itertools import pairwise
from typing import Any

import numpy as np
import openvino as ov
from openvino import Type
from openvino import opset13 as op
from torch import Tensor

from jaspertc.model.backbones.base import Backbone
from jaspertc.model.backbones.bert import BertBackbone
from jaspertc.model.int8 import Int8Linear, Int8Matrix, quantize_rows

Node = Any
JOINED_BYTES = 1 << 20  # int8 weights up to this size are joined, larger ones stay in their file
CAUSAL_BLOCKS = 2  # of a row's queries; more save less than they cost in memory and at the start
BLOCK_STEP = 64  # causal blocks begin at multiples of this
TO_HEADS = (0, 2, 1, 3)  # (R, S, H, W) <-> (R, H, S, W)


def build_graph(backbone: Backbone, *, int8: bool) -> ov.Model:
    """The layers of a backbone, with the inputs that ``engine.rows`` describes.

    Inputs: states, (C, D) float32; cells, (R, S) int32, the token in each cell; places, (C,) int32, the
    cell of each token; mask, (1 or R, 1, 1 or S, S) float32, added to scores; for Qwen3 also cosines and
    sines of ``rotary_tables``, (C, 1, W) float32: OpenVINO would compute them in bfloat16 where it may.
    Output: last hidden states, (C, D) float32.
    """
    config = backbone.config
    states = op.parameter([-1, config.hidden_size], Type.f32, "states")
    cells = op.parameter([-1, -1], Type.i32, "cells")
    places = op.parameter([-1], Type.i32, "places")
    mask = op.parameter([-1, 1, -1, -1], Type.f32, "mask")
    layers = _Layers(backbone, int8, cells, places, mask)
    if isinstance(backbone, BertBackbone):
        return ov.Model([layers.bert(states, backbone)], [states, cells, places, mask], "layers")
    rotary = [op.parameter([-1, 1, config.head_dim], Type.f32, name) for name in ("cosines", "sines")]
    out = layers.qwen3(states, backbone, *rotary)
    return ov.Model([out], [states, cells, places, mask, *rotary], "layers")


class _Layers:
    def __init__(self, backbone: Backbone, int8: bool, cells: Node, places: Node, mask: Node) -> None:
        self.config, self.int8 = backbone.config, int8
        self.places = places
        self._constants: dict[tuple[Any, ...], Node] = {}
        blocks = self._causal_blocks(cells, mask) if self.config.causal else [(cells, cells, mask)]
        self.blocks = [(own, self._of_heads(seen), part) for own, seen, part in blocks]
        self.mixed = any(isinstance(part, Int8Matrix) for part in backbone.modules())

    def bert(self, x: Node, backbone: Any) -> Node:
        for layer in backbone.encoder.layer:
            attention = layer.attention
            parts = (attention.self.query, attention.self.key, attention.self.value)
            q, k, v = map(self.heads, self.linears(x, *parts))
            out = self.attend(op.multiply(q, self.number(self.config.head_dim**-0.5)), k, v)
            x = self.norm(op.add(self.linear(out, attention.output.dense), x), attention.output.LayerNorm)
            middle = op.gelu(
                self.linear(x, layer.intermediate.dense), "tanh" if self.config.gelu == "tanh" else "erf"
            )
            x = self.norm(op.add(self.linear(middle, layer.output.dense), x), layer.output.LayerNorm)
        return x

    def qwen3(self, x: Node, backbone: Any, cos: Node, sin: Node) -> Node:
        cos, sin = (op.unsqueeze(part, self.ints(0)) for part in (cos, sin))
        for layer in backbone.layers:
            own = layer.self_attn
            y = self.rms(x, layer.input_layernorm)
            q, k, v = map(self.heads, self.linears(y, own.q_proj, own.k_proj, own.v_proj))
            q = self._rotate(self.rms(q, own.q_norm, times=self.config.head_dim**-0.5), cos, sin)
            k = self._rotate(self.rms(k, own.k_norm), cos, sin)
            out = self.attend(q, k, v)
            x = op.add(x, self.linear(out, own.o_proj))
            y = self.rms(x, layer.post_attention_layernorm)
            gate, up = self.linear(y, layer.mlp.gate_proj), self.linear(y, layer.mlp.up_proj)
            x = op.add(x, self.linear(op.multiply(op.swish(gate), up), layer.mlp.down_proj))
        return self.rms(x, backbone.norm)

    def linears(self, x: Node, *layers: Any) -> list[Node]:
        """The output of each of the layers that read ``x``; of small ones by one product."""
        if self.int8 and sum(layer.weight.numel() for layer in layers) > JOINED_BYTES:
            return [self.linear(x, layer) for layer in layers]
        widths = self.ints(*(len(layer.weight) for layer in layers))
        found: list[Node] = op.variadic_split(self.linear(x, *layers), self.ints(-1), widths).outputs()
        return found

    def linear(self, x: Node, *layers: Any) -> Node:
        """One product for all layers that read ``x``, their outputs side by side.

        In int8, float layers beside int8 ones are computed in bfloat16: they were left so on purpose.
        """
        out = self.product(x, *layers)
        if layers[0].bias is None:
            return out
        return op.add(out, op.constant(np.concatenate([_array(layer.bias) for layer in layers])))

    def product(self, x: Node, *layers: Any) -> Node:
        if not self.int8:
            return op.matmul(x, op.constant(np.concatenate([_dense(layer) for layer in layers])), False, True)
        if self.mixed and not _is_int8(layers[0]):
            matrix = op.constant(np.concatenate([_dense(layer) for layer in layers]), Type.bf16)
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
        for own, seen, mask in self.blocks:
            rows_q, rows_k, rows_v = (
                op.transpose(op.gather(x, cells, self.ints(0)), self.ints(*TO_HEADS))
                for x, cells in ((q, own), (k, seen), (v, seen))
            )
            scores = op.add(op.matmul(rows_q, rows_k, False, True), mask)
            out = op.matmul(op.softmax(scores, 3), rows_v, False, False)
            blocks.append(op.transpose(out, self.ints(*TO_HEADS)))
        rows = op.reshape(op.concat(blocks, 1), self.ints(-1, self.config.num_heads * width), False)
        return op.gather(rows, self.places, self.ints(0))

    def norm(self, x: Node, layer: Any) -> Node:
        out = op.mvn(x, self.ints(-1), True, self.config.norm_eps, "inside_sqrt")
        return op.add(op.multiply(out, op.constant(_array(layer.weight))), op.constant(_array(layer.bias)))

    def rms(self, x: Node, layer: Any, times: float = 1.0) -> Node:
        mean = op.reduce_mean(op.multiply(x, x), self.ints(-1), True)
        scale = op.power(op.add(mean, self.number(layer.eps)), self.number(-0.5))
        weight = _array(layer.weight) * np.float32(times)
        return op.multiply(op.multiply(x, scale), op.constant(weight))

    def _rotate(self, x: Node, cos: Node, sin: Node) -> Node:
        """Rotary positions: (C, H, W) and tables, (1, C, 1, W) -> (C, H, W).

        Four dimensions and slices are the form in which OpenVINO recognises them and has a kernel.
        """
        x = op.unsqueeze(x, self.ints(0))
        half = self.config.head_dim // 2
        low = self.slice(x, self.ints(0), self.ints(half), 3)
        high = self.slice(x, self.ints(half), self.ints(2 * half), 3)
        turned = op.concat([op.multiply(high, self.number(-1)), low], -1)
        return op.squeeze(op.add(op.multiply(x, cos), op.multiply(turned, sin)), self.ints(0))

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


def _is_int8(layer: Any) -> bool:
    return isinstance(layer, Int8Linear)


def _dense(layer: Any) -> np.ndarray:
    return _array(layer.dense() if _is_int8(layer) else layer.weight)


def _int8(*layers: Any) -> tuple[Node, np.ndarray]:
    """The layers' weights one below the other, (O, I), and their scales, (O, 1)."""
    if len(layers) == 1 and _is_int8(layers[0]):
        layer = layers[0]
        return op.constant(layer.weight.numpy(), shared_memory=True), _array(layer.scale)
    pairs = [
        (layer.weight, layer.scale) if _is_int8(layer) else quantize_rows(layer.weight) for layer in layers
    ]
    return (
        op.constant(np.concatenate([whole.numpy() for whole, _ in pairs])),
        np.concatenate([_array(scale) for _, scale in pairs]),
    )


def _array(weight: Tensor) -> np.ndarray:
    array: np.ndarray = weight.detach().float().numpy()
    return array
