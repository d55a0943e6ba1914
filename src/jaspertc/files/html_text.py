"""The text of a web page: what a reader sees, a paragraph a line."""

import re
from html.parser import HTMLParser

HIDDEN = ("script", "style", "template", "noscript", "svg")
INLINE = re.compile(
    "a|abbr|b|bdi|bdo|cite|code|data|del|dfn|em|font|i|img|ins|kbd|mark|q|s|samp|small|span|strong|sub|sup"
    "|time|tt|u|var|wbr"
)


def html_text(page: str) -> str:
    """The title and the text of a page, without scripts and styles.

    >>> html_text("<title>T</title><p>one <b>t</b>wo &amp; 3<br>four<script>x</script>")
    'T\\none two & 3\\nfour'
    """
    parser = _Text()
    parser.feed(page)
    parser.close()
    lines = (re.sub(r"\s+", " ", line).strip() for line in "".join(parser.parts).split("\v"))
    return "\n".join(line for line in lines if line)


class _Text(HTMLParser):
    """Collects text; ``\\v`` stands where a block begins or ends."""

    def __init__(self) -> None:
        super().__init__()
        self.parts: list[str] = []
        self._hidden: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag in HIDDEN:
            self._hidden.append(tag)
        elif tag == "body":
            self._hidden = []  # what the page forgot to close
        self.handle_startendtag(tag, attrs)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag not in HIDDEN and not INLINE.fullmatch(tag):
            self.parts.append("\v")

    def handle_endtag(self, tag: str) -> None:
        if tag in self._hidden:
            del self._hidden[self._hidden.index(tag) :]
        self.handle_startendtag(tag, [])

    def handle_data(self, data: str) -> None:
        if not self._hidden:
            self.parts.append(data.replace("\v", " "))
