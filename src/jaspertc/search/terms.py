"""Terms of a text for full-text search: words; of Chinese and its like, pairs of neighbouring characters."""

import re
import unicodedata

# Scripts written without spaces: each character is followed by the next in a term of two.
UNSPACED = "\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff\uf900-\ufaff\U00020000-\U0003ffff"
_RUNS = re.compile(f"([{UNSPACED}]+)|([^\\W_{UNSPACED}]+)")
_ACCENTS = re.compile("[\u0300-\u036f]")


def terms(text: str) -> list[str]:
    """Terms in their order: words without case and accents; of Chinese, each pair of neighbours.

    The last character of a Chinese run is a term of its own, so that every character begins a term and one
    alone can be looked for by prefix.

    >>> terms("Cafés, 一只猫")
    ['cafes', '一只', '只猫', '猫']
    """
    plain = _ACCENTS.sub("", unicodedata.normalize("NFKD", text.casefold()))
    plain = unicodedata.normalize("NFC", plain)
    parts: list[str] = []
    for unspaced, word in _RUNS.findall(plain):
        if word:
            parts.append(word)
        else:
            parts += [unspaced[index : index + 2] for index in range(len(unspaced))]
    return parts


def is_prefix(term: str) -> bool:
    """Whether a query's term stands for all terms that begin with it: one character of an unspaced script."""
    match = _RUNS.fullmatch(term)
    return len(term) == 1 and match is not None and match[1] is not None
