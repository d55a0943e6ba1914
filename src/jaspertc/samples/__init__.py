"""Short and long texts in English and Chinese, written for this project, with questions about them."""

from pathlib import Path
from typing import Any

from jaspertc.files.json_lines import read_objects


def load_samples(name: str) -> list[dict[str, Any]]:
    """The rows of ``passages``, ``questions`` or ``sts``; README.md beside them has the schemas."""
    return [row for _, row in read_objects(Path(__file__).parent / f"{name}.jsonl")]
