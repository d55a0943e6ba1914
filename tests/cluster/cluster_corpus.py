"""A corpus of small texts."""

import json
from pathlib import Path
from typing import Any

WORDS = ["the", "river", "stone", "bread", "light", "walks", "seven", "moon"]
WORDS += ["河", "石", "面包", "早上", "光", "很", "少"]


def rows_of(count: int) -> list[dict[str, str]]:
    """Texts of 3 to 14 words, the same each time."""
    words = [[WORDS[(i * 7 + j * (1 + i % 5)) % len(WORDS)] for j in range(3 + i % 12)] for i in range(count)]
    return [{"id": f"t{i}", "text": " ".join(text)} for i, text in enumerate(words)]


def write_lines(path: Path, rows: list[Any]) -> Path:
    """JSON lines; bytes among the rows are put in as they are."""
    lines = [row if isinstance(row, bytes) else json.dumps(row, ensure_ascii=False).encode() for row in rows]
    path.write_bytes(b"".join(line + b"\n" for line in lines))
    return path
