"""Long texts in pieces: rows of one text share its compressed tokens and make one vector."""

import os
import warnings

import numpy as np
import pytest

from jaspertc import Embedder
from jaspertc.engine.options import EncodeOptions
from jaspertc.engine.pieces import TextRows
from jaspertc.errors import InputError
from jaspertc.model.lengths import target_lengths

pytestmark = pytest.mark.filterwarnings("error::jaspertc.engine.options.LongTextWarning")
LONG = " ".join(f"Part {number} tells of a river and of {number * 7} people." for number in range(60))


def rows_of(model: Embedder, text: str, ratio: float = 0.3, **options):
    ids = model.tokenize([text], max_length=options.get("max_length"))
    options = EncodeOptions(long_texts="pieces", **options)
    return model.fitting.fit(ids, np.array(ratio), options, texts=[text])


def test_texts_that_fit_are_as_before(model):
    texts = ["", "short", "two words", "a sentence that has some more words in it."]
    whole = model.encode(texts, long_texts="compress")
    assert np.array_equal(model.encode(texts, long_texts="pieces"), whole)
    assert np.array_equal(model.encode([*texts, LONG], long_texts="pieces")[:4], whole)


def test_a_vector_does_not_depend_on_the_call(model):
    alone = model.encode(LONG, long_texts="pieces", ratio=0.4)
    batch = model.encode(["x", LONG, LONG[:900], "y"], long_texts="pieces", ratio=0.4)
    np.testing.assert_allclose(batch[1], alone, rtol=0, atol=1e-6)
    stream = np.concatenate(
        list(model.encode_stream([LONG, "x"], long_texts="pieces", ratio=0.4, block_size=1))
    )
    np.testing.assert_allclose(stream[0], alone, rtol=0, atol=1e-6)


@pytest.mark.parametrize("ratio", [0.05, 0.3, 0.9])
def test_pieces_share_the_tokens_of_the_whole_text(model, ratio):
    fitted = rows_of(model, LONG, ratio)
    length = len(model.tokenize([LONG])[0])
    wanted = target_lengths(np.array([length]), ratio=ratio, threshold=model.default_threshold)[0]
    assert len(fitted.texts.rows) > 1
    assert fitted.targets.sum() == max(wanted, len(fitted.targets))
    assert all(len(row) <= model.piece_length for row in fitted.texts.rows)
    assert (fitted.targets >= 1).all()


def test_ratio_1_keeps_every_token(model):
    fitted = rows_of(model, LONG, 1.0)
    assert fitted.targets.tolist() == [len(row) for row in fitted.texts.rows]


def test_a_bound_holds_for_all_pieces_together(model):
    fitted = rows_of(model, LONG, 0.9, max_compressed=100)
    assert fitted.targets.sum() == 100


@pytest.mark.parametrize("ratio", [0.3, 1.0])
def test_a_vector_is_the_weighted_mean_of_its_rows(model, ratio):
    fitted = rows_of(model, LONG, ratio)
    rows = next(model.encode_pieces([LONG], ratio=ratio, normalize=False)).vectors
    weights = np.array(
        [
            (len(row) * target / place) ** 0.5
            for place, (row, target) in enumerate(zip(fitted.texts.rows, fitted.targets), 1)
        ]
    )
    expected = (weights / weights.sum()) @ rows
    found = model.encode(LONG, long_texts="pieces", ratio=ratio, normalize=False)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_earlier_pieces_are_read_more_closely(model):
    fitted = rows_of(model, LONG, 0.8)
    assert fitted.targets[0] == len(fitted.texts.rows[0])
    assert fitted.targets[-1] < len(fitted.texts.rows[-1])


def test_max_length_cuts_before_pieces_are_made(model):
    fitted = rows_of(model, LONG, max_length=150)
    whole = rows_of(model, LONG)
    assert fitted.texts.lengths.tolist() == [150]
    assert len(fitted.texts.rows) < len(whole.texts.rows)


@pytest.mark.parametrize(
    "text",
    [
        "x" * 5_000,
        "word\n" * 1_000,
        "." * 2_000,
        "A sentence. " * 40 + "!" * 700 + " A sentence." * 40,
        "a" + " " * 5_000 + "b",
        "e\u0301" * 1_000,
        "字" * 2_000,
        "\u200b" * 500,
        "\ud800" * 300,
        "👩‍👩‍👧 " * 200,
    ],
    ids=[
        "no space",
        "lines",
        "punctuation",
        "a piece of punctuation",
        "white space",
        "combining",
        "han",
        "invisible",
        "surrogates",
        "emoji",
    ],
)
def test_strange_texts_have_vectors(model, text):
    vector = model.encode(text, long_texts="pieces", ratio=0.3)
    assert np.isfinite(vector).all()
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)


@pytest.mark.filterwarnings("ignore::jaspertc.engine.options.LongTextWarning")
def test_a_prompt_that_fills_a_piece_leaves_the_text_whole(model):
    vector = model.encode("a few words " * 30, prompt="word " * 60, long_texts="pieces")
    assert np.isfinite(vector).all()


def test_one_bad_name(model):
    with pytest.raises(InputError, match="pieces, compress, truncate"):
        model.encode("x", long_texts="cut")


def test_texts_of_several_groups_are_joined():
    first = TextRows.whole([np.arange(3), np.arange(5)]).with_pieces({1: [np.arange(2), np.arange(3)]})
    joined = TextRows.joined([first, TextRows.whole([np.arange(4)])])
    assert joined.starts.tolist() == [0, 1, 3, 4]
    assert joined.lengths.tolist() == [3, 5, 4]
    assert joined.row_targets(np.array([3, 1, 4])).tolist() == [3, 1, 1, 4]  # no row gets none


def test_mini_reads_long_texts_in_pieces_and_says_nothing():
    model = Embedder.load("mini")
    assert (model.long_texts, model.piece_length) == ("pieces", 512)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        vectors = model.encode([LONG * 3, LONG * 3 + " "], ratio=0.1)
    assert vectors[0] @ vectors[1] > 0.99


def test_loading_leaves_the_process_on_all_its_cores():
    before = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else None
    Embedder.load("mini").encode("a text")
    assert before is None or os.sched_getaffinity(0) == before


def test_pieces_of_texts_in_one_pass(model):
    texts = ["", "a short text", LONG]
    found = list(model.encode_pieces(texts, ratio=1.0, normalize=False))
    rows = rows_of(model, LONG, 1.0).texts.rows
    assert [len(item.vectors) for item in found] == [1, 1, len(rows)]
    np.testing.assert_allclose(
        found[1].vectors[0], model.encode(texts[1], ratio=1.0, normalize=False), rtol=0, atol=1e-6
    )
    np.testing.assert_allclose(
        found[2].vectors, model.encode_ids(rows, ratio=1.0, normalize=False), rtol=0, atol=1e-6
    )
    assert np.allclose(np.linalg.norm(next(model.encode_pieces([LONG])).vectors, axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("text", [LONG, "字" * 700, " \n a" + " " * 700 + "b" * 700, "x\ud83d\ude00 " * 200])
def test_spans_cover_the_text_without_gap(model, text):
    spans = next(model.encode_pieces([text])).spans
    assert spans.shape[1] == 2
    assert (spans[0, 0], spans[-1, 1]) == (0, len(text))
    assert (spans[1:, 0] == spans[:-1, 1]).all()
    assert (spans[:, 0] <= spans[:, 1]).all()


def test_a_span_holds_what_its_piece_was_made_of(model):
    spans = next(model.encode_pieces([LONG])).spans
    rows = rows_of(model, LONG).texts.rows
    assert len(rows) == len(spans) > 2
    for row, (begin, end) in zip(rows, spans.tolist()):
        alone = model.tokenize([LONG[begin:end]])[0]
        assert row[-len(alone) + 1 :].tolist() == alone[1:].tolist()  # behind special tokens and the lead


@pytest.mark.parametrize("most", [20, 100, 150])
def test_spans_end_where_a_text_is_cut(model, most):
    (found,) = model.encode_pieces([LONG], max_length=most)
    kept = LONG[: found.spans[-1, 1]]
    assert len(model.tokenize([kept])[0]) == most


def test_what_pieces_cannot_be_made_of(model):
    with pytest.raises(InputError, match="needs an iterable"):
        model.encode_pieces(LONG)
    with pytest.raises(InputError, match="leave long_texts out"):
        model.encode_pieces([LONG], long_texts="compress")
