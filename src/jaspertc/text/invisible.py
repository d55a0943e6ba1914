"""Characters that no reader sees, left out before the tokenizer; docs/decisions/0019-invisible-characters.md.

The rule stands at the head of ``tokenizer.json``'s normalizer, so every runtime that reads the file applies
it and offsets still count the characters of the text as given. Patterns name the characters themselves, and
use of regular expressions only what Oniguruma, Rust, JavaScript and Python read alike.
"""

import json
import re
from typing import Any

import numpy as np
from tokenizers.normalizers import Normalizer

from jaspertc.types import IntArray


def _ranges(*ends: int | tuple[int, int]) -> str:
    """The inside of a character class, of single characters and of ranges with both ends."""
    pairs = [(end, end) if isinstance(end, int) else end for end in ends]
    return "".join(chr(low) if low == high else f"{chr(low)}-{chr(high)}" for low, high in pairs)


# Default-ignorable characters that change no glyph beside them: soft hyphen, grapheme joiner, directional
# marks, Khmer inherent vowels, zero-width space, word joiner, invisible operators, lone Hangul fillers, byte
# order mark, format controls of shorthand and music, and what Unicode keeps free for more of them.
ALWAYS = _ranges(
    *(0xAD, 0x34F, 0x61C, (0x17B4, 0x17B5), 0x200B, (0x200E, 0x200F), (0x202A, 0x202E), (0x2060, 0x206F)),
    *(0x3164, 0xFEFF, 0xFFA0, (0xFFF0, 0xFFF8), (0x1BCA0, 0x1BCA3), (0x1D173, 0x1D17A)),
    *((0xE0000, 0xE001F), (0xE0080, 0xE00FF), (0xE01F0, 0xE0FFF)),
)
# Scripts whose letters change their form beside U+200C and U+200D: Arabic and its like, those of India,
# Burma, Cambodia and Indonesia, and Mongolian.
_JOINING = _ranges(
    *((0x600, 0xDFF), (0xF00, 0x109F), (0x1780, 0x180A), (0x1810, 0x18AF), (0x1900, 0x1C7F)),
    *(
        (0xA800, 0xA9FF),
        (0xAA00, 0xAADF),
        (0xABC0, 0xABFF),
        (0xFB50, 0xFDFF),
        (0xFE70, 0xFEFC),
        (0x10A00, 0x11FFF),
    ),
)
_PICTURES = _ranges((0x2190, 0x2BFF), (0x1F000, 0x1FAFF))
# What has another form before a variation selector: pictures, Chinese characters and their punctuation, and a
# few more. Digits, # and * have one only as keycaps.
_VARIED = _PICTURES + _ranges(
    *(0xA9, 0xAE, (0x1000, 0x109F), (0x2018, 0x201D), 0x203C, 0x2049, 0x2122, 0x2139, (0x3001, 0x303F)),
    *(0x3297, 0x3299, (0x3400, 0x9FFF), (0xA840, 0xA87F), (0xF900, 0xFAFF), (0xFF01, 0xFF60)),
    (0x20000, 0x3FFFF),
)
_KEYS = "0-9#*"
_SELECTORS = _ranges((0xFE00, 0xFE0F), (0xE0100, 0xE01EF))
_MONGOLIAN, _MONGOLIAN_SELECTORS = _ranges((0x1820, 0x18AA)), _ranges((0x180B, 0x180F))
_TAGS, _BLACK_FLAG = _ranges((0xE0020, 0xE007F)), chr(0x1F3F4)
_LEADING, _VOWELS = _ranges((0x1100, 0x115F), (0xA960, 0xA97C)), _ranges((0x1160, 0x11A7), (0xD7B0, 0xD7C6))
_NON_JOINER, _JOINER, _AS_PICTURE, _KEYCAP = map(chr, (0x200C, 0x200D, 0xFE0F, 0x20E3))
_MEANT_SOMEWHERE = (
    _NON_JOINER + _JOINER + _SELECTORS + _MONGOLIAN_SELECTORS + _TAGS + _ranges((0x115F, 0x1160))
)

# Where they mean nothing: what has a meaning between some characters, elsewhere.
_ELSEWHERE = (
    f"(?<![{_JOINING}]){_NON_JOINER}",
    f"{_NON_JOINER}(?!{_NON_JOINER}*[{_JOINING}])",
    f"(?<![{_JOINING}{_PICTURES}])(?<![{_PICTURES}]{_AS_PICTURE}){_JOINER}(?![{_JOINING}])",
    f"(?<![{_JOINING}]){_JOINER}(?![{_JOINING}{_PICTURES}])",
    f"(?<![{_VARIED}{_KEYS}])[{_SELECTORS}]",
    f"(?<=[{_KEYS}])[{_SELECTORS}](?!{_KEYCAP})",
    f"(?<![{_MONGOLIAN}])[{_MONGOLIAN_SELECTORS}]",
    f"(?<![{_TAGS}{_BLACK_FLAG}])[{_TAGS}]+",
    f"(?<![{_LEADING}]){chr(0x1160)}",
    f"{chr(0x115F)}(?![{_VOWELS}])",
)
# One after the other: the second sees what the first left. It says first what may be found, which is much
# faster where there is nothing.
PATTERNS = (f"[{ALWAYS}]", f"(?=[{_MEANT_SOMEWHERE}])(?:{'|'.join(_ELSEWHERE)})")
_COMPILED = [re.compile(pattern) for pattern in PATTERNS]
_RULES = [{"type": "Replace", "pattern": {"Regex": pattern}, "content": ""} for pattern in PATTERNS]


def without_invisible(tokenizer_json: str) -> str:
    """The content of a ``tokenizer.json`` with the rule before its own normalizer; itself if it has it."""
    content: dict[str, Any] = json.loads(tokenizer_json)
    steps = _steps(content.get("normalizer"))
    if _begins(steps):
        return tokenizer_json
    content["normalizer"] = {"type": "Sequence", "normalizers": [*_RULES, *steps]}
    return json.dumps(content, ensure_ascii=False, separators=(",", ":"))


def has_rule(normalizer: Normalizer | None) -> bool:
    """Whether a tokenizer's normalizer begins with the rule."""
    return normalizer is not None and _begins(_steps(json.loads(normalizer.__getstate__())))


def visible(text: str) -> tuple[str, IntArray]:
    r"""A text as the rule leaves it, L characters, and the place of each and of its end, shape (L + 1,).

    >>> visible("a\u00adb")
    ('ab', array([0, 2, 3]))
    """
    places = np.arange(len(text) + 1)
    for pattern in () if text.isascii() else _COMPILED:
        gone = [match.span() for match in pattern.finditer(text)]
        if gone:
            kept = np.ones(len(text) + 1, dtype=bool)
            for begin, end in gone:
                kept[begin:end] = False
            text, places = pattern.sub("", text), places[kept]
    return text, places


def _steps(normalizer: dict[str, Any] | None) -> list[dict[str, Any]]:
    if normalizer is None:
        return []
    return list(normalizer["normalizers"]) if normalizer["type"] == "Sequence" else [normalizer]


def _begins(steps: list[dict[str, Any]]) -> bool:
    return steps[: len(_RULES)] == _RULES
