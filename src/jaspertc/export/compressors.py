"""The windows of a compressor as a graph, by its own rule for their edges.

Shape legend: C compressed tokens, W tokens of the widest window.
"""

import numpy as np

from jaspertc.export.compression import Layout, Tokens
from jaspertc.export.graph import Graph, Value
from jaspertc.model.compressors.windows import Edges


def windows(graph: Graph, tokens: Tokens, layout: Layout, edges: Edges) -> tuple[Value, Value]:
    """The token ids in each window, and what each counts in its mean, (C, W) both."""
    length, target, offset = (
        graph.op("Gather", per_text, layout.text)
        for per_text in (tokens.lengths, layout.lengths, tokens.offsets)
    )
    first, end = edges(layout.positions, length, target)
    size = graph.unsqueeze(end - first, 1)
    steps = graph.unsqueeze(graph.range(graph.reduce("Max", size)), 0)
    where = graph.unsqueeze(offset + first, 1) + graph.op("Min", steps, size - 1)
    weights = graph.cast(steps < size, np.float32) / graph.cast(size, np.float32)
    return graph.op("Gather", tokens.ids, where), weights
