"""What commands print: control characters of texts, names and values are shown, never sent to the terminal.

A document could otherwise set the window's title, move the cursor over earlier lines, or turn the reading
order of what follows (CWE-150; for U+202E and its kind, CVE-2021-42574).
"""

import json
import re
from typing import Any

# C0 and C1, DEL, marks that change the reading order, line separators, halves of surrogate pairs.
_CONTROLS = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufeff\ud800-\udfff]")


def visible(text: object, *, keep: str = "") -> str:
    """``text`` with a symbol in place of each control character: ``␛`` or, where there is none, ``<U+202E>``.

    Args:
        keep: control characters that stay, such as a line break.
    """

    def symbol(match: re.Match[str]) -> str:
        code = ord(match[0])
        if match[0] in keep:
            return match[0]
        if code < 0x20:
            return chr(0x2400 + code)
        return "␡" if code == 0x7F else f"<U+{code:04X}>"

    return _CONTROLS.sub(symbol, str(text))


def json_line(value: Any) -> str:
    """``value`` as one line of JSON whose control characters are escapes; it reads as what it was."""
    return _CONTROLS.sub(lambda found: f"\\u{ord(found[0]):04x}", json.dumps(value, ensure_ascii=False))
