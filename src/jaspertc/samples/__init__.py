"""Short and long texts in English and Chinese, written for this project, with questions about them."""

import json
from importlib.resources import files
from typing import Any


def load_samples(name: str) -> list[dict[str, Any]]:
    """The rows of ``passages``, ``questions`` or ``sts``; README.md beside them has the schemas."""
    content = files(__name__).joinpath(f"{name}.jsonl").read_text(encoding="utf-8")
    return [json.loads(line) for line in content.splitlines()]
