import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from jaspertc.engine.batching import plan_batches

texts = st.lists(st.tuples(st.integers(1, 400), st.integers(0, 3000)), max_size=40)


@given(texts, st.integers(1, 600))
def test_batches(pairs, budget):
    targets = np.array([target for target, _ in pairs], dtype=np.int64)
    lengths = np.array([target + more for target, more in pairs], dtype=np.int64)
    batches = plan_batches(targets, lengths, token_budget=budget)
    every = [i for batch in batches for i in batch.tolist()]
    assert sorted(every) == list(range(len(pairs)))
    assert (np.diff(targets[every]) <= 0).all()  # longest first
    for batch, following in zip(batches, [*batches[1:], None]):
        cost, read = targets[batch].sum(), lengths[batch].sum()
        assert len(batch) == 1 or (cost <= budget and read <= 16 * budget)
        if following is not None:  # no batch is closed too early
            first = following[0]
            assert cost + targets[first] > budget or read + lengths[first] > 16 * budget
