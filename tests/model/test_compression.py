"""Compressed lengths and pooling windows against plain Python and AdaptiveAvgPool1d."""

import itertools
import json
import math
from fractions import Fraction

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from jaspertc.errors import RatioError
from jaspertc.model.compression import (
    check_ratio,
    target_lengths,
    window_bounds,
    windows,
)
from jaspertc.model.compressors import pool_windows

LONG_PAIRS = [(1030, 555), (2100, 1), (32768, 16424), (40_001, 39_999), (100_000, 7), (65_537, 65_537)]


def pooled(x: torch.Tensor, lengths: list[int], targets: list[int]) -> torch.Tensor:
    """Rows of ``x`` (all texts end to end) pooled by our windows."""
    plan = windows(np.array(lengths, dtype=np.int64), np.array(targets, dtype=np.int64))
    return pool_windows(x, torch.from_numpy(plan.gather), plan)


def adaptive(x: torch.Tensor, target: int) -> torch.Tensor:
    return torch.nn.AdaptiveAvgPool1d(target)(x.T[None])[0].T


def noise(rows: int, width: int = 3) -> torch.Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(rows), dtype=torch.float64)


def random_pairs(count: int, longest: int, seed: int) -> list[tuple[int, int]]:
    random = np.random.default_rng(seed)
    lengths = random.integers(1, longest, size=count)
    return [(int(length), int(random.integers(1, length + 1))) for length in lengths]


@pytest.mark.parametrize(
    "pairs",
    [
        [(length, target) for length in range(1, 61) for target in range(1, length + 1)],
        random_pairs(600, 3000, seed=0),
        LONG_PAIRS,
    ],
    ids=["all up to 60", "600 up to 3000", "long"],
)
def test_pooling_equals_adaptive_average_pooling(pairs):
    for length, target in pairs:
        x = noise(length)
        found = pooled(x, [length], [target])
        torch.testing.assert_close(found, adaptive(x, target), rtol=0, atol=1e-12)
        if target == length:
            assert torch.equal(found, x)


@pytest.mark.parametrize("seed", range(5))
def test_a_whole_batch_equals_its_texts_alone(seed):
    pairs = [*random_pairs(40, 400, seed), (1, 1), (9, 9), (300, 1)]
    lengths, targets = (list(part) for part in zip(*pairs))
    x = noise(sum(lengths))
    alone = [adaptive(part, target) for part, target in zip(x.split(lengths), targets)]
    torch.testing.assert_close(pooled(x, lengths, targets), torch.cat(alone), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("length", "target"), [*random_pairs(200, 500, seed=3), (1, 1), (500, 500)])
def test_window_bounds_are_the_report_s(length, target):
    bounds = window_bounds(length, target)
    edges = [Fraction(i * length, target) for i in range(target + 1)]
    exact = [(math.floor(begin), math.ceil(end)) for begin, end in itertools.pairwise(edges)]
    assert bounds == exact
    plan = windows(np.array([length]), np.array([target]))
    parts = np.split(plan.gather, plan.starts[1:])
    assert [(int(part[0]), int(part[-1]) + 1) for part in parts] == bounds
    assert all((np.diff(part) == 1).all() for part in parts)
    sizes = {end - first for first, end in bounds}
    assert sizes <= {math.ceil(length / target), math.ceil(length / target) + 1}
    assert set(range(length)) == set(plan.gather.tolist())  # no token is lost


@pytest.mark.parametrize(("length", "target"), [(3, 4), (3, 0)])
def test_impossible_targets_are_our_bug(length, target):
    with pytest.raises(AssertionError):
        windows(np.array([length]), np.array([target]))


RATIOS = [
    *(i / 100 for i in range(1, 101)),
    1 / 3,
    2 / 3,
    0.33,
    0.999999,
    1e-9,
    math.pi / 4,
    np.nextafter(1, 0),
]


@pytest.mark.parametrize("threshold", [1, 80, 512])
def test_target_lengths_are_pythons_float64(threshold):
    lengths = np.arange(1, 2200)
    for ratio in RATIOS:
        found = target_lengths(lengths, ratio=ratio, threshold=threshold).tolist()
        expected = [
            n if n <= threshold else int(threshold + (n - threshold) * ratio) for n in lengths.tolist()
        ]
        assert found == expected, ratio


def test_golden_table(golden):
    content = json.loads((golden.folder / "expected.json").read_text())
    assert len(content["compressed_lengths"]) == 8
    for ratio, expected in zip(content["ratios"], content["compressed_lengths"].values()):
        lengths = np.array(content["lengths"])
        assert target_lengths(lengths, ratio=ratio, threshold=80).tolist() == expected


some_lengths = st.lists(st.integers(1, 100_000), min_size=1, max_size=8)
some_ratio = st.floats(0, 1, exclude_min=True)
some_threshold = st.integers(1, 3000)


@settings(max_examples=150, deadline=None)
@given(some_lengths, some_ratio, some_ratio, some_threshold, st.none() | st.integers(1, 5000))
def test_properties_of_target_lengths(lengths, ratio, other, threshold, most):
    array = np.array(lengths)
    low, high = sorted((ratio, other))
    small, large, full = (
        target_lengths(array, ratio=r, threshold=threshold, max_compressed=most) for r in (low, high, 1)
    )
    assert (small <= large).all()
    assert (large <= array).all()
    assert (small >= 1).all()
    bound = most or array.max()
    assert (full == np.minimum(array, bound)).all()
    kept = np.minimum(array, min(threshold, bound))
    assert (small >= kept).all()
    longer = target_lengths(array + 1, ratio=low, threshold=threshold, max_compressed=most)
    assert (longer >= small).all()


@settings(max_examples=100, deadline=None)
@given(st.lists(st.tuples(st.integers(1, 2000), some_ratio), min_size=1, max_size=8), some_threshold)
def test_one_ratio_per_text_equals_one_text_at_a_time(texts, threshold):
    lengths, ratios = (list(part) for part in zip(*texts))
    found = target_lengths(np.array(lengths), ratio=ratios, threshold=threshold)
    alone = [target_lengths(np.array([n]), ratio=r, threshold=threshold)[0] for n, r in texts]
    assert found.tolist() == alone


BAD_RATIOS = [0, -0.1, 1.0000001, 2, -1e9, math.nan, math.inf, -math.inf, "0.5", None, True, [], {}, "x"]
BAD_RATIOS += [[0.5], [0.5, 0.5, 0.5], [0.5, 1.5], [0.5, math.nan], [[0.5, 0.5]], [0.5, "x"], 1j, [0.5, None]]


@pytest.mark.parametrize("ratio", BAD_RATIOS, ids=repr)
def test_bad_ratios(ratio):
    with pytest.raises(RatioError, match="ratio"):
        target_lengths(np.array([100, 200]), ratio=ratio, threshold=80)


def test_the_wrong_text_is_named():
    with pytest.raises(RatioError, match=r"1\.5 at text 2"):
        check_ratio([0.5, 1, 1.5, 2], 4)


@pytest.mark.parametrize("value", [0, -1, 1.5, 80.0, True, "80", math.nan], ids=repr)
@pytest.mark.parametrize("name", ["threshold", "max_compressed"])
def test_bad_counts(name, value):
    options = {"threshold": 80, name: value}
    with pytest.raises(RatioError, match=name):
        target_lengths(np.array([100]), ratio=0.5, **options)


def test_numpy_scalars_are_numbers():
    found = target_lengths(
        np.array([100]), ratio=np.float32(0.5), threshold=np.int64(80), max_compressed=np.int32(85)
    )
    assert found.tolist() == [85]
