"""Compressed lengths against plain Python."""

import json
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaspertc.errors import RatioError
from jaspertc.model.lengths import check_ratio, target_lengths

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


@pytest.mark.parametrize("value", [0, -1, 1.5, 80.0, True, "80", math.nan, 2**63], ids=repr)
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
