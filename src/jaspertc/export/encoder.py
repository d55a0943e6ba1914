"""A whole model as one graph: ids, mask, ratio and threshold to unit vectors.

Shape legend: N texts, L width of the ids, S width of the rows of compressed tokens, C compressed tokens,
D model width, E embedding width.
"""

from copy import deepcopy
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper
from torch import Tensor

from jaspertc.checkpoint import Checkpoint
from jaspertc.errors import CheckpointError
from jaspertc.export.backbones import layers_graph
from jaspertc.export.compression import Layout, layout_of, real_tokens, target_lengths
from jaspertc.export.compressors import windows
from jaspertc.export.graph import Graph, Value
from jaspertc.export.products import Products, Table
from jaspertc.model.backbones import BACKBONES
from jaspertc.model.compressors import COMPRESSORS
from jaspertc.model.compressors.base import Compressor
from jaspertc.model.encoder import Encoder
from jaspertc.model.int8 import Int8Matrix
from jaspertc.model.weights import array
from jaspertc.types import IntArray

INPUTS = ("input_ids", "attention_mask", "ratio", "threshold")
OUTPUT, RAW = "embedding", "raw"
FOLDED_ROWS = 4096  # of the token table that pass through the compressor's MLP together


@dataclass(frozen=True, kw_only=True)
class ExportedGraph:
    """A graph with its inputs and outputs."""

    graph: Graph
    inputs: list[onnx.ValueInfoProto]
    outputs: list[onnx.ValueInfoProto]


def _has_graph(compressor: type[Compressor]) -> bool:
    """Whether its rows are means of its windows, and as many as Algorithm 1 says."""
    usual = not compressor.can_compress or compressor.target_lengths is Compressor.target_lengths
    return usual and compressor.averages_windows()


def check_exportable(checkpoint: Checkpoint) -> None:
    """Raise CheckpointError, by name, for a compressor or backbone that has no graph."""
    config = checkpoint.info.config
    for what, kind, known in (
        ("compressor", config.compressor.kind, [n for n, cls in COMPRESSORS.items() if _has_graph(cls)]),
        ("backbone", config.backbone.kind, [n for n, cls in BACKBONES.items() if cls.export_graph]),
    ):
        if kind not in known:
            raise CheckpointError(
                f"the {what} {kind!r} of {checkpoint.name!r} cannot be exported; "
                f"those that can are {', '.join(known)}"
            )


def build(
    checkpoint: Checkpoint,
    *,
    weights: str,
    ratio: float,
    threshold: int,
    keep: IntArray | None = None,
    defaults: bool = True,
    raw: bool = False,
) -> ExportedGraph:
    """The graph of a model.

    Args:
        weights: ``float32``, ``float16`` or ``int8``.
        ratio: the default.
        threshold: the default.
        keep: rows of the token table to keep, in their new order; ``None`` keeps all.
        defaults: ratio and threshold may be left out in a call.
        raw: a second output, ``raw``: the vectors before normalisation.

    Raises:
        CheckpointError: see ``check_exportable``.
    """
    check_exportable(checkpoint)
    encoder, graph = checkpoint.encoder, Graph()
    config = encoder.config
    ids, mask, given_ratio, given_threshold = (Value(graph, name) for name in INPUTS)
    rows = folded_rows(encoder, keep)
    vocab_size = len(rows.weight if isinstance(rows, Int8Matrix) else rows)
    tokens = real_tokens(graph, ids, mask, vocab_size=vocab_size)
    wanted = tokens.lengths
    if encoder.compressor.can_compress:
        wanted = target_lengths(graph, wanted, given_ratio, given_threshold, default_ratio=ratio)
    layout = layout_of(graph, graph.op("Min", wanted, config.backbone.max_positions))
    table = Table(graph, weights, rows)
    x = table.mean(*windows(graph, tokens, layout, type(encoder.compressor)))
    products = Products(graph, weights)
    x = layers_graph(products, config.backbone, encoder.backbone, layout, x)
    vectors = _head(products, encoder, POOLERS[config.pooler](graph, layout, x))
    vectors = graph.op("Where", graph.unsqueeze(tokens.empty, 1), np.array(0, np.float32), vectors)
    unit = _unit(graph, vectors) if config.normalize else vectors
    outputs = {OUTPUT: unit, RAW: vectors} if raw else {OUTPUT: unit}
    for name, value in outputs.items():
        graph.nodes.append(helper.make_node("Identity", [value.name], [name]))
    if defaults and encoder.compressor.can_compress:
        graph.weights["ratio"] = np.array([ratio])
        graph.weights["threshold"] = np.array([threshold])
    return ExportedGraph(
        graph=graph,
        inputs=_inputs(encoder.compressor.can_compress),
        outputs=[
            helper.make_tensor_value_info(name, TensorProto.FLOAT, ["texts", config.embedding_dims])
            for name in outputs
        ],
    )


def _inputs(can_compress: bool) -> list[onnx.ValueInfoProto]:
    """Ratio and threshold have one value for all texts, or one for each."""
    shape = ["texts", "tokens"]
    kinds = [(TensorProto.INT64, shape)] * 2
    kinds += [(TensorProto.DOUBLE, ["ratios"]), (TensorProto.INT64, ["thresholds"])]
    inputs = [helper.make_tensor_value_info(name, *kind) for name, kind in zip(INPUTS, kinds)]
    return inputs if can_compress else inputs[:2]


@torch.inference_mode()
def folded_rows(encoder: Encoder, keep: IntArray | None = None) -> Tensor | Int8Matrix:
    """The token table, or some of its rows, after the compressor's transform of each token: (V, D)."""
    table: Any = encoder.backbone.token_table
    ids = torch.arange(table.num_embeddings) if keep is None else torch.from_numpy(keep)
    if not encoder.compressor.transforms:
        whole = isinstance(table, Int8Matrix)
        return Int8Matrix(table.weight[ids], table.scale[ids]) if whole else table.weight.detach()[ids]
    transform = deepcopy(encoder.compressor).float().transform
    return torch.cat([transform(table(part).float()) for part in torch.split(ids, FOLDED_ROWS)])


def _mean(graph: Graph, layout: Layout, x: Value) -> Value:
    rows = graph.op("Gather", x, layout.cells) * graph.unsqueeze(graph.cast(layout.real, np.float32), 2)
    return graph.reduce("Sum", rows, 1) / graph.unsqueeze(graph.cast(layout.lengths, np.float32), 1)


def _first(graph: Graph, layout: Layout, x: Value) -> Value:
    return graph.op("Gather", x, graph.op("Gather", layout.cells, 0, axis=1))


def _last(graph: Graph, layout: Layout, x: Value) -> Value:
    return graph.op("Gather", x, graph.op("Gather", layout.cells, -1, axis=1))


POOLERS = {"mean": _mean, "first": _first, "last": _last}


def _head(products: Products, encoder: Encoder, pooled: Value) -> Value:
    """The linear head, computed in float32 as in the Embedder: (N, D) -> (N, E)."""
    layer, graph = encoder.head.linear, products.graph
    if layer is None:
        return pooled
    matrix = products.matrix("head.weight", layer.weight)
    out = graph.op("MatMul", pooled, matrix)
    return out if layer.bias is None else out + graph.weight("head.bias", array(layer.bias))


def _unit(graph: Graph, vectors: Value) -> Value:
    """Unit length; a zero vector stays zero."""
    norm = graph.op("ReduceL2", vectors, np.array([1]), keepdims=1)
    return vectors / graph.op("Max", norm, np.array(np.finfo(np.float32).tiny))
