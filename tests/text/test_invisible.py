"""Invisible characters change no vector of models made here, and are left to the tokenizer of all others."""

import json
import shutil
import unicodedata

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer as HFTokenizer

from jaspertc import Embedder
from jaspertc.checkpoint import load_checkpoint
from jaspertc.cli import app
from jaspertc.samples import load_samples
from jaspertc.text.invisible import PATTERNS, visible, without_invisible
from jaspertc.text.tokenizer import Tokenizer

# Within a Latin word none of these means anything.
INVISIBLE = [
    *map(chr, (0xAD, 0x34F, 0x61C, 0x115F, 0x1160, 0x17B4, 0x180B, 0x180E, 0x200B, 0x200C, 0x200D, 0x200E)),
    *map(chr, (0x200F, 0x202A, 0x202E, 0x2060, 0x2063, 0x2066, 0x2069, 0x206F, 0x3164, 0xFE00, 0xFE0F)),
    *map(chr, (0xFEFF, 0xFFA0, 0xFFF8, 0x1BCA0, 0x1D173, 0xE0001, 0xE0041, 0xE007F, 0xE0100, 0xE0FFF)),
]
MEANT = [
    "👩‍🚀",
    "👨🏽‍⚕️",
    "❤️‍🔥",
    "🏳️‍🌈",
    "☂︎",
    "©️",
    "1️⃣ #️⃣",
    "🏴\U000e0067\U000e0062\U000e0065\U000e006e\U000e0067\U000e007f",
    "می‌خواهم",  # Persian, a prefix that must not join
    "ه‍",  # Arabic, a letter in its joining form
    "क्‍ष क्‌ष",  # Devanagari, half and full forms
    "ශ්‍රී",
    "葛󠄀",
    "ᠠ᠋ᠨ᠎ᠠ",
    "\u115f\u1161 \u1100\u1160\u11a8",  # Hangul syllables that lack a consonant or a vowel
]
FILLERS = "\u115f\u1160\u3164\uffa0"
# What has no meaning in common with the marks below; each is in mini's vocabulary or is spelt by characters.
PLAIN = st.text(st.sampled_from("aZé7# ,\n猫面ñк😀\t\x01"), max_size=12)
ANYWHERE = st.sampled_from("\xad\u034f\u061c\u200b\u200e\u200f\u202a\u202c\u202e\u2060\u2066\u2069\ufeff")


@pytest.fixture(scope="module")
def cleaned():
    """The rule alone: a text as the rest of a tokenizer sees it."""
    bare = {"model": {"type": "WordLevel", "vocab": {"?": 0}, "unk_token": "?"}, "added_tokens": []}
    bare |= dict.fromkeys(
        ("truncation", "padding", "normalizer", "pre_tokenizer", "post_processor", "decoder")
    )
    normalizer = HFTokenizer.from_str(without_invisible(json.dumps({"version": "1.0", **bare}))).normalizer
    return normalizer.normalize_str


@pytest.fixture(scope="module")
def mini():
    return Embedder.load("mini", device="cpu")


@pytest.mark.parametrize("mark", INVISIBLE, ids=lambda mark: f"U+{ord(mark):04X}")
def test_no_mark_is_left_in_a_word(cleaned, mark):
    assert cleaned(f"bre{mark}ad") == "bread"
    assert cleaned(f"{mark}bre{mark * 2}ad{mark}") == "bread"


@pytest.mark.parametrize("text", MEANT, ids=ascii)
def test_what_means_something_stays(cleaned, text):
    assert cleaned(text) == text
    assert cleaned("\u200b".join(text)) == text  # judged beside what is left


@settings(max_examples=300, deadline=None)
@given(st.text(st.characters(exclude_categories=["Cs"]), max_size=20))
def test_only_what_is_invisible_goes(cleaned, text):
    def seen(text):
        kinds = {"Cf", "Mn"}
        return [
            c for c in text if unicodedata.category(c) not in kinds and c not in "\u115f\u1160\u3164\uffa0"
        ]

    kept = cleaned(text)
    unassigned = {c for c in text if unicodedata.category(c) == "Cn"}
    assert [c for c in seen(kept) if c not in unassigned] == [c for c in seen(text) if c not in unassigned]
    assert cleaned(kept) == kept
    shown, places = visible(text)
    assert shown == kept == "".join(text[place] for place in places[:-1])
    assert places[-1] == len(text)


@settings(max_examples=200, deadline=None)
@given(st.lists(st.sampled_from([*INVISIBLE, *"a1نक👩❤🏴가ᠠ葛\u20e3"]), max_size=8).map("".join))
@example("\u200d\u180b❤")
def test_once_is_enough(cleaned, text):
    assert cleaned(cleaned(text)) == cleaned(text) == visible(text)[0]


@settings(max_examples=200, deadline=None)
@given(data=st.data(), text=PLAIN)
def test_marks_anywhere_give_the_ids_and_places_of_the_plain_text(mini, data, text):
    tokenizer = mini.checkpoint.tokenizer
    marked, places = "", []
    for character in text:
        marked += data.draw(st.text(ANYWHERE, max_size=2))
        places.append(len(marked))
        marked += character
    marked += data.draw(st.text(ANYWHERE, max_size=2))
    (plain,), (row,) = tokenizer.encode_batch([text]), tokenizer.encode_batch([marked])
    assert row.tolist() == plain.tolist()
    encode = HFTokenizer.from_str(tokenizer.to_json()).encode
    for (begin, end), (first, last) in zip(encode(text).offsets, encode(marked).offsets, strict=True):
        if begin < end:
            assert first <= places[begin]
            assert last > places[end - 1]
            assert not visible(marked[last : places[end] if end < len(text) else None])[0]


def test_clean_texts_have_the_ids_they_had(tokenizer_json):
    texts = [passage["text"] for passage in load_samples("passages")]
    content = json.loads(load_checkpoint("mini").tokenizer.to_json())
    steps = content["normalizer"]["normalizers"]
    assert [step["pattern"]["Regex"] for step in steps[:2]] == list(PATTERNS)
    content["normalizer"]["normalizers"] = steps[2:]
    for before in (json.dumps(content), *map(tokenizer_json, ("bpe", "bare", "wordpiece", "unigram"))):
        old, new = HFTokenizer.from_str(before), HFTokenizer.from_str(without_invisible(before))
        for ours, theirs in zip(new.encode_batch(texts), old.encode_batch(texts)):
            assert ours.ids == theirs.ids
            assert ours.offsets == theirs.offsets


def test_the_rule_is_put_in_once(tokenizer_json):
    for kind in ("bpe", "wordpiece", "unigram"):
        once = Tokenizer(HFTokenizer.from_str(tokenizer_json(kind))).without_invisible()
        assert once.without_invisible().to_json() == once.to_json()


def test_vectors_of_mini(mini):
    texts = ["bre\u200bad", "\ufeffbread", "bre\xadad", "\u202abread\u202c", "\u2067bre\u2060ad\u2069\u200f"]
    np.testing.assert_array_equal(mini.encode(texts), mini.encode(["bread"] * len(texts)))
    assert np.abs(mini.encode("bread") - mini.encode("b read")).max() > 0.01


def test_pieces_of_a_long_text_are_from_the_text_as_given(mini):
    sentences = [f"Sen\xadtence {number} of a long\u200b text.\u200f " for number in range(120)]
    text, gone = "".join(sentences), dict.fromkeys(map(ord, "\xad\u200b\u200f"))
    plain = text.translate(gone)
    cut = mini.checkpoint.tokenizer.cut
    rows, spans = cut(text, room=128)
    plain_rows, plain_spans = cut(plain, room=128)
    assert spans[0, 0] == 0
    assert spans[-1, 1] == len(text)
    assert (spans[1:, 0] == spans[:-1, 1]).all()
    assert sum(map(len, rows)) == sum(map(len, plain_rows))
    for (begin, end), (first, last) in zip(spans, plain_spans, strict=True):
        assert text[begin:end].translate(gone) == plain[first:last]


def test_foreign_checkpoints_keep_their_own_rule(hugging_face, golden):
    for folder in (hugging_face("bert")[0], hugging_face("qwen3")[0]):
        own = HFTokenizer.from_file(str(folder / "tokenizer.json"))
        (row,) = Embedder.load(folder).tokenize(["The\u200bbread\xad"])
        assert row.tolist() == own.encode("The\u200bbread\xad").ids


def test_a_graft_has_the_rule_and_another_fingerprint(hugging_face, tmp_path):
    from typer.testing import CliRunner

    source, _ = hugging_face("qwen3")
    result = CliRunner().invoke(
        app, ["graft", str(source), str(tmp_path / "student"), "--compressor", "none"]
    )
    assert result.exit_code == 0, result.output
    student, other = Embedder.load(tmp_path / "student"), Embedder.load(source)
    marked, plain = "the \u200bbre\xadad", "the bread"
    np.testing.assert_array_equal(student.encode(marked), student.encode(plain))
    np.testing.assert_allclose(student.encode(plain), other.encode(plain), atol=1e-6)
    assert np.abs(other.encode(marked) - other.encode(plain)).max() > 0.01
    without = shutil.copytree(tmp_path / "student", tmp_path / "without")
    shutil.copyfile(source / "tokenizer.json", without / "tokenizer.json")
    assert Embedder.load(without).fingerprint != student.fingerprint
    (without / "tokenizer.json").write_text(
        without_invisible((source / "tokenizer.json").read_text(encoding="utf-8")), encoding="utf-8"
    )
    assert Embedder.load(without).fingerprint == student.fingerprint


def test_sentence_transformers_applies_it(mini):
    pytest.importorskip("sentence_transformers")
    from sentence_transformers import SentenceTransformer

    theirs = SentenceTransformer(str(mini.checkpoint.folder), trust_remote_code=True, device="cpu")
    marked, plain = theirs.encode(["bre\u200bad", "bread"])
    np.testing.assert_array_equal(marked, plain)
