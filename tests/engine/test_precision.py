"""Smaller vectors and similarity."""

import numpy as np
import pytest

from jaspertc.engine.precision import PRECISIONS, normalized, similarity, to_precision
from jaspertc.errors import InputError


@pytest.fixture
def vectors():
    return np.random.default_rng(0).normal(size=(50, 96)).astype(np.float32)


def cosines(a, b):
    a, b = a.astype(np.float64), b.astype(np.float64)
    return (a * b).sum(1) / np.linalg.norm(a, axis=1) / np.linalg.norm(b, axis=1)


def test_normalized(vectors):
    assert np.abs(np.linalg.norm(normalized(vectors), axis=1) - 1).max() < 1e-6
    assert cosines(normalized(vectors), vectors).min() > 1 - 1e-6
    assert normalized(np.zeros((2, 4), np.float32)).tolist() == [[0] * 4] * 2


@pytest.mark.parametrize("scale", [1e-6, 1, 1e6])
def test_int8_keeps_the_direction_at_any_length(vectors, scale):
    small = to_precision(vectors * np.float32(scale), "int8")
    assert small.dtype == np.int8
    assert (np.abs(small.astype(int)).max(axis=1) == 127).all()  # the whole range, and never -128
    assert cosines(small, vectors).min() > 0.999


def test_float16(vectors):
    unit = normalized(vectors)
    half = to_precision(unit, "float16")
    assert half.dtype == np.float16
    assert cosines(half, unit).min() > 1 - 1e-5


def test_ubinary_bits_are_signs_highest_first(vectors):
    bits = to_precision(vectors, "ubinary")
    assert bits.shape == (50, 12)
    assert bits.dtype == np.uint8
    assert (np.unpackbits(bits, axis=1).astype(bool) == (vectors > 0)).all()
    row = np.array([[1, -1, 0, 2, -1, -1, -1, 3, 5]], np.float32)  # nine: a second byte is begun
    assert to_precision(row, "ubinary").tolist() == [[0b10010001, 0b10000000]]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_zero_vectors_and_none(precision):
    zero = to_precision(np.zeros((2, 16), np.float32), precision)
    assert not zero.any()
    assert len(to_precision(np.zeros((0, 16), np.float32), precision)) == 0


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_vector_does_not_depend_on_its_batch_mates(model, sentences, precision):
    together = model.encode([*sentences, "x" * 30], precision=precision)
    for row, text in zip(together, sentences):
        alone = model.encode(text, precision=precision)
        difference = np.abs(row.astype(np.float64) - alone.astype(np.float64))
        # int8 and float16 may round the other way after float noise; bits must agree
        assert difference.max() <= {"float32": 1e-6, "float16": 1e-3, "int8": 1, "ubinary": 0}[precision]
    np.testing.assert_array_equal(
        to_precision(model.encode(sentences), precision)[2:3],
        to_precision(model.encode(sentences)[2:3], precision),
    )


def test_int8_of_real_vectors(model, sentences):
    full = model.encode(sentences)
    assert cosines(model.encode(sentences, precision="int8"), full).min() > 0.999
    assert cosines(model.encode(sentences, precision="int8", dims=8), full[:, :8]).min() > 0.999


def test_similarity(model, vectors):
    a, b = vectors[:7], vectors[7:12]
    expected = normalized(a).astype(np.float64) @ normalized(b).astype(np.float64).T
    assert model.similarity(a, b).shape == (7, 5)
    np.testing.assert_allclose(similarity(a, b), expected, atol=1e-6)
    np.testing.assert_allclose(similarity(a * 9, b), expected, atol=1e-6)  # cosine, not product
    np.testing.assert_allclose(similarity(a[0], b[0]), expected[:1, :1], atol=1e-6)
    np.testing.assert_allclose(similarity(a[0], b), expected[:1], atol=1e-6)
    assert similarity(a[:0], b).shape == (0, 5)


@pytest.mark.parametrize(("precision", "tolerance"), [("float16", 1e-3), ("int8", 0.02)])
def test_similarity_of_smaller_vectors(vectors, precision, tolerance):
    small = to_precision(normalized(vectors), precision)
    found = similarity(small, small)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, similarity(vectors, vectors), rtol=0, atol=tolerance)
    np.testing.assert_allclose(similarity(small, vectors), similarity(vectors, vectors), atol=tolerance)


def test_similarity_of_bits():
    bits = np.array([[0xFF, 0x00], [0xFF, 0xFF], [0x00, 0xFF]], np.uint8)
    np.testing.assert_allclose(similarity(bits, bits), [[1, 0, -1], [0, 1, 0], [-1, 0, 1]])


@pytest.mark.parametrize(
    ("a", "b"),
    [
        (np.ones((2, 4), np.float32), np.ones((2, 5), np.float32)),
        (np.ones((2, 4), np.uint8), np.ones((2, 4), np.float32)),
        (np.ones((2, 4), np.int8), np.ones((2, 4), np.uint8)),
    ],
    ids=["width", "binary", "int8 and binary"],
)
def test_similarity_of_unlike_vectors(a, b):
    with pytest.raises(InputError, match="same model, dims and precision"):
        similarity(a, b)


def test_similarity_of_three_axes():
    with pytest.raises(InputError):
        similarity(np.ones((2, 3, 4), np.float32), np.ones((2, 3, 4), np.float32))


@pytest.mark.parametrize(
    "scale", [np.float32(1e-25), np.float32(1e25), np.float64(1e200), np.float64(1e-200), np.float32(1)]
)
def test_cosines_whatever_the_lengths(scale) -> None:
    vectors = np.random.default_rng(0).standard_normal((5, 384)).astype(scale.dtype)
    cosines = similarity(vectors * scale, vectors)
    np.testing.assert_allclose(cosines, similarity(vectors, vectors), atol=1e-6)
    assert np.abs(cosines).max() <= 1


def test_no_vectors_have_no_similarities() -> None:
    assert similarity([], []).shape == (0, 0)
    assert similarity(np.ones((2, 3), np.float32), []).shape == (2, 0)


@pytest.mark.parametrize("wrong", [[[1.0], [1.0, 2.0]], np.array([np.nan, 1.0]), np.array(["a"])], ids=str)
def test_what_cannot_be_compared_is_refused(wrong) -> None:
    with pytest.raises(InputError, match="cannot compare"):
        similarity(wrong, np.ones(2, np.float32))
