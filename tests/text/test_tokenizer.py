"""Tokenizers of four kinds: cutting, special tokens, odd characters, broken files."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as HFTokenizer

from jaspertc.errors import InputError, TokenizerError
from jaspertc.text.tokenizer import Tokenizer, clean

ENDS = {"bpe": ([], [0]), "bare": ([], []), "wordpiece": ([2], [3]), "unigram": ([0], [2])}


@pytest.fixture(params=ENDS)
def kind(request):
    return request.param


@pytest.fixture
def tokenizer(kind, tokenizer_json):
    return Tokenizer(HFTokenizer.from_str(tokenizer_json(kind)))


def test_ids_are_the_library_s(kind, tokenizer, tokenizer_json, sentences):
    theirs = HFTokenizer.from_str(tokenizer_json(kind))
    begin, end = ENDS[kind]
    for row, text in zip(tokenizer.encode_batch(sentences), sentences):
        assert row.dtype == np.int64
        assert row.tolist() == theirs.encode(text).ids
        assert row.tolist()[: len(begin)] == begin
        assert row.tolist()[len(row) - len(end) :] == end


@pytest.mark.parametrize("max_length", [3, 5, 11])
def test_cutting_keeps_the_special_tokens(kind, tokenizer, sentences, max_length):
    begin, end = ENDS[kind]
    whole = tokenizer.encode_batch(sentences)
    for row, cut in zip(whole, tokenizer.encode_batch(sentences, max_length=max_length)):
        assert len(row) > max_length
        assert cut.tolist() == [*row[: max_length - len(end)].tolist(), *end]
        assert cut.tolist()[: len(begin)] == begin


def test_room_for_one_token_at_least(kind, tokenizer):
    special = sum(map(len, ENDS[kind]))
    for max_length in (special, 0, -5):
        with pytest.raises(InputError, match=rf"max_length is {max_length}, it must be > {special}"):
            tokenizer.encode_batch(["some text"], max_length=max_length)
    (row,) = tokenizer.encode_batch(["some text"], max_length=special + 1)
    assert len(row) == special + 1


def test_truncation_and_padding_in_the_file_are_ignored(tokenizer_json, sentences):
    other = HFTokenizer.from_str(tokenizer_json("bpe"))
    other.enable_truncation(4)
    other.enable_padding(length=50)
    plain = Tokenizer(HFTokenizer.from_str(tokenizer_json("bpe")))
    for row, expected in zip(Tokenizer(other).encode_batch(sentences), plain.encode_batch(sentences)):
        assert row.tolist() == expected.tolist()


def test_fallback_for_texts_without_tokens(tokenizer_json):
    bare = HFTokenizer.from_str(tokenizer_json("bare"))
    assert Tokenizer(bare, fallback_id=7).encode_batch(["", "a"])[0].tolist() == [7]
    assert Tokenizer(bare).encode_batch([""])[0].tolist() == []
    ended = Tokenizer(HFTokenizer.from_str(tokenizer_json("bpe")), fallback_id=7)
    assert ended.encode_batch([""])[0].tolist() == [0]  # its own end token is enough


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("猫 \x00 \x1b é", "猫 \x00 \x1b é"),
        ("\ud83d\ude00", "😀"),
        ("a\ud800b", "a\ufffdb"),
        ("\udfff\ud800", "\ufffd\ufffd"),
        ("\ud83d", "\ufffd"),
        ("", ""),
    ],
)
def test_clean(text, expected):
    assert clean(text) == expected


@settings(max_examples=200, deadline=None)
@given(st.text(st.characters(codec=None), max_size=30))
def test_clean_gives_valid_unicode_and_changes_nothing_else(text):
    cleaned = clean(text)
    cleaned.encode("utf-8")
    assert clean(cleaned) == cleaned
    if not any("\ud800" <= character <= "\udfff" for character in text):
        assert cleaned == text


@settings(max_examples=60, deadline=None)
@given(text=st.text(max_size=60))
def test_bytes_survive_the_byte_level_tokenizer(tokenizer_json, text):
    theirs = HFTokenizer.from_str(tokenizer_json("bare"))
    (row,) = Tokenizer(theirs).encode_batch([text])
    assert theirs.decode(row.tolist()) == text


def test_pieces(tokenizer, kind):
    (row,) = tokenizer.encode_batch(["The bread 面包"])
    pieces = tokenizer.pieces(row)
    assert len(pieces) == len(row)
    text = "".join(pieces)
    if kind in ("bpe", "bare"):
        assert text.startswith("The bread ")
    if kind == "unigram":
        assert "The bread" in text
    if kind == "wordpiece":
        assert pieces[0] == "[CLS]"
        assert pieces[-1] == "[SEP]"


def test_to_json_round_trip(tokenizer, sentences):
    again = Tokenizer(HFTokenizer.from_str(tokenizer.to_json()))
    for row, other in zip(tokenizer.encode_batch(sentences), again.encode_batch(sentences)):
        assert row.tolist() == other.tolist()


def test_from_file(tmp_path, tokenizer_json):
    path = tmp_path / "tokenizer.json"
    with pytest.raises(TokenizerError, match=r"no tokenizer at .*encode_ids"):
        Tokenizer.from_file(path)
    for content in ("", "{}", "not json", json.dumps({"model": {"type": "Nonsense"}})):
        path.write_text(content)
        with pytest.raises(TokenizerError, match=r"is not a tokenizer\.json"):
            Tokenizer.from_file(path)
    path.write_text(tokenizer_json("bpe"))
    assert Tokenizer.from_file(path).vocab_size == 300
