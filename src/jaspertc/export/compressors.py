"""The windows of a compressor as a graph, by its own rules for their edges and weights.

Shape legend: C compressed tokens, W tokens of the widest window.
"""

import numpy as np

from jaspertc.export.compression import Layout, Tokens
from jaspertc.export.graph import Graph, Value
from jaspertc.model.compressors.base import Compressor


def windows(
    graph: Graph, tokens: Tokens, layout: Layout, compressor: type[Compressor]
) -> tuple[Value, Value]:
    """The token ids in each window, and what each counts in its mean, (C, W) both."""
    length, target, offset = (
        graph.op("Gather", per_text, layout.text)
        for per_text in (tokens.lengths, layout.lengths, tokens.offsets)
    )
    first, end = compressor.window_edges(layout.positions, length, target)
    size = graph.unsqueeze(end - first, 1)
    steps = graph.unsqueeze(graph.range(graph.reduce("Max", size)), 0)
    inside = graph.op("Min", steps, size - 1)
    share, whole = graph.cast(steps < size, np.int64), size
    if shares := compressor.shares():
        text = (graph.unsqueeze(each, 1) for each in (layout.positions, length, target))
        share = share * shares(graph.unsqueeze(first, 1) + inside, *text)
        whole = graph.reduce("Sum", share, 1, keepdims=True)
    weights = graph.cast(share, np.float32) / graph.cast(whole, np.float32)
    where = graph.unsqueeze(offset + first, 1) + inside
    return graph.op("Gather", tokens.ids, where), weights
