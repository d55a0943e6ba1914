"""What a text looks like once its white space and Unicode are in order, and what of it is compared.

For comparison a text is two things: its words, in scripts that have spaces, and the row of its Chinese
characters and kana, each of which counts by itself. A mixed text has both.
"""

import html
import re
import unicodedata
from collections.abc import Sequence
from typing import NamedTuple

from jaspertc.text.invisible import ALWAYS

_SURROGATE = re.compile("[\ud800-\udfff]")
# What models made here leave out anywhere, marks of annotations, U+FFFD, and characters that Unicode says are
# none. Joiners U+200C and U+200D stay: scripts and emoji need them.
_INVISIBLE = re.compile(f"[{ALWAYS}\ufff9-\ufffd\ufdd0-\ufdef\ufffe\uffff]")
_CONTROL = re.compile(r"[\x00-\x08\x0e-\x1f\x7f-\x84\x86-\x9f]")
_LINE_END = re.compile("\r\n|[\r\n\x0b\x0c\x1c-\x1e\x85\u2028\u2029]")
_SPACES = re.compile(r"[^\S\n]+")
_BLANK_LINES = re.compile(r"\n{3,}")

_CHARACTER = (
    "\u3041-\u3096\u309d-\u309f\u30a1-\u30fa\u30fc-\u30ff"  # kana
    "\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
)
_CHARACTERS = re.compile(f"[{_CHARACTER}]+")
_WORD = re.compile(f"[^\\W_{_CHARACTER}]+")
_LETTERS = re.compile(f"(?:[^\\W_]|[{_CHARACTER}])+")


def normalise(text: str, *, entities: bool = False) -> str:
    """A text with its white space and Unicode in order.

    Halves of surrogate pairs are joined or dropped; control and invisible characters and U+FFFD are
    dropped; characters are composed (NFC). A run of spaces becomes one, lines lose the spaces around them,
    two or more blank lines become one, and none are left at the ends.

    Args:
        entities: resolve HTML's, such as ``&amp;``, first.

    >>> normalise("  caf\\u0065\\u0301 \\t a\\u00adb\\r\\n\\r\\n\\r\\nc\\x00  ")
    'café ab\\n\\nc'
    """
    if entities:
        text = html.unescape(text)
    if not text.isascii():
        if _SURROGATE.search(text):
            text = text.encode("utf-16", "surrogatepass").decode("utf-16", "ignore")
        text = unicodedata.normalize("NFC", _CONTROL.sub("", _INVISIBLE.sub("", text)))
    text = _SPACES.sub(" ", _LINE_END.sub("\n", _CONTROL.sub("", text)))
    lines = "\n".join(line.strip(" ") for line in text.split("\n"))
    return _BLANK_LINES.sub("\n\n", lines).strip("\n")


class Parts(NamedTuple):
    """What is compared of a text: NFKC, lower case, without punctuation and symbols.

    Attributes:
        letters: all letters and digits, in a row.
        words: those of scripts with spaces.
        characters: Chinese characters and kana, in a row.
    """

    letters: str
    words: Sequence[str]
    characters: str


def parts_of(text: str) -> Parts:
    """What is compared of a text.

    >>> parts_of("GPT-4 是2023年发布的!")
    Parts(letters='gpt4是2023年发布的', words=['gpt', '4', '2023'], characters='是年发布的')
    """
    folded = unicodedata.normalize("NFKC", text).lower()
    return Parts(
        "".join(_LETTERS.findall(folded)), _WORD.findall(folded), "".join(_CHARACTERS.findall(folded))
    )


def share_of_letters(text: str) -> float:
    """Letters and digits as a share of all that is no white space; 0 for an empty text.

    >>> share_of_letters("ab-- ==")
    0.3333333333333333
    """
    solid = "".join(text.split())
    return sum(map(len, _LETTERS.findall(solid))) / len(solid) if solid else 0.0


def share_of_repeated_lines(text: str) -> float:
    """Characters in lines that came before in the same text, as a share of all; blank lines do not count.

    >>> share_of_repeated_lines("ab\\nab\\ncd")
    0.3333333333333333
    """
    lines = [line for line in text.split("\n") if line]
    total = sum(map(len, lines))
    return (total - sum(map(len, set(lines)))) / total if total else 0.0
