"""``BertBackbone``'s layers as an OpenVINO graph.

Shape legend: C tokens, D model width.
"""

from typing import Any

import numpy as np
from openvino import Type
from openvino import opset13 as op

from jaspertc.config import BackboneConfig
from jaspertc.engine.runtimes.openvino.graph import LayerGraph, Node
from jaspertc.model.weights import array, dense
from jaspertc.types import IntArray


class Graph(LayerGraph):
    """From the embeddings' positions, token type and LayerNorm on."""

    def extra_inputs(self) -> list[Node]:
        """Positions, (C,) int32."""
        return [op.parameter([-1], Type.i32, "positions")]

    @staticmethod
    def extra_values(config: BackboneConfig, positions: IntArray) -> list[np.ndarray]:
        return [positions]

    def layers(self, x: Node, *extra: Node) -> Node:
        tables = self.weights.embeddings
        positions = dense(tables.position_embeddings)[self.config.position_offset :]
        table = op.constant(positions + dense(tables.token_type_embeddings)[0])
        x = self.norm(op.add(x, op.gather(table, extra[0], self.ints(0))), tables.LayerNorm)
        for layer in self.weights.encoder.layer:
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

    def norm(self, x: Node, layer: Any) -> Node:
        out = op.mvn(x, self.ints(-1), True, self.config.norm_eps, "inside_sqrt")
        return op.add(op.multiply(out, op.constant(array(layer.weight))), op.constant(array(layer.bias)))
