"""The front of an exported graph: real tokens, target lengths, windows, and the mean of each window.

All texts of a call lie one after another in packed rows, as in ``model.compressors``; integers throughout,
so that the windows are exact, and target lengths in float64 as Algorithm 1 needs them.

Shape legend: N texts, L width of the ids, T tokens, C compressed tokens, S width of the rows of compressed
tokens, W tokens of the widest window, D model width.
"""

from dataclasses import dataclass

import numpy as np

from jaspertc.export.graph import Graph, Value


@dataclass(frozen=True, kw_only=True)
class Tokens:
    """The real tokens of all texts.

    Attributes:
        ids: shape (T,), within the vocabulary.
        lengths: tokens per text, shape (N,), each >= 1.
        offsets: where each text begins, shape (N,).
        empty: texts whose mask has no token, shape (N,), bool; their first id stands for them.
    """

    ids: Value
    lengths: Value
    offsets: Value
    empty: Value


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where the compressed tokens of each text lie, packed (C,) and as rows (N, S).

    Attributes:
        lengths: compressed tokens per text, shape (N,).
        text: the text of each token, shape (C,).
        positions: 0 ... of each token within its text, shape (C,).
        cells: the token in each cell, its text's last one in empty cells, shape (N, S).
        places: the cell of each token, shape (C,).
        real: whether a cell is not empty, shape (N, S), bool.
    """

    lengths: Value
    text: Value
    positions: Value
    cells: Value
    places: Value
    real: Value


def _offsets(graph: Graph, lengths: Value) -> Value:
    return graph.op("CumSum", lengths, 0, exclusive=1)


def real_tokens(graph: Graph, ids: Value, mask: Value, *, vocab_size: int) -> Tokens:
    """What the mask, (N, L), leaves of the ids, (N, L), wherever the padding lies."""
    real = graph.op("Not", graph.op("Equal", mask, 0))
    counts = graph.reduce("Sum", graph.cast(real, np.int64), 1)
    empty = graph.op("Equal", counts, 0)
    first = graph.op("Equal", graph.range(graph.dimension(ids, 1)), 0)
    real = graph.op("Or", real, graph.op("And", graph.unsqueeze(empty, 1), first))
    where = graph.op("Transpose", graph.op("NonZero", real), perm=[1, 0])
    lengths = graph.op("Max", counts, 1)
    return Tokens(
        ids=graph.op("Clip", graph.op("GatherND", ids, where), 0, vocab_size - 1),
        lengths=lengths,
        offsets=_offsets(graph, lengths),
        empty=empty,
    )


def target_lengths(
    graph: Graph, lengths: Value, ratio: Value, threshold: Value, *, default_ratio: float
) -> Value:
    """``model.lengths.target_lengths`` with bad arguments clamped: a graph cannot raise.

    Args:
        ratio: float64, shape (), (1,) or (N,); NaN is ``default_ratio``, others are clamped to [0, 1].
        threshold: int64, shape (), (1,) or (N,); less than 1 is 1.
    """
    given = graph.reshape(ratio, -1)
    chosen = graph.op("Where", graph.op("IsNaN", given), np.array(default_ratio), given)
    chosen = graph.op("Clip", chosen, np.array(0.0), np.array(1.0))
    least = graph.op("Max", graph.reshape(threshold, -1), 1)
    above = graph.cast(lengths - least, np.float64) * chosen
    wanted = graph.cast(graph.cast(least, np.float64) + above, np.int64)
    return graph.op("Where", graph.op("LessOrEqual", lengths, least), lengths, wanted)


def layout_of(graph: Graph, lengths: Value) -> Layout:
    """Rows and packed places of texts with these compressed lengths, shape (N,), each >= 1."""
    columns = graph.unsqueeze(graph.range(graph.reduce("Max", lengths)), 0)
    real = columns < graph.unsqueeze(lengths, 1)
    text, positions = (
        graph.reshape(part, -1)
        for part in graph.ops("Split", 2, graph.op("NonZero", real), axis=0, num_outputs=2)
    )
    inside = graph.op("Min", columns, graph.unsqueeze(lengths - 1, 1))
    return Layout(
        lengths=lengths,
        text=text,
        positions=positions,
        cells=graph.unsqueeze(_offsets(graph, lengths), 1) + inside,
        places=text * graph.dimension(real, 1) + positions,
        real=real,
    )
