"""Where a long text is cut: at ends of paragraphs and sentences, into pieces of nearly equal length.

Shape legend: T tokens of one text.
"""

import re
import unicodedata

import numpy as np

from jaspertc.types import IntArray

# How far from equal lengths a cut may lie to be a better one, as a share of a piece.
SLACK = 0.25
LEAST_READ = 32  # compressed tokens of a piece, where the text has so many
FILLED = 0.9  # of a piece's room, on average: with none to spare, no cut could be chosen
# What a cut costs by what it follows, in shares of a piece that it may lie off instead.
PARAGRAPH, SENTENCE, CLAUSE, SPACE, CHARACTER, INSIDE = 0.0, 0.05, 0.15, 0.25, 1.0, 2.0

_PARAGRAPH = re.compile(r"\n\s*\n\s*")
_SENTENCE = re.compile(r"[.!?]+[\"'”’)\]]*\s+|[。！？!?…]+[”’」』）)]*\s*|\s*\n\s*")
_CLAUSE = re.compile(r"[,;:]\s+|[，；：、]\s*")
_SPACE = re.compile(r"\s+")
_RULES = ((_SPACE, SPACE), (_CLAUSE, CLAUSE), (_SENTENCE, SENTENCE), (_PARAGRAPH, PARAGRAPH))


def piece_starts(text: str, spans: IntArray, room: int) -> IntArray:
    """The tokens at which the pieces of a text begin.

    As few pieces as hold the text when filled to nine tenths of ``room`` tokens, which none exceeds. Cuts
    lie where lengths are equal, or up to a quarter of a piece beside that where a paragraph, sentence, clause
    or word ends there; a character and its combining marks stay together where a cut within reach allows it.

    Args:
        text: the text that was tokenised.
        spans: each token's characters, first and end, shape (T, 2); T >= 1.
        room: tokens a piece may have, >= 1.

    Returns:
        Shape (pieces,), ascending, the first one 0.

    >>> text = "One two. Three four."
    >>> spans = np.array([(0, 3), (4, 7), (7, 8), (9, 14), (15, 19), (19, 20)])
    >>> piece_starts(text, spans, 4).tolist()
    [0, 3]
    """
    total = len(spans)
    count = 1 if total <= room else -(-total // max(1, int(FILLED * room)))
    starts = [0]
    reach = max(1, int(SLACK * total / count))
    for number in range(1, count):
        goal = round(number * total / count)
        left = max(goal - reach, starts[-1] + 1, total - (count - number) * room)
        right = min(goal + reach, starts[-1] + room, total - (count - number))
        places = np.arange(left, right + 1)
        costs = _costs(text, spans, left, right + 1) + np.abs(places - goal) * (count / total)
        starts.append(int(places[np.argmin(costs)]))
    return np.array(starts, dtype=np.int64)


def lead_length(text: str, spans: IntArray, most: int) -> int:
    """How many of a text's first tokens say what it is about: up to the end of its first line or sentence.

    Args:
        text: the text that was tokenised.
        spans: each token's characters, first and end, shape (T, 2).
        most: so many where neither ends before.

    >>> lead_length("One. Two three.", np.array([(0, 3), (3, 4), (5, 8), (9, 14), (14, 15)]), 4)
    2
    """
    inside = spans[: most + 1]
    for match in _SENTENCE.finditer(text, int(inside[0, 0]), int(inside[-1, 1])):
        length = int(np.searchsorted(inside[:, 0], match.end()))
        if length > 1:
            return min(length, most)
    return min(most, len(spans))


def _costs(text: str, spans: IntArray, left: int, right: int) -> "np.ndarray":
    """What cutting before each of the tokens ``left`` ... ``right - 1`` costs, by what ends there."""
    before, after = spans[left - 1 : right - 1, 1], spans[left:right, 0]
    # Tokens that are parts of one character span all of it, so spans may overlap.
    begin, end = int(before.min()), int(max(before.max(), after.max()))
    within = text[max(0, begin - 8) : end]  # closing marks may lie a few characters back
    shift = end - len(within)
    costs = np.full(end - shift + 1, CHARACTER)
    for rule, cost in _RULES:
        for match in rule.finditer(within):
            costs[match.end()] = cost
    for offset in np.unique(after):
        if offset < len(text) and unicodedata.combining(text[int(offset)]):
            costs[int(offset) - shift] = INSIDE
    return np.where(after < before, INSIDE, costs[np.maximum(after, begin) - shift])


def shared_targets(lengths: IntArray, target: int) -> IntArray:
    """A text's compressed tokens, shared among its pieces: earlier ones are read more closely.

    The k-th piece's share goes by its tokens divided by k, from ``LEAST_READ`` (where there are so many) up
    to all its tokens.

    Args:
        lengths: tokens of each piece, each >= 1, shape (pieces,).
        target: compressed tokens of the whole text, at most the sum of ``lengths``.

    Returns:
        Shape (pieces,), each in [1, length]. They add up to ``target``, or to the number of pieces if that
        is more.

    >>> shared_targets(np.array([400, 400, 200]), 200).tolist()
    [112, 56, 32]
    """
    target = max(target, len(lengths))
    floors = np.minimum(lengths, min(LEAST_READ, target // len(lengths)))
    wanted = lengths / np.arange(1, len(lengths) + 1)
    low, high = 0.0, float(len(lengths))  # at which the last piece is full, too
    while high - low > 1e-9 * high:
        middle = (low + high) / 2
        full = np.clip(wanted * middle, floors, lengths).sum() > target
        low, high = (low, middle) if full else (middle, high)
    shares: IntArray = np.clip(wanted * low, floors, lengths).astype(np.int64)
    while left := target - int(shares.sum()):  # less than one a piece: the earliest that have room
        shares[np.flatnonzero(shares < lengths)[:left]] += 1
    return shares
