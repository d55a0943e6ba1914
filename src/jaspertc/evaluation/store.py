"""A folder of results: mteb's own files, and beside them what mteb does not measure.

    results/MODEL/REVISION/experiments/SETTINGS/TASK.json    mteb's cache
    measures/...the same.../TASK.json                        time, length strata, facts for the report
    run.json  latency.json  latency_texts.jsonl  tables/*.json

A task is done once its measures are there, which come last.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jaspertc.errors import DataFileError
from jaspertc.files.aside import writing
from jaspertc.files.json_files import read_json, write_json

RESULTS, MEASURES, TABLES = "results", "measures", "tables"
RUN, LATENCY, LATENCY_TEXTS = "run.json", "latency.json", "latency_texts.jsonl"
AGAIN = "remove it and evaluate again"
# By which results of one name and ratio differ, see ``Contender.settings``; old results have no runtime.
SETTINGS = ("revision", "runtime", "threshold", "limit")
# What the measures of every result have.
FACTS = (
    *("name", "label", "revision", "ratio", "threshold", "dims", "megabytes"),
    *("group", "main_score", "items", "limit", "strata"),
)


@dataclass(frozen=True, kw_only=True)
class Score:
    """One task's result of one contender.

    Attributes:
        label: how tables name the contender.
        task: the task's name.
        group: its kind, such as ``STS`` or ``Retrieval``.
        score: mteb's main score, usually in [0, 1].
        facts: what ``measures`` holds.
    """

    label: str
    task: str
    group: str
    score: float
    facts: Mapping[str, Any]

    @property
    def name(self) -> str:
        """The contender without its ratio."""
        return str(self.facts["name"])

    @property
    def ratio(self) -> float | None:
        """The contender's ratio; ``None`` for a peer."""
        ratio: float | None = self.facts["ratio"]
        return ratio


@dataclass(frozen=True, kw_only=True)
class Contents:
    """All that a folder of results holds."""

    scores: list[Score]
    latency: dict[str, Any] = field(default_factory=dict)
    run: dict[str, Any] = field(default_factory=dict)
    tables: list[dict[str, Any]] = field(default_factory=list)


class Store:
    """Where an evaluation keeps its results: mteb's own cache, and measures beside it.

    Raises:
        DataFileError: the folder cannot be made.
    """

    def __init__(self, folder: Path) -> None:
        from mteb.cache import ResultCache

        self.folder = folder
        with writing(folder):
            self.cache = ResultCache(folder)

    def done(self, meta: Any, task: Any) -> bool:
        """Whether the result of this very data is there, for a model that mteb describes so.

        Raises:
            DataFileError: it is there and damaged.
        """
        path = self.cache.get_task_result_path(task.metadata.name, meta)
        if not path.is_file() or not self._measures(path).is_file():
            return False
        same: bool = read_object(path).get("dataset_revision") == task.metadata.revision
        return same

    def write(self, meta: Any, result: Any, measures: Mapping[str, Any]) -> None:
        """Keep a result of mteb, then its measures, without which it does not count."""
        path = self._measures(self.cache.get_task_result_path(result.task_name, meta))
        with writing(path):
            path.unlink(missing_ok=True)
            self.cache.save_to_cache(result, meta)
            write_json(path, measures)

    def _measures(self, path: Path) -> Path:
        return self.folder / MEASURES / path.relative_to(self.folder / RESULTS)


def read_folder(folder: Path) -> Contents:
    """Everything in a folder of results.

    Raises:
        DataFileError: there is no result, or a file is damaged.
    """
    scores = sorted(_scores(folder), key=lambda score: (score.group, score.task))
    if not scores:
        raise DataFileError(
            f"{folder} has no results; give the --output folder of `jaspertc evaluate`, with a finished task"
        )
    parts = {name: folder / name for name in (LATENCY, RUN)}
    read = {name: read_object(path) if path.is_file() else {} for name, path in parts.items()}
    tables = [read_table(path) for path in sorted((folder / TABLES).glob("*.json"))]
    return Contents(scores=scores, latency=read[LATENCY], run=read[RUN], tables=tables)


def read_object(path: Path, keys: Sequence[str] = ()) -> dict[str, Any]:
    """A JSON file of a folder of results that holds an object with these keys.

    Raises:
        DataFileError: it is no JSON, no object, or a key is missing.
    """
    content = read_json(path, AGAIN)
    if not isinstance(content, dict):
        raise DataFileError(f"{path} is a {type(content).__name__}, it must be a JSON object; {AGAIN}")
    for key in keys:
        if key not in content:
            raise DataFileError(f"{path} has no key {key!r}; {AGAIN}")
    return content


def read_table(path: Path, then: str = AGAIN) -> dict[str, Any]:
    """A table made by another command: ``{"title", "columns", "rows", "note"?, "command"?}``.

    Args:
        then: what to do about a file that is no JSON, for its message.

    Raises:
        DataFileError: a key is missing or a row has another width.
    """
    table = read_json(path, then)
    if not isinstance(table, dict):
        raise DataFileError(
            f"{path} is a {type(table).__name__}, it must be an object with title, columns, rows"
        )
    for key, kind in (("title", str), ("columns", list), ("rows", list)):
        if not isinstance(table.get(key), kind):
            raise DataFileError(
                f"{path}: key {key!r} is {table.get(key)!r:.60}, it must be a {kind.__name__}"
            )
    for number, row in enumerate(table["rows"], 1):
        if not isinstance(row, list) or len(row) != len(table["columns"]):
            raise DataFileError(f"{path}: key 'rows', row {number} must list {len(table['columns'])} values")
    return table


def main_score(result: Mapping[str, Any]) -> float:
    """The mean of the main scores of a result's splits and subsets."""
    scores = [entry["main_score"] for entries in result["scores"].values() for entry in entries]
    return float(sum(scores) / len(scores))


def _scores(folder: Path) -> Iterator[Score]:
    for path in sorted((folder / RESULTS).rglob("*.json")):
        measures = folder / MEASURES / path.relative_to(folder / RESULTS)
        if path.name == "model_meta.json" or not measures.is_file():
            continue
        result, facts = read_object(path, ("task_name", "scores")), read_object(measures, FACTS)
        try:
            score = main_score(result)
        except (AttributeError, KeyError, TypeError, ValueError, ZeroDivisionError):
            raise DataFileError(f"{path}: key 'scores' has no main scores; {AGAIN}") from None
        yield Score(
            label=facts["label"],
            task=result["task_name"],
            group=facts["group"],
            score=score,
            facts=facts,
        )
