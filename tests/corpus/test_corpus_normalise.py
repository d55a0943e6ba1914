"""White space, control characters and broken Unicode put in order, and what is compared of a text."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from jaspertc.corpus.normalise import (
    normalise,
    parts_of,
    share_of_letters,
    share_of_repeated_lines,
)

ANY_TEXT = st.text(st.characters(exclude_categories=()))  # lone surrogates, too


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ""),
        (" \t \r\n \u3000 ", ""),
        ("a  b\t\u00a0c\u3000d", "a b c d"),
        ("a\r\nb\rc\u2028d\x85e\x0bf", "a\nb\nc\nd\ne\nf"),
        ("one \n\n\n\n two\n\nthree", "one\n\ntwo\n\nthree"),
        ("a\x00b\x07c\x7fd\x9fe", "abcde"),
        ("so\u00adft\u200b \ufeffword\u202e", "soft word"),
        ("cafe\u0301", "café"),
        ("e\x00\u0301", "é"),
        ("bro\ufffdken", "broken"),
        ("\ud83d\ude00 and \ud83d alone \ude00", "😀 and alone"),
        ("👩\u200d🚀", "👩\u200d🚀"),
        ("图书馆 \n 九点", "图书馆\n九点"),
        ("AT&amp;T", "AT&amp;T"),
    ],
)
def test_normalise(text, expected):
    assert normalise(text) == expected


def test_entities_only_if_asked():
    assert normalise("a &lt;b&gt; &amp;&nbsp;&nbsp;c&#0;", entities=True) == "a <b> & c"


@given(ANY_TEXT)
def test_normalised_texts_are_in_order_and_stay(text):
    found = normalise(text)
    assert normalise(found) == found
    assert unicodedata.is_normalized("NFC", found)
    found.encode()
    assert found == found.strip()
    assert "\n\n\n" not in found
    assert "  " not in found
    assert not any(unicodedata.category(character) == "Cc" for character in found.replace("\n", ""))


@given(ANY_TEXT)
def test_parts_ignore_case_width_and_punctuation(text):
    text = normalise(text)
    parts = parts_of(text)
    assert sorted("".join(parts.words) + parts.characters) == sorted(parts.letters)
    assert parts_of(f"!? {text} -- ") == parts
    assert 0 <= share_of_letters(text) <= 1
    assert 0 <= share_of_repeated_lines(text) < 1


def test_parts():
    assert parts_of("Ａ-Bc: 图书馆,9点!").letters == "abc图书馆9点"
    assert parts_of("snake_case's").words == ["snake", "case", "s"]
    assert parts_of("東京タワーは高い").characters == "東京タワーは高い"
    assert parts_of("한국어 문장").words == ["한국어", "문장"]


def test_shares():
    assert share_of_letters("") == share_of_letters("... !") == share_of_repeated_lines("") == 0
    assert share_of_letters("ab c.") == 3 / 4
    assert share_of_repeated_lines("x\n\nyy\n\nx") == 1 - 3 / 4
    assert share_of_repeated_lines("all\ndifferent") == 0
