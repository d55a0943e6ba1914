"""Batches by a budget of compressed tokens, since that is what a batch costs."""

import numpy as np

from jaspertc.types import IntArray


def plan_batches(targets: IntArray, lengths: IntArray, *, token_budget: int) -> list[IntArray]:
    """Group texts of similar compressed length.

    Args:
        targets: compressed tokens per text, shape (N,).
        lengths: tokens per text before compression, shape (N,); they bound memory at 16 budgets a batch.
        token_budget: compressed tokens per batch, > 0. A longer text makes a batch of its own.

    Returns:
        Indices of the texts of each batch, longest texts first; together a permutation of 0 ... N - 1.

    >>> [batch.tolist() for batch in plan_batches(np.array([2, 9, 4]), np.array([2, 9, 4]), token_budget=8)]
    [[1], [2, 0]]
    """
    order = np.argsort(-targets, kind="stable")
    batches: list[IntArray] = []
    begin = spent = read = 0
    for position, index in enumerate(order.tolist()):
        cost, raw = int(targets[index]), int(lengths[index])
        if position > begin and (spent + cost > token_budget or read + raw > 16 * token_budget):
            batches.append(order[begin:position])
            begin, spent, read = position, 0, 0
        spent, read = spent + cost, read + raw
    if len(order):
        batches.append(order[begin:])
    return batches
