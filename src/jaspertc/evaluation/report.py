"""From a folder of results to one HTML page and a Markdown file, which say the same."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jaspertc.evaluation import tables
from jaspertc.evaluation.figures import heat_map, quality_latency
from jaspertc.evaluation.store import Contents, Score, read_folder, read_table
from jaspertc.evaluation.summary import Summary, distinct
from jaspertc.reports.content import Report, Section, Table
from jaspertc.reports.pages import write_pages

MAPS = 3


def write_report(
    folder: Path, output: Path, *, title: str | None = None, more: Sequence[Path] = (), texts: bool = True
) -> list[Path]:
    """Make ``OUTPUT.html``, which needs no other file, and ``OUTPUT.md`` with pictures in ``OUTPUT-files/``.

    Args:
        folder: what ``jaspertc evaluate`` wrote.
        output: path without an ending.
        title: the heading; default: the name of the model.
        more: JSON files with further tables.
        texts: show the sentences behind the similarity map; they are the task's, under its licence.

    Returns:
        The two files.

    Raises:
        DataFileError: there are no results, or a file is damaged or no table.
    """
    tables = [read_table(path, "correct it, or give another --table") for path in more]
    report = build(read_folder(folder), title, tables, texts=texts)
    output = output.with_suffix("") if output.suffix in (".html", ".md") else output
    return write_pages(report, output, f"{output.name}-files")[-2:]


def build(
    contents: Contents, title: str | None = None, more: Sequence[dict[str, Any]] = (), *, texts: bool = True
) -> Report:
    """The report of a folder's contents."""
    summary = Summary(distinct(contents.scores))
    run = contents.run
    command = run.get("command", "")
    name = run.get("model") or summary.facts(summary.labels[0])["name"]
    facts = [f"{len(summary.tasks)} tasks", f"{len(summary.labels)} models and settings"]
    if run.get("machine"):
        facts.append(run["machine"])
    sections = [
        Section(title="Scores", tables=[tables.overview(summary, contents.latency)], command=command),
        *_curves(summary, contents, command),
        *_heat_maps(summary, command, texts=texts),
    ]
    published = tables.published_table(summary)
    if published is not None:
        sections.append(Section(title="Published scores", tables=[published], command=command))
    sections.append(Section(title="All tasks", tables=[tables.by_task(summary)], command=command))
    for table in map(tables.foreign, [*contents.tables, *more]):
        sections.append(Section(title=table.title, tables=[table], command=table.command))
    sections.append(_reproduce(contents, command))
    return Report(title=title or f"Evaluation of {name}", subtitle=", ".join(facts), sections=sections)


def _curves(summary: Summary, contents: Contents, command: str) -> list[Section]:
    figures = quality_latency(summary, contents.latency)
    if not figures:
        by_length = tables.by_stratum(summary, contents.latency)
        return (
            [Section(title="Length of texts", tables=[by_length], command=command)] if summary.strata else []
        )
    overall, rest = figures[0], figures[1:]
    kinds = [figure for figure in rest if figure.name.startswith("curve-")]
    lengths = [figure for figure in rest if figure.name.startswith("length-")]
    threshold = summary.facts(summary.labels[0])["threshold"]
    sections = [
        Section(
            title="Quality and time",
            text="Each point is a compression ratio: a lower one keeps fewer tokens and takes less time. "
            f"Texts up to {threshold} tokens are never compressed.",
            figures=[overall],
            command=command,
        ),
        Section(title="Quality and time by kind of task", figures=kinds, command=command),
    ]
    if lengths:
        sections.append(
            Section(
                title="Quality and time by length of texts",
                text="Short texts are not compressed and hide what compression costs; "
                "here each length is on its own.",
                figures=lengths,
                tables=[tables.by_stratum(summary, contents.latency)],
                command=command,
            )
        )
    return sections


def _heat_maps(summary: Summary, command: str, *, texts: bool) -> list[Section]:
    """The first bitext task, for the model at its highest and lowest ratio, and peers."""
    by_label: dict[str, Score] = {}
    for score in summary.scores:
        if score.facts.get("similarity"):
            by_label.setdefault(score.label, score)
    labels = [label for label in summary.labels if label in by_label]
    labels = [label for label in labels if by_label[label].task == by_label[labels[0]].task]
    if not labels:
        return []
    swept = [label for label in labels if by_label[label].ratio is not None]
    peers = [label for label in labels if by_label[label].ratio is None]
    maps: dict[str, str] = {}  # short sentences look the same at each ratio
    for label in [*swept[:1], *swept[-1:], *peers]:
        maps.setdefault(str(by_label[label].facts["similarity"]["cosines"]), label)
    figures = [
        heat_map(label, by_label[label].facts["similarity"], f"heat-map-{number}")
        for number, label in enumerate(list(maps.values())[:MAPS], 1)
    ]
    first = by_label[labels[0]]
    rows = [[str(number), *pair] for number, pair in enumerate(zip(*first.facts["similarity"]["texts"]), 1)]
    sentences = Table(title="The sentences", columns=["", "English", "Chinese"], rows=rows)
    return [
        Section(
            title="Similarity across languages",
            text=f"Cosines of sentences of {first.task} and their translations. A bright diagonal on a "
            "dark ground is what a bilingual model should show.",
            figures=figures,
            command=command,
            details=[sentences] if texts else [],
        )
    ]


def _reproduce(contents: Contents, command: str) -> Section:
    versions = contents.run.get("versions", {})
    rows = [[name, value] for name, value in versions.items()]
    if contents.run.get("machine"):
        rows.append(["machine", contents.run["machine"]])
    text = (
        "Every number and figure above comes from the results folder of this command, unless a section names "
        "another. `jaspertc report` on that folder makes this page again. Of folders, only the name is shown."
    )
    return Section(
        title="How to reproduce",
        text=text,
        command=command,
        tables=[Table(title="Versions", columns=["", "version"], rows=rows)] if rows else [],
    )
