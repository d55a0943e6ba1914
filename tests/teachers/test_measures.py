"""Rank correlation and retrieval measures, against hand-computed values and SciPy."""

import math

import numpy as np
import pytest

from jaspertc.errors import InputError
from jaspertc.teaching.measures import cosines, retrieval_scores, spearman

RNG = np.random.default_rng(2)


def test_spearman_is_scipys():
    stats = pytest.importorskip("scipy.stats")
    for _ in range(20):
        first, second = RNG.integers(0, 9, 50), RNG.normal(size=50).round(1)
        assert abs(spearman(first, second) - stats.spearmanr(first, second).statistic) < 1e-12
    assert math.isnan(spearman([1, 1], [1, 2]))


def test_cosines():
    first, second = np.array([[3, 4], [1, 0]], "f4"), np.array([[6, 8], [0, 2]], "f4")
    assert cosines(first, second).tolist() == pytest.approx([1, 0])


def test_retrieval_by_hand():
    documents = np.array([[1.0, 0], [0.9, 0.1], [0, 1]], "f4")
    query = np.array([[1.0, 0]], "f4")
    assert retrieval_scores(query, documents, [{0}]) == pytest.approx((1, 1))
    assert retrieval_scores(query, documents, [{1}]) == pytest.approx((0, 1 / math.log2(3)))
    both = (1 / math.log2(3) + 1 / math.log2(4)) / (1 + 1 / math.log2(3))
    assert retrieval_scores(query, documents, [{1, 2}]) == pytest.approx((0, both))


def test_equal_vectors_earn_nothing_and_ten_is_the_cut():
    documents = np.ones((11, 2), "f4")
    assert retrieval_scores(documents[:1], documents, [{0}]) == (0, 0)
    assert retrieval_scores(documents[:1], documents[:10], [{0}])[1] == pytest.approx(1 / math.log2(11))


def test_many_queries():
    vectors = RNG.normal(size=(600, 8)).astype("f4")
    assert retrieval_scores(vectors, vectors, [{n} for n in range(600)]) == pytest.approx((1, 1))


def test_no_queries():
    with pytest.raises(InputError, match="there are no queries to score"):
        retrieval_scores(np.ones((0, 2), "f4"), np.ones((3, 2), "f4"), [])
