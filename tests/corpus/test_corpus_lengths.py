"""Statistics of lengths against numpy's own."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaspertc.corpus.lengths import LengthCounts
from jaspertc.errors import InputError, RatioError
from jaspertc.model.lengths import target_lengths


@given(st.lists(st.integers(1, 300), min_size=1, max_size=40), st.integers(0, 40), st.floats(0, 100))
def test_equal_to_numpy(values, split, share):
    lengths = np.array(values)
    counts, second = LengthCounts(), LengthCounts()
    counts.add(lengths[:split])
    second.add(lengths[split:])
    counts.update(second)
    assert counts.texts == len(lengths)
    assert counts.tokens == lengths.sum()
    assert counts.mean == pytest.approx(lengths.mean())
    assert counts.largest == lengths.max()
    for item in (0, 25, 50, 100):
        assert counts.percentile(item) == np.percentile(lengths, item, method="inverted_cdf")
    assert min(values) <= counts.percentile(share) <= max(values)
    assert counts.share_above(80) == pytest.approx((lengths > 80).mean())
    targets = target_lengths(lengths, ratio=0.33, threshold=80)
    assert counts.remaining(0.33, 80) == pytest.approx(targets.sum() / lengths.sum())
    assert counts.remaining(1.0, 80) == 1


def test_nothing_and_wrong_values():
    counts = LengthCounts()
    assert (counts.texts, counts.tokens, counts.mean, counts.largest) == (0, 0, 0, 0)
    assert counts.remaining(0.5, 80) == 1
    with pytest.raises(InputError, match="no texts"):
        counts.percentile(50)
    with pytest.raises(InputError, match="from 0 to 100"):
        counts.percentile(101)
    with pytest.raises(RatioError, match=r"ratio is 1\.5"):
        counts.remaining(1.5, 80)
