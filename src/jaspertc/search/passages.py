"""Passages of a long document: whole paragraphs under their heading, within a budget of tokens."""

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

# Where a text is cut, at the first of these that gives parts within the budget.
_ENDS = (
    re.compile(r"\n\s*\n"),
    re.compile(r"\n"),
    re.compile(r"[.!?]+[\"'”’)\]]*\s+|[。！？!?…]+[”’」』）)]*"),
    re.compile(r"\s+|[，；、,;]"),
)
_HEADING = re.compile(r"(#{1,6})\s+(\S.*?)[\s#]*")
_FENCE = re.compile(r"\s*(```|~~~)")
SEPARATOR = " › "

CountTokens = Callable[[Sequence[str]], Sequence[int]]
Span = tuple[int, int]


@dataclass(frozen=True)
class Passage:
    """A part of a document.

    Attributes:
        start: its first character.
        stop: the end of its last.
        heading: the headings it stands under, outermost first; "" if there are none.
    """

    start: int
    stop: int
    heading: str = ""

    def of(self, text: str) -> str:
        """What is embedded and indexed: the headings above, then the document's own characters."""
        part = text[self.start : self.stop]
        return f"{self.heading}\n{part}" if self.heading else part


def cut(text: str, budget: int, count_tokens: CountTokens) -> list[Passage]:
    """Passages that together are the text.

    Paragraphs are put together up to the budget; a heading begins a new passage once the one before is half
    full. A paragraph over the budget is cut at its lines, sentences, words, at last anywhere.

    Args:
        text: any text; headings are Markdown's, outside of fenced code.
        budget: tokens of a passage without its headings, >= 1; as ``count_tokens`` counts its parts.
        count_tokens: number of tokens of each text.
    """
    (total,) = count_tokens([text])
    if total <= budget:
        return [Passage(0, len(text))]
    passages: list[Passage] = []
    current, filled, path = (0, 0), 0, ""
    for (start, stop), heading_path, is_heading in _sections(text):
        for span, tokens in _fitting(text, (start, stop), budget, count_tokens):
            begins = is_heading and span[0] == start and filled * 2 >= budget
            if filled and (begins or filled + tokens > budget):
                passages.append(Passage(*current, path))
                current, filled = (span[0], span[0]), 0
            if not filled:
                path = heading_path
            current, filled = (current[0], span[1]), filled + max(1, tokens)
    passages.append(Passage(*current, path))
    return passages


def _sections(text: str) -> Iterator[tuple[Span, str, bool]]:
    """Each heading with what stands under it: characters, the headings above it, and whether it has one."""
    starts: list[tuple[int, int, str]] = [(0, 0, "")]
    offset, fenced = 0, False
    for line in text.split("\n"):
        fenced ^= _FENCE.match(line) is not None
        match = None if fenced else _HEADING.fullmatch(line)
        if match:
            starts.append((offset, len(match[1]), match[2]))
        offset += len(line) + 1
    above: list[tuple[int, str]] = []
    for (start, level, name), (stop, _, _) in zip(starts, [*starts[1:], (len(text), 0, "")]):
        above = [item for item in above if item[0] < level]
        if stop > start:
            yield (start, stop), SEPARATOR.join(item[1] for item in above), level > 0
        if level:
            above.append((level, name))


def _fitting(
    text: str, span: Span, budget: int, count_tokens: CountTokens, level: int = 0
) -> Iterator[tuple[Span, int]]:
    """A span in parts within the budget, each with its tokens, cut as little as possible."""
    spans = [span] if level == 0 else list(_parts(text, span, level - 1, budget))
    for part, tokens in zip(spans, count_tokens([text[start:stop] for start, stop in spans])):
        if tokens <= budget or part[1] - part[0] <= 1 or level > len(_ENDS) + 1:
            yield part, tokens
        else:
            yield from _fitting(text, part, budget, count_tokens, level + 1)


def _parts(text: str, span: Span, level: int, budget: int) -> Iterator[Span]:
    start, stop = span
    if level >= len(_ENDS):
        step = max(1, budget // 2)  # characters; few tokenizers give two tokens for one
        yield from ((place, min(place + step, stop)) for place in range(start, stop, step))
        return
    for match in _ENDS[level].finditer(text, start, stop):
        if match.end() < stop:
            yield start, match.end()
            start = match.end()
    yield start, stop
