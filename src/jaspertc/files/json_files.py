"""JSON files, each one value."""

import json
from pathlib import Path
from typing import Any

from jaspertc.errors import DataFileError, JasperError
from jaspertc.files.aside import written_aside


def write_json(path: Path, content: Any) -> None:
    """A JSON file that appears whole or not at all; its folder is made."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_aside(path) as file:
        file.write(json.dumps(content, ensure_ascii=False, indent=1).encode())


def read_json(path: Path, fix: str = "copy it again", error: type[JasperError] = DataFileError) -> Any:
    """The content of a JSON file.

    Raises:
        error: it is missing or no JSON; the message ends in ``fix``.
    """
    try:
        return json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError) as problem:
        raise error(f"{path} cannot be read as JSON ({problem}); {fix}") from problem
