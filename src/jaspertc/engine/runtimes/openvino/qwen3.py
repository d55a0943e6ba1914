"""``Qwen3Backbone``'s layers as an OpenVINO graph.

Shape legend: C tokens, D model width, H heads, W head width.
"""

from typing import Any

import numpy as np
from openvino import Type
from openvino import opset13 as op

from jaspertc.config import BackboneConfig
from jaspertc.engine.runtimes.openvino.graph import LayerGraph, Node
from jaspertc.model.weights import array
from jaspertc.types import IntArray


class Graph(LayerGraph):
    """Cosines and sines come from the host, since OpenVINO would compute them in bfloat16 where it may."""

    def extra_inputs(self) -> list[Node]:
        """``rotary_tables``, each (C, 1, W) float32."""
        return [op.parameter([-1, 1, self.config.head_dim], Type.f32, name) for name in ("cosines", "sines")]

    @staticmethod
    def extra_values(config: BackboneConfig, positions: IntArray) -> list[np.ndarray]:
        """As ``qwen3.rotary_tables``, in float32."""
        exponents = np.arange(0, config.head_dim, 2, dtype=np.float32) / np.float32(config.head_dim)
        inverse = np.float32(config.rope_theta) ** -exponents
        angles = positions.astype(np.float32)[:, None] * inverse
        angles = np.concatenate((angles, angles), -1)[:, None]
        return [np.cos(angles), np.sin(angles)]

    def layers(self, x: Node, *extra: Node) -> Node:
        cos, sin = (op.unsqueeze(part, self.ints(0)) for part in extra)
        for layer in self.weights.layers:
            attention = layer.self_attn
            y = self.rms(x, layer.input_layernorm)
            q, k, v = map(self.heads, self.linears(y, attention.q_proj, attention.k_proj, attention.v_proj))
            q = self._rotate(self.rms(q, attention.q_norm, times=self.config.head_dim**-0.5), cos, sin)
            k = self._rotate(self.rms(k, attention.k_norm), cos, sin)
            out = self.attend(q, k, v)
            x = op.add(x, self.linear(out, attention.o_proj))
            y = self.rms(x, layer.post_attention_layernorm)
            gate, up = self.linear(y, layer.mlp.gate_proj), self.linear(y, layer.mlp.up_proj)
            x = op.add(x, self.linear(op.multiply(op.swish(gate), up), layer.mlp.down_proj))
        return self.rms(x, self.weights.norm)

    def rms(self, x: Node, layer: Any, times: float = 1.0) -> Node:
        mean = op.reduce_mean(op.multiply(x, x), self.ints(-1), True)
        scale = op.power(op.add(mean, self.number(self.config.norm_eps)), self.number(-0.5))
        weight = array(layer.weight) * np.float32(times)
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
