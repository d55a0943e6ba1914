"""Where long texts are cut, and how compressed tokens are divided among their pieces."""

import re

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaspertc.text.pieces import piece_starts, shared_targets


def word_spans(text: str) -> np.ndarray:
    """Words and single other signs as tokens."""
    return np.array([match.span() for match in re.finditer(r"\w+|[^\w\s]", text)], dtype=np.int64)


def pieces_of(text: str, room: int, spans: np.ndarray | None = None) -> list[str]:
    spans = word_spans(text) if spans is None else spans
    starts = piece_starts(text, spans, room)
    ends = [*(spans[start, 0] for start in starts[1:]), len(text)]
    return [text[spans[start, 0] : end] for start, end in zip(starts, ends)]


def test_cuts_are_at_ends_of_sentences() -> None:
    text = " ".join(f"Sentence {number} has seven words in it." for number in range(40))
    for piece in pieces_of(text, 100):
        assert piece.startswith("Sentence")
        assert piece.rstrip().endswith("it.")


def test_a_paragraph_is_preferred_to_a_sentence() -> None:
    half = "One two three four five six seven. " * 6
    text = half.rstrip() + "\n\n" + "Next. " + half
    assert pieces_of(text, 60)[1].startswith("Next.")


def test_chinese_sentences() -> None:
    text = "这是一个很长的句子，它有很多字。" * 50
    spans = np.array([(place, place + 1) for place in range(len(text))], dtype=np.int64)
    pieces = pieces_of(text, 100, spans)
    assert len(pieces) == 9
    assert all(piece.endswith("。") for piece in pieces)


def test_a_text_that_fits_is_one_piece() -> None:
    assert piece_starts("one two", word_spans("one two"), 2).tolist() == [0]


@pytest.mark.parametrize("text", ["字" * 1000, "word\n" * 500, "a " * 900, "." * 700, "x" * 999])
def test_texts_without_sentences(text: str) -> None:
    spans = np.array([(place, place + 1) for place, sign in enumerate(text) if not sign.isspace()])
    starts = piece_starts(text, spans, 64)
    lengths = np.diff(np.append(starts, len(spans)))
    assert len(starts) == -(-len(spans) // 57)
    assert lengths.max() <= 64
    assert lengths.min() >= 32


def test_combining_marks_stay_with_their_character() -> None:
    text = "e\u0301" * 400
    spans = np.array([(place, place + 1) for place in range(len(text))], dtype=np.int64)
    for start in piece_starts(text, spans, 75)[1:]:
        assert text[spans[start, 0]] == "e"


def test_a_character_of_several_tokens_is_not_cut() -> None:
    text = "字" * 300
    spans = np.repeat(np.array([(place, place + 1) for place in range(300)], dtype=np.int64), 3, axis=0)
    assert not (piece_starts(text, spans, 101) % 3).any()


@given(st.text(min_size=1, max_size=400), st.integers(1, 50))
def test_any_text_is_divided_into_pieces_that_fit(text: str, room: int) -> None:
    spans = np.array([(place, place + 1) for place in range(len(text))], dtype=np.int64)
    starts = piece_starts(text, spans, room)
    lengths = np.diff(np.append(starts, len(text)))
    assert starts[0] == 0
    assert (len(starts) == 1) == (len(text) <= room)
    assert lengths.min() >= 1
    assert lengths.max() <= room


@given(st.text(alphabet="a .\n,字。\u0301", min_size=1, max_size=3_000), st.integers(128, 512))
def test_no_piece_is_short_unless_the_text_is(text: str, room: int) -> None:
    spans = np.array([(place, place + 1) for place in range(len(text))], dtype=np.int64)
    starts = piece_starts(text, spans, room)
    assert np.diff(np.append(starts, len(text))).min() >= min(32, len(text))


@pytest.mark.parametrize("sign", ["字", "x", "e\u0301", "."])
def test_a_hundred_thousand_characters_without_a_sentence_end(sign: str) -> None:
    text = sign * (100_000 // len(sign))
    spans = np.array([(place, place + 1) for place in range(len(text))], dtype=np.int64)
    lengths = np.diff(np.append(piece_starts(text, spans, 512), len(text)))
    assert lengths.max() <= 512
    assert lengths.max() - lengths.min() <= 2 * len(sign)


def test_punctuation_enough_for_a_piece_is_one() -> None:
    text = "One two three. " * 60 + "!" * 700 + " One two three." * 60
    pieces = pieces_of(text, 128)
    assert "".join(pieces) == text
    assert any(set(piece) == {"!"} for piece in pieces)


@given(st.lists(st.integers(1, 512), min_size=1, max_size=80), st.floats(0.0, 1.0))
def test_shared_targets_add_up(lengths: list[int], ratio: float) -> None:
    pieces = np.array(lengths, dtype=np.int64)
    target = max(1, int(pieces.sum() * ratio))
    shares = shared_targets(pieces, target)
    assert (shares >= 1).all()
    assert (shares <= pieces).all()
    assert shares.sum() == max(target, len(pieces))
    if target == pieces.sum():
        assert (shares == pieces).all()


def test_earlier_pieces_have_more_of_the_targets_up_to_all_they_have() -> None:
    shares = shared_targets(np.array([500] * 8), 800)
    assert shares.tolist() == sorted(shares.tolist(), reverse=True)
    assert shares[0] == pytest.approx(8 * shares[7], rel=0.05)
    assert shared_targets(np.array([500] * 8), 3000).tolist()[:2] == [500, 500]


def test_no_piece_is_read_at_a_glance_unless_all_are() -> None:
    assert shared_targets(np.array([500] * 60), 3072).min() == 32
    assert shared_targets(np.array([500] * 60), 600).tolist() == [10] * 60
    assert shared_targets(np.array([500, 20]), 200).tolist() == [180, 20]
