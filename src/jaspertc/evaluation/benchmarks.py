"""MTEB's tasks by name, and the scores published for them."""

import json
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

from jaspertc.evaluation.library import mteb
from jaspertc.evaluation.local_tasks import unknown

PUBLISHED = Path(__file__).with_name("published.json")


def mteb_tasks(names: Sequence[str]) -> list[Any]:
    """MTEB's tasks with these names, in English and Chinese where they have more languages.

    Raises:
        InputError: there is no such task; the nearest names are given.
    """
    library = mteb()
    known = {task.metadata.name for task in library.get_tasks(exclude_superseded=False)}
    for name in names:
        if name not in known:
            raise unknown(name, sorted(known), "MTEB task")
    return [library.get_task(name, languages=_languages(name)) for name in names]


def benchmark_tasks(name: str) -> list[Any]:
    """The tasks of a benchmark of MTEB, such as ``MTEB(eng, v2)``.

    Raises:
        InputError: there is no such benchmark; the nearest names are given.
    """
    library = mteb()
    try:
        return list(library.get_benchmark(name).tasks)
    except KeyError:
        known = [benchmark.name for benchmark in library.get_benchmarks()]
        raise unknown(name, known, "benchmark") from None


@cache
def published() -> dict[str, Any]:
    """Main scores x 100 as published: ``{"source", "columns", "scores": {task: [a score a column]}}``."""
    content: dict[str, Any] = json.loads(PUBLISHED.read_text(encoding="utf-8"))
    return content


def _languages(name: str) -> list[str] | None:
    languages = set(mteb().get_task(name).metadata.languages)
    wanted = sorted(languages & {"eng", "cmn", "zho"})
    return wanted if wanted and len(languages) > len(wanted) else None
