"""``BertBackbone``'s layers as an OpenVINO graph.

Shape legend: C tokens, D model width.
"""

from typing import Any

from openvino import opset13 as op
from torch import nn

from jaspertc.engine.runtimes.openvino.graph import LayerGraph, Node, array


class Graph(LayerGraph):
    """Positions, token type and the first LayerNorm stay in PyTorch."""

    def before(self) -> nn.Module | None:
        embeddings: nn.Module = self.backbone.embeddings
        return embeddings

    def layers(self, x: Node, *extra: Node) -> Node:
        for layer in self.backbone.encoder.layer:
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
