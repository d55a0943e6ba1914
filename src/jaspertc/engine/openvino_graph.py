"""A backbone's layers as an OpenVINO graph over rows of tokens.

Weights are int8 with one scale per output channel; activations are quantised by OpenVINO as they come, in
groups within a token, so a text's vector does not depend on its neighbours.

Shape legend: R rows, S tokens of a row, D model width, H heads, K key/value heads, W width of a head.
"""

from typing import Any

import numpy as np
import openvino as ov
from openvino import Type
from openvino import opset13 as op
from torch import Tensor

from jaspertc.model.backbones.base import Backbone
from jaspertc.model.backbones.bert import BertBackbone
from jaspertc.model.backbones.qwen3 import Qwen3Backbone, rotary_tables

Node = Any
FAR = np.float32(-1e9)  # added to the scores of what a token must not see


def build_graph(backbone: Backbone, *, int8: bool) -> ov.Model:
    """The layers of a backbone.

    Inputs: states, (R, S, D) float32; segments, (R, S) int32, the text of each cell; positions, (R, S) int32.
    Output: last hidden states, (R, S, D) float32.
    """
    states = op.parameter([-1, -1, backbone.config.hidden_size], Type.f32, "states")
    segments = op.parameter([-1, -1], Type.i32, "segments")
    positions = op.parameter([-1, -1], Type.i32, "positions")
    layers = _Layers(backbone, int8, segments, positions)
    build = {BertBackbone: layers.bert, Qwen3Backbone: layers.qwen3}[type(backbone)]
    return ov.Model([build(states, backbone)], [states, segments, positions], "layers")


class _Layers:
    def __init__(self, backbone: Backbone, int8: bool, segments: Node, positions: Node) -> None:
        self.config, self.int8, self.positions = backbone.config, int8, positions
        self.mask = self._mask(segments)

    def _mask(self, segments: Node) -> Node:
        """0 where a token may look and FAR elsewhere, (R, 1, S, S)."""
        rows = op.unsqueeze(segments, _ints(1, 3))
        columns = op.unsqueeze(segments, _ints(1, 2))
        seen = op.equal(rows, columns)
        if self.config.causal:
            later = op.unsqueeze(self.positions, _ints(1, 2))
            seen = op.logical_and(seen, op.less_equal(later, op.unsqueeze(self.positions, _ints(1, 3))))
        return op.select(seen, op.constant(np.float32(0)), op.constant(FAR))

    def bert(self, x: Node, backbone: Any) -> Node:
        for layer in backbone.encoder.layer:
            attention = layer.attention
            parts = (attention.self.query, attention.self.key, attention.self.value)
            width = self.config.hidden_size
            q, k, v = op.split(self.linear(x, *parts), op.constant(np.int64(-1)), 3).outputs()
            out = self.attend(self.heads(q), self.heads(k), self.heads(v), width)
            x = self.norm(op.add(self.linear(out, attention.output.dense), x), attention.output.LayerNorm)
            middle = op.gelu(
                self.linear(x, layer.intermediate.dense), "tanh" if self.config.gelu == "tanh" else "erf"
            )
            x = self.norm(op.add(self.linear(middle, layer.output.dense), x), layer.output.LayerNorm)
        return x

    def qwen3(self, x: Node, backbone: Any) -> Node:
        config = self.config
        cos, sin = self._rotary()
        kv = config.num_kv_heads * config.head_dim
        sizes = _ints(config.num_heads * config.head_dim, kv, kv)
        for layer in backbone.layers:
            own = layer.self_attn
            y = self.rms(x, layer.input_layernorm)
            joined = self.linear(y, own.q_proj, own.k_proj, own.v_proj)
            q, k, v = op.variadic_split(joined, op.constant(np.int64(-1)), sizes).outputs()
            q = self._rotate(self.rms(self.heads(q), own.q_norm), cos, sin)
            k = self._rotate(self.rms(self.heads(k), own.k_norm), cos, sin)
            out = self.attend(
                q, self._repeat(k), self._repeat(self.heads(v)), config.num_heads * config.head_dim
            )
            x = op.add(x, self.linear(out, own.o_proj))
            y = self.rms(x, layer.post_attention_layernorm)
            gate, up = self.linear(y, layer.mlp.gate_proj), self.linear(y, layer.mlp.up_proj)
            x = op.add(x, self.linear(op.multiply(op.swish(gate), up), layer.mlp.down_proj))
        return self.rms(x, backbone.norm)

    def linear(self, x: Node, *layers: Any) -> Node:
        """One product for all layers that read ``x``, their outputs side by side."""
        weight = np.concatenate([_array(layer.weight) for layer in layers])
        if self.int8:
            scale = np.maximum(np.abs(weight).max(axis=1, keepdims=True) / 127, np.finfo(np.float32).tiny)
            whole = np.clip(np.rint(weight / scale), -127, 127).astype(np.int8)
            matrix = op.multiply(op.convert(op.constant(whole), Type.f32), op.constant(scale))
        else:
            matrix = op.constant(weight)
        out = op.matmul(x, matrix, False, True)
        if layers[0].bias is None:
            return out
        return op.add(out, op.constant(np.concatenate([_array(layer.bias) for layer in layers])))

    def heads(self, x: Node) -> Node:
        """(R, S, H W) -> (R, H, S, W)."""
        shape = _ints(0, 0, -1, self.config.head_dim)
        return op.transpose(op.reshape(x, shape, True), _ints(0, 2, 1, 3))

    def attend(self, q: Node, k: Node, v: Node, width: int) -> Node:
        out = op.scaled_dot_product_attention(q, k, v, self.mask)
        return op.reshape(op.transpose(out, _ints(0, 2, 1, 3)), _ints(0, 0, width), True)

    def norm(self, x: Node, layer: Any) -> Node:
        out = op.mvn(x, _ints(-1), True, self.config.norm_eps, "inside_sqrt")
        return op.add(op.multiply(out, op.constant(_array(layer.weight))), op.constant(_array(layer.bias)))

    def rms(self, x: Node, layer: Any) -> Node:
        mean = op.reduce_mean(op.multiply(x, x), _ints(-1), True)
        scale = op.divide(
            op.constant(np.float32(1)), op.sqrt(op.add(mean, op.constant(np.float32(layer.eps))))
        )
        return op.multiply(op.multiply(x, scale), op.constant(_array(layer.weight)))

    def _rotary(self) -> tuple[Node, Node]:
        """Cosines and sines of each cell's position, (R, 1, S, W)."""
        import torch

        config = self.config
        every = torch.arange(config.max_positions)
        tables = rotary_tables(every, config.head_dim, config.rope_theta, torch.float32)
        found = []
        for table in tables:
            rows = op.gather(op.constant(table[:, 0].numpy()), self.positions, op.constant(np.int64(0)))
            found.append(op.unsqueeze(rows, _ints(1)))
        return found[0], found[1]

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


def _ints(*values: int) -> Node:
    return op.constant(np.array(values, dtype=np.int64))


def _array(weight: Tensor) -> np.ndarray:
    array: np.ndarray = weight.detach().float().numpy()
    return array
