"""What contenders embed: texts of given lengths in tokens, or token ids where there is no tokenizer."""

import random
from collections.abc import Callable, Sequence

import numpy as np

from jaspertc.samples import load_samples
from jaspertc.types import IntArray

Inputs = Sequence[str] | Sequence[IntArray]
Count = Callable[[Sequence[str]], list[int]]

SIGMA = 0.75  # of the logarithm: half of the texts within a factor of 1.66 of the median
MIX_LENGTHS = (4, 2048)  # tokens of the shortest and longest text
TRIES = 200


def mixed_lengths(texts: int, median: int, seed: int = 0) -> IntArray:
    """Lengths of texts as they usually fall, lognormal, in tokens: shape (N,).

    >>> int(np.median(mixed_lengths(1001, 150)))
    150
    """
    at = (np.arange(texts) + 0.5) / texts  # evenly spaced quantiles, so that few texts have the shape too
    normal = np.array([_quantile(float(value)) for value in at])
    lengths = np.clip(np.rint(median * np.exp(SIGMA * normal)), *MIX_LENGTHS).astype(np.int64)
    shuffled: IntArray = np.random.default_rng(seed).permutation(lengths)
    return shuffled


def _quantile(share: float) -> float:
    from statistics import NormalDist

    return NormalDist().inv_cdf(share)


def random_ids(lengths: Sequence[int] | IntArray, vocabulary: int, seed: int = 0) -> list[IntArray]:
    """A row of token ids of each length, any id as likely as any other."""
    generator = np.random.default_rng(seed)
    return [generator.integers(0, vocabulary, length, dtype=np.int64) for length in lengths]


class Writer:
    """Makes texts of exact lengths from the words of the sample texts, in both languages.

    Args:
        count: tokens of each text, special tokens included.
    """

    def __init__(self, count: Count, seed: int = 0) -> None:
        self._count, self._random = count, random.Random(seed)
        words = sorted({word for row in load_samples("passages") for word in _words(row["text"])})
        self._empty = count([""])[0]
        costs = [max(1, cost - self._empty) for cost in count(words)]
        self._words = list(zip(words, costs))
        self._short = [word for word, cost in self._words if cost == 1] or ["a"]

    def texts(self, lengths: Sequence[int] | IntArray) -> list[str]:
        """A text of each length. Where a tokenizer allows no text of a length, the nearest shorter one."""
        return [self._text(int(length)) for length in lengths]

    def _text(self, length: int) -> str:
        words, left = [], length - self._empty
        while left > 0:
            word, cost = self._random.choice(self._words)
            word, cost = (word, cost) if cost <= left else (self._random.choice(self._short), 1)
            words.append(word)
            left -= cost
        best = ""
        for _ in range(TRIES):  # a word can cost more or less within a text than alone
            text = " ".join(words)
            total = self._count([text])[0]
            if total == length:
                return text
            if total < length:
                best = max(best, text, key=len)
                words += self._random.choices(self._short, k=max(1, (length - total) // 2))
            elif not words:
                break
            else:
                del words[-max(1, (total - length) // 8) :]
        return best


def _words(text: str) -> list[str]:
    """Words between spaces; a text without spaces gives its pieces between punctuation."""
    found = []
    for piece in text.replace("，", " ").replace("。", " ").replace("、", " ").split():
        found += [piece] if piece.isascii() else [piece[at : at + 2] for at in range(0, len(piece), 2)]
    return found
