"""What each compressor averages, as a graph. To add one: a function here and a line in ``WINDOWS``.

Shape legend: C compressed tokens, W tokens of the widest window.
"""

from collections.abc import Callable

import numpy as np

from jaspertc.export.compression import Layout, Tokens
from jaspertc.export.graph import Graph, Value
from jaspertc.model.compression import window_edges


def adaptive_average(graph: Graph, tokens: Tokens, layout: Layout) -> tuple[Value, Value]:
    """AdaptiveAvgPool1d's windows: the token ids in each window, and what each counts, (C, W) both."""
    length, target, offset = (
        graph.op("Gather", per_text, layout.text)
        for per_text in (tokens.lengths, layout.lengths, tokens.offsets)
    )
    first, end = window_edges(layout.positions, length, target)
    size = graph.unsqueeze(end - first, 1)
    steps = graph.unsqueeze(graph.range(graph.reduce("Max", size)), 0)
    where = graph.unsqueeze(offset + first, 1) + graph.op("Min", steps, size - 1)
    weights = graph.cast(steps < size, np.float32) / graph.cast(size, np.float32)
    return graph.op("Gather", tokens.ids, where), weights


def every_token(graph: Graph, tokens: Tokens, layout: Layout) -> tuple[Value, Value]:
    """No compression: texts longer than the model's positions lose their end."""
    where = graph.op("Gather", tokens.offsets, layout.text) + layout.positions
    ids = graph.unsqueeze(graph.op("Gather", tokens.ids, where), 1)
    return ids, graph.value(np.ones((1, 1), dtype=np.float32))


WINDOWS: dict[str, Callable[[Graph, Tokens, Layout], tuple[Value, Value]]] = {
    "none": every_token,
    "adaptive-average": adaptive_average,
}
