"""Raw vectors of the released code (computed text by text in float32) and what it takes to match them."""

import json

import numpy as np
import pytest

from jaspertc.text.packing import pack

TOLERANCE = 2e-5
RATIOS = (1.0, 0.9, 0.66, 0.5, 1 / 3, 0.2, 0.1, 0.05)


def test_golden_file_is_what_these_tests_think(golden):
    content = json.loads((golden.folder / "expected.json").read_text())
    assert tuple(content["ratios"]) == RATIOS
    assert [len(row) for row in golden.rows] == content["lengths"]
    assert all(np.abs(vectors).max() > 1 for vectors in golden.expected.values())  # the tolerance is tight


@pytest.mark.parametrize("ratio", RATIOS)
def test_each_text_alone(golden, ratio):
    for row, expected in zip(golden.rows, golden.expected[ratio]):
        found = golden.embedder.encode_ids([row], ratio=ratio, normalize=False)
        np.testing.assert_allclose(found[0], expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("seed", range(3))
def test_batches_of_mixed_texts_and_ratios(golden, seed):
    random = np.random.default_rng(seed)
    texts = random.integers(0, len(golden.rows), size=60)
    ratios = random.choice(RATIOS, size=60)
    expected = np.stack([golden.expected[ratio][text] for text, ratio in zip(texts, ratios)])
    rows = [golden.rows[text] for text in texts]
    found = golden.embedder.encode_ids(rows, ratio=ratios.tolist(), normalize=False)
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("seed", range(4))
def test_any_order_within_one_packed_batch(golden, seed):
    """The engine sorts by length; the encoder must not depend on it."""
    random = np.random.default_rng(100 + seed)
    texts = random.permutation(len(golden.rows))[: random.integers(2, 15)]
    ratio = RATIOS[seed * 2 + 1]
    batch = pack([golden.rows[text] for text in texts])
    targets = golden.embedder.target_lengths(batch.lengths, ratio=ratio)
    found = golden.embedder.runtime.embed(batch, targets)
    np.testing.assert_allclose(found, golden.expected[ratio][texts], rtol=0, atol=TOLERANCE)


def test_normalised_vectors(golden):
    found = golden.embedder.encode_ids(golden.rows, ratio=0.5)
    raw = golden.expected[0.5].astype(np.float64)
    np.testing.assert_allclose(found, raw / np.linalg.norm(raw, axis=1, keepdims=True), rtol=0, atol=1e-6)


@pytest.mark.parametrize("batch_of", [1, 14])
def test_bfloat16_stays_close(golden, batch_of):
    from jaspertc import Embedder

    model = Embedder.load(golden.folder, device="cpu", dtype="bfloat16")
    raw = golden.expected[1 / 3]
    unit = raw / np.linalg.norm(raw, axis=1, keepdims=True)
    for begin in range(0, len(golden.rows), batch_of):
        part = slice(begin, begin + batch_of)
        found = model.encode_ids(golden.rows[part], ratio=1 / 3)
        assert (found * unit[part]).sum(1).min() > 0.995
