"""Exact and near duplicates against exact likeness, and runs shared with excluded texts."""

import random
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jaspertc.corpus.duplicates import ExactDuplicates, Excluded, NearDuplicates, shingles_of
from jaspertc.corpus.normalise import parts_of
from jaspertc.errors import InputError, MissingExtraError

WORDS = [f"word{number}" for number in range(4000)]
CHARACTERS = [chr(0x4E00 + number) for number in range(4000)]


def english(rng, length=60):
    return rng.choices(WORDS, k=length)


def chinese(rng, length=120):
    return rng.choices(CHARACTERS, k=length)


def changed(rng, items, pool, count):
    """``items`` with so many of them replaced, none near another."""
    found = list(items)
    for place in range(2, 2 + 9 * count, 9):
        found[place] = rng.choice(pool)
    return found


def likeness(first, second):
    left, right = (set(shingles_of(parts_of(text))) for text in (first, second))
    return len(left & right) / len(left | right)


@pytest.mark.parametrize(("make", "pool", "space"), [(english, WORDS, " "), (chinese, CHARACTERS, "")])
def test_near_duplicates_by_likeness(make, pool, space):
    rng = random.Random(7)
    near, found = NearDuplicates(0.8), {}
    for number in range(200):
        base = make(rng)
        first, second = space.join(base), space.join(changed(rng, base, pool, number % 7))
        assert near.find(parts_of(first), 2 * number) is None
        hit = near.find(parts_of(second), 2 * number + 1)
        assert hit in (None, 2 * number)
        found.setdefault(round(likeness(first, second), 1), []).append(hit is not None)
    assert all(found[1.0])
    assert sum(found[0.9]) >= 0.95 * len(found[0.9])
    assert min(found) <= 0.6
    assert not any(any(hits) for share, hits in found.items() if share <= 0.6)


def test_the_first_of_a_crowd_is_kept_whatever_the_hashes():
    rng = random.Random(3)
    near = NearDuplicates()
    texts = [" ".join(english(rng)) for _ in range(300)]
    assert [near.find(parts_of(text), number) for number, text in enumerate(texts)] == [None] * 300
    again = [near.find(parts_of(text.upper() + "!"), 999) for text in texts]
    assert again == list(range(300))


def test_short_and_empty_texts():
    near = NearDuplicates()
    assert near.find(parts_of("two words"), 0) is None
    assert near.find(parts_of("Two, words."), 1) == 0
    assert near.find(parts_of("other words"), 2) is None
    assert near.find(parts_of("..."), 3) is None
    assert near.find(parts_of("???"), 4) is None
    assert near.find(parts_of("你好"), 5) is None
    assert near.find(parts_of("你好!"), 6) == 5
    assert near.find(parts_of("two words 你好"), 7) is None


@pytest.mark.parametrize("threshold", [0, 1.1, float("nan")])
def test_threshold_out_of_range(threshold):
    with pytest.raises(InputError, match=r"it must be from 0\.1 to 1"):
        NearDuplicates(threshold)


def test_without_the_library(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasketch", None)
    with pytest.raises(MissingExtraError, match=r"datasketch.*jaspertc\[train\]"):
        NearDuplicates()


def test_exact_duplicates():
    exact = ExactDuplicates()
    assert exact.find("abc") is None
    exact.add("abc", 4)
    assert exact.find("abc") == 4
    assert exact.find("abd") is None


@settings(deadline=None, max_examples=60)
@given(
    st.lists(st.sampled_from("abcdefg"), min_size=1, max_size=14),
    st.lists(st.sampled_from("abcdefg"), max_size=14),
    st.integers(1, 5),
)
def test_overlap_is_a_shared_run_of_words(kept_aside, words, length):
    excluded = Excluded(length, 99)
    excluded.add(parts_of(" ".join(kept_aside)))
    shared = {tuple(kept_aside[i : i + length]) for i in range(len(kept_aside) - length + 1)} & {
        tuple(words[i : i + length]) for i in range(len(words) - length + 1)
    }
    parts = parts_of(" ".join(words))
    assert excluded.overlaps(parts) == bool(shared)
    assert excluded.equals(parts) == (words != [] and "".join(words) == "".join(kept_aside))


def test_overlap_of_chinese_characters_and_of_mixed_texts():
    excluded = Excluded(3, 4)
    excluded.add(parts_of("今天的天气很好 the ferry leaves at noon"))
    assert excluded.overlaps(parts_of("昨天的天气很差"))  # 天的天气很
    assert not excluded.overlaps(parts_of("明天气很好"[:3]))
    assert excluded.overlaps(parts_of("When the FERRY, leaves"))
    assert not excluded.overlaps(parts_of("the ferry is late"))
    assert excluded.equals(parts_of("今天的天气很好! The ferry leaves at noon."))
    excluded.add(parts_of("..."))
    assert not excluded.equals(parts_of("?"))
