import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaspertc.errors import InputError
from jaspertc.text.packing import offsets_of, pack

rows_of_ids = st.lists(st.lists(st.integers(0, 2**40), min_size=1, max_size=9), min_size=1, max_size=9)


@given(rows_of_ids)
def test_packing_loses_nothing(rows):
    batch = pack(rows)
    assert len(batch) == len(rows)
    assert [part.tolist() for part in np.split(batch.ids, batch.offsets[1:-1])] == rows
    assert batch.lengths.tolist() == [len(row) for row in rows]
    assert batch.offsets[-1] == len(batch.ids)
    assert batch.ids.dtype == batch.lengths.dtype == batch.offsets.dtype == np.int64


def test_offsets_of_nothing():
    assert offsets_of(np.array([], dtype=np.int64)).tolist() == [0]


def test_an_empty_row_is_named():
    with pytest.raises(InputError, match="text 1 has no token ids"):
        pack([[1], [], [2]])
    with pytest.raises(InputError, match="empty list"):
        pack([])
