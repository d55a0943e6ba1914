"""The tables that the command prints and the report shows."""

from collections.abc import Mapping
from typing import Any

from jaspertc.evaluation.benchmarks import published
from jaspertc.evaluation.subsets import STRATA
from jaspertc.evaluation.summary import GROUPS, MEAN, TYPE_MEAN, Summary
from jaspertc.reports.content import Table
from jaspertc.reports.numbers import NONE


def overview(summary: Summary, latency: Mapping[str, Any], digits: int = 2) -> Table:
    """A row for each contender: means, size and speed."""
    speeds = summary.times(latency)
    heading = [GROUPS.get(group, group) for group in summary.groups]
    rows = []
    for label in summary.labels:
        facts = summary.facts(label)
        means = [summary.mean(label), summary.type_mean(label)]
        kinds = [summary.mean(label, group) for group in summary.groups]
        speed, share = speeds.get(label, {}).get("texts_per_second"), summary.kept(label)
        rows.append(
            [
                label,
                *(_score(mean, digits) for mean in means),
                _number(speed),
                NONE if share is None else f"{share:.0%}",
                _number(facts["megabytes"]),
                str(facts["dims"]),
                *(_score(mean, digits) for mean in kinds),
            ]
        )
    limit = summary.scores[0].facts["limit"]
    note = f"Means over {len(summary.common)} tasks"
    left = len(summary.tasks) - len(summary.common)
    note += f" that all have ({left} more are left out)." if left else "."
    note += f" At most {limit} items of each task, drawn with a fixed seed." if limit else ""
    return Table(
        title="Scores × 100",
        columns=["", MEAN, TYPE_MEAN, "texts/s", "tokens kept", "MB", "dims", *heading],
        rows=rows,
        note=note,
    )


def by_task(summary: Summary) -> Table:
    """A row for each task, a column for each contender."""
    rows = []
    for task in summary.tasks:
        scores = [summary.get(label, task) for label in summary.labels]
        some = next(score for score in scores if score is not None)
        kind = GROUPS.get(some.group, some.group)
        values = [_score(None if score is None else 100 * score.score) for score in scores]
        rows.append(
            [task, kind, some.facts["main_score"].replace("_", " "), str(some.facts["items"]), *values]
        )
    return Table(
        title="Scores × 100 by task", columns=["task", "kind", "measure", "items", *summary.labels], rows=rows
    )


def by_stratum(summary: Summary, latency: Mapping[str, Any]) -> Table:
    """A row for each contender: score and time by length of texts."""
    speeds = summary.times(latency)
    names = summary.strata
    timed = [name for name in STRATA if name in latency.get("texts", {})]
    rows = []
    for label in summary.labels:
        times = speeds.get(label, {}).get("strata", {})
        row = [label, *(_score(summary.stratum_mean(label, name)) for name in names)]
        rows.append(row + [_time(times.get(name)) for name in timed])
    items = ", ".join(f"{name}: {summary.stratum_items(name)}" for name in names)
    rounds = latency.get("rounds")
    note = f"Lengths in tokens of the longest text of an item. Items scored: {items}."
    if timed:
        note += (
            f" Times are medians (lowest to highest) of {rounds} interleaved rounds on {latency['machine']}."
        )
    return Table(
        title="By length of texts",
        columns=["", *(f"score, {name}" for name in names), *(f"ms per text, {name}" for name in timed)],
        rows=rows,
        note=note,
    )


def published_table(summary: Summary) -> Table | None:
    """Our scores beside the published ones, with the difference; ``None`` where no task has any."""
    known = published()
    names = [task for task in summary.tasks if task in known["scores"]]
    if not names:
        return None
    label = summary.labels[0]
    limit = summary.facts(label)["limit"]
    rows = []
    for task in names:
        score = summary.get(label, task)
        ours = None if score is None else 100 * score.score
        theirs = known["scores"][task]
        difference = NONE if ours is None else f"{ours - theirs[0]:+.2f}"
        rows.append([task, _score(ours), difference, *(f"{value:.2f}" for value in theirs)])
    return Table(
        title="Beside published scores × 100",
        columns=["task", label, f"less {known['columns'][0]}", *known["columns"]],
        rows=rows,
        note=known["source"]
        + (f" Ours are of {limit} items at most and cannot be compared with them." if limit else ""),
    )


def foreign(table: Mapping[str, Any]) -> Table:
    """A table that another command wrote as JSON; see ``store.read_table``."""
    rows = [[_cell(value) for value in row] for row in table["rows"]]
    return Table(
        title=table["title"],
        columns=[str(name) for name in table["columns"]],
        rows=rows,
        note=str(table.get("note", "")),
        command=str(table.get("command", "")),
    )


def _cell(value: Any) -> str:
    if value is None:
        return NONE
    return f"{value:.2f}" if isinstance(value, float) else str(value)


def _score(value: float | None, digits: int = 2) -> str:
    return NONE if value is None else f"{value:.{digits}f}"


def _number(value: float | None) -> str:
    return NONE if value is None else f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _time(seconds: Mapping[str, float] | None) -> str:
    if seconds is None:
        return NONE
    return f"{seconds['median']:.3g} ({seconds['low']:.3g}–{seconds['high']:.3g})"
