"""One ranking of two: cosines, and a bonus for the terms that query and passage share."""

import math
from collections.abc import Callable

import numpy as np

from jaspertc.search.ranking import Ranking
from jaspertc.types import FloatArray, IntArray

# What sharing all terms of the query is worth, in standard deviations of the cosines of all passages: models
# differ in how far these lie apart. Chosen on training pairs: docs/reports/search.md.
TERMS_WEIGHT = 10.0
# A few passages tell little of the spread: it counts as if this many more had been seen with this one.
PRIOR_PASSAGES, PRIOR_SPREAD = 30, 0.07


def fused(
    by_vector: Ranking, by_terms: Ranking, passages: int, cosines_of: Callable[[IntArray], FloatArray]
) -> Ranking:
    """Passages of either ranking by cosine + weight * spread * share of the terms, equal ones by number.

    Args:
        by_vector: of cosines, with their spread.
        by_terms: of shares in [0, 1]; a passage that is not in it shares nothing.
        passages: how many were compared.
        cosines_of: cosines of passages that only share terms, shape (N,) -> (N,).
    """
    added = np.setdiff1d(by_terms.numbers, by_vector.numbers)
    numbers = np.concatenate([by_vector.numbers, added])
    cosines = np.concatenate([by_vector.scores, cosines_of(added)])
    share = dict(zip(by_terms.numbers.tolist(), by_terms.scores.tolist()))
    bonus = np.array([share.get(number, 0.0) for number in numbers.tolist()], dtype=np.float32)
    scores = cosines + np.float32(TERMS_WEIGHT * _spread(by_vector.spread, passages)) * bonus
    order = np.lexsort((numbers, -scores))
    return Ranking(numbers[order], scores[order], by_vector.spread)


def _spread(seen: float, passages: int) -> float:
    return math.sqrt((passages * seen**2 + PRIOR_PASSAGES * PRIOR_SPREAD**2) / (passages + PRIOR_PASSAGES))
