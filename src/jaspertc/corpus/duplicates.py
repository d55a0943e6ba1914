"""Texts that came before, exactly or nearly, or that share a run of words with texts kept aside.

Near duplicates are found by MinHash and banding: Leskovec, Rajaraman and Ullman, Mining of Massive
Datasets, chapter 3.
"""

from collections.abc import Iterable, Iterator
from typing import Any
from zlib import crc32

import numpy as np
import numpy.typing as npt

from jaspertc.corpus.normalise import Parts
from jaspertc.errors import InputError, MissingExtraError
from jaspertc.files.hashes import number_of

WORD_SHINGLE, CHARACTER_SHINGLE = 3, 5
PERMUTATIONS, SEED = 128, 1
CHUNK = 4096

Signature = npt.NDArray[np.uint32]


class ExactDuplicates:
    """Texts with the same letters and digits; about 0.1 kB a text."""

    def __init__(self) -> None:
        self._numbers: dict[int, int] = {}

    def find(self, letters: str) -> int | None:
        """The number that was given with these letters first, or ``None``."""
        return self._numbers.get(number_of(letters))

    def add(self, letters: str, number: int) -> None:
        """Remember ``number`` for these letters."""
        self._numbers[number_of(letters)] = number


class NearDuplicates:
    """Texts whose shingles overlap: three words in a row, or five Chinese characters.

    The likeness of two texts is the share of the shingles of both that they have in common (Jaccard),
    estimated from 128 hashes: at .8 within .035 (one standard deviation). About 1.7 kB a text, half
    of what the library's own index takes without the hashes.

    Args:
        threshold: least likeness of duplicates, in [0.1, 1].

    Raises:
        InputError: the threshold is out of range.
        MissingExtraError: datasketch is not installed.
    """

    def __init__(self, threshold: float = 0.8) -> None:
        if not 0.1 <= threshold <= 1:
            raise InputError(f"threshold is {threshold}, it must be from 0.1 to 1; 0.8 is usual")
        try:
            from datasketch import MinHash, MinHashLSH
        except ImportError as error:
            raise MissingExtraError("datasketch", "train", "finding near duplicates") from error
        self.threshold = threshold
        self._sketch: Any = MinHash
        self._permutations = MinHash(PERMUTATIONS, seed=SEED).permutations
        # The library knows how many bands of how many rows are right for a threshold. Mistakes cost only a
        # comparison here, so it is to avoid misses: at a likeness of .8 it finds 87 %, at .85 98 %.
        plan = MinHashLSH(threshold=min(threshold, 0.98), num_perm=PERMUTATIONS, weights=(0.1, 0.9))
        self.bands, self.rows = int(plan.b), int(plan.r)
        self._buckets: list[dict[int, int]] = [{} for _ in range(self.bands)]
        self._chunks: list[npt.NDArray[np.uint32]] = []
        self._numbers: list[int] = []

    def find(self, parts: Parts, number: int) -> int | None:
        """The most alike of earlier texts above the threshold, or ``None``; then the text is remembered."""
        shingles = set(shingles_of(parts))
        if not shingles:
            return None
        signature = self._signature(shingles)
        keys = [
            hash(signature[band * self.rows : (band + 1) * self.rows].tobytes()) for band in range(self.bands)
        ]
        candidates = {bucket[key] for bucket, key in zip(self._buckets, keys) if key in bucket}
        if candidates:
            likeness = {stored: float((self._stored(stored) == signature).mean()) for stored in candidates}
            best = max(sorted(candidates), key=likeness.__getitem__)
            if likeness[best] >= self.threshold:
                return self._numbers[best]
        stored = self._store(signature, number)
        for bucket, key in zip(self._buckets, keys):
            bucket.setdefault(key, stored)  # the first one only: those alike are dropped, so few share one
        return None

    def _signature(self, shingles: Iterable[str]) -> Signature:
        sketch = self._sketch(
            PERMUTATIONS, seed=SEED, hashfunc=crc32, permutations=self._permutations, scheme="affine32"
        )
        sketch.update_batch(shingle.encode(errors="surrogatepass") for shingle in shingles)
        signature: Signature = sketch.hashvalues
        return signature

    def _stored(self, row: int) -> Signature:
        signature: Signature = self._chunks[row // CHUNK][row % CHUNK]
        return signature

    def _store(self, signature: Signature, number: int) -> int:
        row = len(self._numbers)
        if row % CHUNK == 0:
            self._chunks.append(np.empty((CHUNK, PERMUTATIONS), np.uint32))
        self._chunks[-1][row % CHUNK] = signature
        self._numbers.append(number)
        return row


def shingles_of(parts: Parts) -> Iterator[str]:
    """Runs of words and of characters; a text with fewer gives all it has.

    >>> from jaspertc.corpus.normalise import parts_of
    >>> list(shingles_of(parts_of("a small red boat")))
    ['a small red', 'small red boat']
    """
    yield from word_runs(parts, WORD_SHINGLE) if len(parts.words) >= WORD_SHINGLE else _whole(parts.words)
    characters = parts.characters
    yield from (
        character_runs(parts, CHARACTER_SHINGLE)
        if len(characters) >= CHARACTER_SHINGLE
        else _whole(list(characters))
    )


def word_runs(parts: Parts, length: int) -> Iterator[str]:
    """All runs of ``length`` words."""
    words = parts.words
    return (" ".join(words[start : start + length]) for start in range(len(words) - length + 1))


def character_runs(parts: Parts, length: int) -> Iterator[str]:
    """All runs of ``length`` Chinese characters or kana."""
    row = parts.characters
    return (row[start : start + length] for start in range(len(row) - length + 1))


def _whole(items: Iterable[str]) -> Iterator[str]:
    joined = " ".join(items)
    return iter([joined] if joined else [])


class Excluded:
    """Texts that must not be in a corpus, such as those it will be evaluated on; 0.1 kB for each run.

    Args:
        words: a shared run of so many words excludes a text, >= 1.
        characters: likewise of Chinese characters or kana.
    """

    def __init__(self, words: int = 9, characters: int = 18) -> None:
        self.words, self.characters = words, characters
        self._whole: set[int] = set()
        self._runs: set[int] = set()

    def add(self, parts: Parts) -> None:
        """Exclude texts that equal this one or share a run with it; a text without letters is ignored."""
        if parts.letters:
            self._whole.add(number_of(parts.letters))
            self._runs.update(self._runs_of(parts))

    def equals(self, parts: Parts) -> bool:
        """Whether a text has the letters and digits of one of these."""
        return number_of(parts.letters) in self._whole

    def overlaps(self, parts: Parts) -> bool:
        """Whether a text has a run in common with one of these."""
        return any(run in self._runs for run in self._runs_of(parts))

    def _runs_of(self, parts: Parts) -> Iterator[int]:
        for run in word_runs(parts, self.words):
            yield number_of(run)
        for run in character_runs(parts, self.characters):
            yield number_of(run)
