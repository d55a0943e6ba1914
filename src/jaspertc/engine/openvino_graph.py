"""A backbone's layers as an OpenVINO graph over packed tokens; attention over rows, one text in each.

Weights are int8 with one scale per output channel; activations are quantised by OpenVINO as they come, in
groups within a token, so a text's vector does not depend on its neighbours.

Shape legend: C tokens, R rows, S width of a row, D model width, H heads, K key/value heads, W head width.
"""

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
JOINED_BYTES = 1 << 20  # int8 weights up to this size are copied to be joined, larger ones stay in their file


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
        self.blocks = _causal_blocks(cells, mask) if self.config.causal else [(cells, cells, mask)]
        self.mixed = any(isinstance(part, Int8Matrix) for part in backbone.modules())

    def bert(self, x: Node, backbone: Any) -> Node:
        for layer in backbone.encoder.layer:
            attention = layer.attention
            parts = (attention.self.query, attention.self.key, attention.self.value)
            q, k, v = map(self.heads, self.linears(x, *parts))
            out = self.attend(q, k, v)
            x = self.norm(op.add(self.linear(out, attention.output.dense), x), attention.output.LayerNorm)
            middle = op.gelu(
                self.linear(x, layer.intermediate.dense), "tanh" if self.config.gelu == "tanh" else "erf"
            )
            x = self.norm(op.add(self.linear(middle, layer.output.dense), x), layer.output.LayerNorm)
        return x

    def qwen3(self, x: Node, backbone: Any, cos: Node, sin: Node) -> Node:
        for layer in backbone.layers:
            own = layer.self_attn
            y = self.rms(x, layer.input_layernorm)
            q, k, v = map(self.heads, self.linears(y, own.q_proj, own.k_proj, own.v_proj))
            q = self._rotate(self.rms(q, own.q_norm), cos, sin)
            k = self._rotate(self.rms(k, own.k_norm), cos, sin)
            out = self.attend(q, k, v)
            x = op.add(x, self.linear(out, own.o_proj))
            y = self.rms(x, layer.post_attention_layernorm)
            gate, up = self.linear(y, layer.mlp.gate_proj), self.linear(y, layer.mlp.up_proj)
            x = op.add(x, self.linear(op.multiply(op.swish(gate), up), layer.mlp.down_proj))
        return self.rms(x, backbone.norm)

    def linears(self, x: Node, *layers: Any) -> list[Node]:
        """The output of each of the layers that read ``x``; of small ones by one product."""
        if self.int8 and sum(layer.weight.nbytes for layer in layers if _is_int8(layer)) > JOINED_BYTES:
            return [self.linear(x, layer) for layer in layers]
        widths = _ints(*(len(layer.weight) for layer in layers))
        found: list[Node] = op.variadic_split(self.linear(x, *layers), _ints(-1), widths).outputs()
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
        return op.reshape(x, _ints(0, -1, self.config.head_dim), True)

    def attend(self, q: Node, k: Node, v: Node) -> Node:
        """Attention within each row: (C, H, W) and twice (C, K, W) -> (C, H W)."""
        blocks = [
            op.scaled_dot_product_attention(
                self.rows(q, own), self._repeat(self.rows(k, seen)), self._repeat(self.rows(v, seen)), mask
            )
            for own, seen, mask in self.blocks
        ]
        cells = op.reshape(
            op.transpose(op.concat(blocks, 2), _ints(0, 2, 1, 3)),
            _ints(-1, self.config.num_heads * self.config.head_dim),
            False,
        )
        return op.gather(cells, self.places, _ints(0))

    def rows(self, x: Node, cells: Node) -> Node:
        """(C, H, W) -> (R, H, S, W)."""
        return op.transpose(op.gather(x, cells, _ints(0)), _ints(0, 2, 1, 3))

    def norm(self, x: Node, layer: Any) -> Node:
        out = op.mvn(x, _ints(-1), True, self.config.norm_eps, "inside_sqrt")
        return op.add(op.multiply(out, op.constant(_array(layer.weight))), op.constant(_array(layer.bias)))

    def rms(self, x: Node, layer: Any) -> Node:
        mean = op.reduce_mean(op.multiply(x, x), _ints(-1), True)
        scale = op.divide(
            op.constant(np.float32(1)), op.sqrt(op.add(mean, op.constant(np.float32(layer.eps))))
        )
        return op.multiply(op.multiply(x, scale), op.constant(_array(layer.weight)))

    def _rotate(self, x: Node, cos: Node, sin: Node) -> Node:
        low, high = op.split(x, op.constant(np.int64(-1)), 2).outputs()
        turned = op.concat([op.multiply(high, op.constant(np.float32(-1))), low], -1)
        return op.add(op.multiply(x, cos), op.multiply(turned, sin))

    def _repeat(self, x: Node) -> Node:
        """Key/value heads for each query head: (R, K, S, W) -> (R, H, S, W)."""
        heads, groups = self.config.num_heads, self.config.num_kv_heads
        if heads == groups:
            return x
        which = np.repeat(np.arange(groups), heads // groups)
        return op.gather(x, op.constant(which), op.constant(np.int64(1)))


def _causal_blocks(cells: Node, mask: Node) -> list[tuple[Node, Node, Node]]:
    """Cells of queries, cells of the keys that they may see, and their mask, for two halves of the rows.

    The first half does not look at the keys of the second. It is empty in rows of less than 128 cells, where
    that would save nothing.
    """
    width = op.gather(op.shape_of(cells), _ints(1), op.constant(np.int64(0)))
    middle = op.multiply(op.divide(width, _ints(128)), _ints(64))

    def part(x: Node, begin: Node, end: Node, axis: int) -> Node:
        return op.slice(x, begin, end, _ints(1), _ints(axis))

    first = part(cells, _ints(0), middle, 1)
    first_mask = part(part(mask, _ints(0), middle, 2), _ints(0), middle, 3)
    return [(first, first, first_mask), (part(cells, middle, width, 1), cells, part(mask, middle, width, 2))]


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


def _ints(*values: int) -> Node:
    return op.constant(np.array(values, dtype=np.int64))


def _array(weight: Tensor) -> np.ndarray:
    array: np.ndarray = weight.detach().float().numpy()
    return array
