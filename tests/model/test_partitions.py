"""Windows that share no token, and windows that share one by parts."""

import itertools
from fractions import Fraction

import numpy as np
import pytest

from jaspertc.model.compressors.adaptive_average import AdaptiveAverage
from jaspertc.model.compressors.disjoint import DisjointAverage, DisjointAverageConfig
from jaspertc.model.compressors.fractional import FractionalAverage, FractionalAverageConfig
from jaspertc.text.packing import pack

PAIRS = [
    (length, target)
    for length in (1, 2, 7, 30, 81, 100)
    for target in sorted({1, 2, length // 2, length - 1, length})
    if 1 <= target <= length
]


def matrix(compressor, length, target):
    """Compressed tokens as sums of tokens: (T, L)."""
    plan = compressor.windows(pack([np.arange(length)]), np.array([target]))
    sizes = np.diff(np.append(plan.starts, len(plan.gather)))
    weights = np.repeat(1 / sizes, sizes) if plan.weights is None else plan.weights
    result = np.zeros((target, length))
    np.add.at(result, (np.repeat(np.arange(target), sizes), plan.gather), weights)
    return result


@pytest.mark.parametrize(("length", "target"), PAIRS)
def test_disjoint_windows_are_a_partition_of_nearly_equal_parts(length, target):
    compressor = DisjointAverage(DisjointAverageConfig(), 8)
    bounds = compressor.window_bounds(np.arange(length), target)
    assert [begin for begin, _ in bounds] == [0, *(end for _, end in bounds[:-1])]
    assert bounds[-1][1] == length
    sizes = {end - begin for begin, end in bounds}
    assert max(sizes) - min(sizes) <= 1


@pytest.mark.parametrize(("length", "target"), PAIRS)
def test_fractional_windows_are_equal_shares(length, target):
    found = matrix(FractionalAverage(FractionalAverageConfig(), 8), length, target)
    share = Fraction(length, target)
    for row, column in itertools.product(range(target), range(length)):
        inside = min(column + 1, (row + 1) * share) - max(column, row * share)
        assert found[row, column] == pytest.approx(float(max(0, inside) / share), abs=1e-6)


def test_texts_of_a_batch_do_not_touch_each_other():
    lengths, targets = np.array([30, 7, 100]), np.array([11, 7, 3])
    for compressor in (
        DisjointAverage(DisjointAverageConfig(), 8),
        FractionalAverage(FractionalAverageConfig(), 8),
    ):
        together = compressor.windows(pack([np.arange(length) for length in lengths]), targets)
        offset = 0
        parts = np.split(together.gather, together.starts[np.cumsum(targets)[:-1]])
        for part, length, target in zip(parts, lengths, targets):
            alone = compressor.windows(pack([np.arange(length)]), np.array([target]))
            assert (part - offset == alone.gather).all()
            offset += length


def test_disjoint_windows_keep_neighbours_apart_just_below_ratio_1():
    """The smallest singular value says how much of a difference between tokens survives at worst."""
    smallest = {
        kind.__name__: np.linalg.svd(matrix(kind(kind.Config(), 8), 81, 80), compute_uv=False)[-1]
        for kind in (AdaptiveAverage, DisjointAverage)
    }
    assert smallest["DisjointAverage"] == pytest.approx(2**-0.5, abs=1e-6)
    assert smallest["AdaptiveAverage"] < 0.05
