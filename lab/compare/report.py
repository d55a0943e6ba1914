"""Results as tables and charts: one HTML page, one Markdown file, PNG pictures."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jaspertc.reports.content import Report, Section, Table
from jaspertc.reports.numbers import NONE, Spread, number, spread
from jaspertc.reports.pages import write_pages
from lab.compare import figures
from lab.compare.settings import QUERIES, QUERY_TOKENS
from lab.compare.store import read_results
from lab.compare.summary import (
    Latency,
    Start,
    Timed,
    disturbance,
    gemm_rates,
    latencies,
    starts,
    timed,
)

PICTURES = "pictures"
NOTE = (
    "Times are medians (lowest to highest round). x padded, x plain: how many times as fast as that "
    "contender in the same round, at the same ratio for padded. time / floor: measured time over that of "
    "the layers' FLOPs at the speed of matrix products of the same precision, timed in the same rounds; in "
    "brackets the share of that speed that was reached. cosine: the lowest to padded's vectors, or to "
    "plain's of what does not compress, of texts that the positions hold."
)


def write_report(folder: Path) -> list[Path]:
    """Make ``report.html``, ``report.md`` and pictures from a folder's ``results.json``.

    Returns:
        What was written.

    Raises:
        DataFileError: the results cannot be read.
    """
    return write_pages(build(read_results(folder)), folder / "report", PICTURES)


def build(content: Mapping[str, Any]) -> Report:
    """The report of a results file's content."""
    settings, machine = content["settings"], content["machine"]
    name = f"random {settings['shape']}" if settings["shape"] else settings["model"]
    if settings["layers"]:
        name += f", {settings['layers']} layers"
    subtitle = f"{machine['name']}, {machine['memory_gib']} GiB, {content['date']}"
    sections = [
        *_table4(content),
        *_mix(content),
        *_query(content),
        *_start(content),
        _contenders(content),
        _circumstances(content),
    ]
    return Report(title=f"Speed of {name}", subtitle=subtitle, sections=sections)


def _done(content: Mapping[str, Any], protocol: str) -> list[dict[str, Any]]:
    units = content["units"].values()
    return [unit for unit in units if unit["protocol"] == protocol and unit["rounds"]]


def _colours(content: Mapping[str, Any]) -> dict[str, int]:
    return {name: place for place, name in enumerate(content["contenders"])}


def _table4(content: Mapping[str, Any]) -> list[Section]:
    found = _done(content, "table4")
    if not found:
        return []
    units = {unit["median tokens"]: timed(unit, content["contenders"]) for unit in found}
    settings = content["settings"]
    last = max(units)
    tables = [
        throughput(f"{length} tokens", cells, note=NOTE if length == last else "")
        for length, cells in units.items()
    ]
    return [
        Section(
            title="Fixed lengths (the report's Table 4)",
            text=f"{settings['texts']} texts of one length, {settings['batch']} in a call. {_rounds(found)}",
            figures=[figures.by_length(units, _colours(content))],
            tables=[overview(units), *tables],
            command=content["command"],
        ),
    ]


def _mix(content: Mapping[str, Any]) -> list[Section]:
    return [
        Section(
            title="Mixed lengths",
            text=f"{unit['texts']} texts of lognormal lengths, median {unit['median tokens']} tokens, all in "
            f"one call: each contender batches them as it does. {_rounds([unit])}",
            figures=[figures.by_ratio(timed(unit, content["contenders"]), _colours(content))],
            tables=[throughput("mixed lengths", timed(unit, content["contenders"]), note=NOTE)],
            command=content["command"],
        )
        for unit in _done(content, "mix")
    ]


def _query(content: Mapping[str, Any]) -> list[Section]:
    return [
        Section(
            title="Single queries",
            text=f"{QUERIES} different queries of {QUERY_TOKENS} tokens in a round, one call each. Nothing "
            f"is compressed at this length. {_rounds([unit])}",
            figures=[figures.by_query(latencies(unit, content["contenders"]), _colours(content))],
            tables=[query_table(latencies(unit, content["contenders"]))],
            command=content["command"],
        )
        for unit in _done(content, "query")
    ]


def _start(content: Mapping[str, Any]) -> list[Section]:
    return [
        Section(
            title="Start",
            text="A fresh process for each measurement: from its start until the model is loaded, then until "
            "the first vector. Files are in the system's cache, since a first round has read them. "
            f"{_rounds([unit])}",
            tables=[start_table(starts(unit))],
            command=content["command"],
        )
        for unit in _done(content, "start")
    ]


def _rounds(units: Sequence[Mapping[str, Any]]) -> str:
    counts = sorted({len(unit["rounds"]) for unit in units})
    return f"Interleaved rounds: {' to '.join(str(count) for count in counts)}, after one that warms up."


def overview(units: Mapping[int, Sequence[Timed]]) -> Table:
    """ms per text: a row for each contender and ratio, a column for each length."""
    labels = list(dict.fromkeys(cell.label for cells in units.values() for cell in cells))
    rows = []
    for label in labels:
        found = [next((cell for cell in cells if cell.label == label), None) for cells in units.values()]
        rows.append([label, *(NONE if cell is None else f"{number(cell.ms.median)}" for cell in found)])
    return Table(title="ms per text", columns=["", *(f"{length}" for length in units)], rows=rows)


def throughput(title: str, cells: Sequence[Timed], *, note: str = "") -> Table:
    """A row for each cell."""
    rows = [
        [
            cell.label,
            cell.precision,
            spread(cell.ms),
            number(cell.texts_per_second),
            f"{cell.tokens_per_second:,.0f}",
            f"{cell.tokens:,.0f}",
            f"{cell.computed:,.0f}",
            spread(cell.padded),
            spread(cell.plain),
            _floor(cell),
            NONE if cell.cosine is None else f"{cell.cosine:.4f}",
        ]
        for cell in cells
    ]
    columns = ["", "precision", "ms per text", "texts/s", "tokens/s", "tokens read", "tokens computed"]
    columns += ["x padded", "x plain", "time / floor", "cosine"]
    return Table(title=title, columns=columns, rows=rows, note=note)


def query_table(rows: Sequence[Latency]) -> Table:
    """A row for each contender."""
    return Table(
        title="one query",
        columns=["", "precision", "p50 ms", "p95 ms", "x padded", "time / floor"],
        rows=[
            [
                row.label,
                row.precision,
                number(row.p50),
                number(row.p95),
                spread(row.padded),
                NONE if row.floor is None else f"{row.floor:.1f}",
            ]
            for row in rows
        ],
        note="Percentiles over the queries of all rounds; x padded compares the medians of each round.",
    )


def start_table(rows: Sequence[Start]) -> Table:
    """A row for each contender."""
    return Table(
        title="start",
        columns=["", "load s", "first vector s", "together s", "resident MB", "peak MB"],
        rows=[
            [
                row.label,
                spread(row.load),
                spread(row.first),
                spread(row.total),
                f"{row.resident.median:,.0f}",
                NONE if row.peak is None else f"{row.peak.median:,.0f}",
            ]
            for row in rows
        ],
        note="Loading includes the interpreter and imports. Resident memory counts mapped files as far as "
        "they were read.",
    )


def _contenders(content: Mapping[str, Any]) -> Section:
    rows = [[name, facts["precision"], facts["detail"]] for name, facts in content["contenders"].items()]
    rows += [[name, NONE, f"left out: {why}"] for name, why in content["skipped"].items()]
    return Section(
        title="Contenders",
        tables=[Table(title="Contenders", columns=["", "precision", "how it computes"], rows=rows)],
    )


def _circumstances(content: Mapping[str, Any]) -> Section:
    others = disturbance(content)
    rates = [
        [f"matrix products, {precision}, GFLOP/s", spread(rate * 1e-9)]
        for precision, rate in gemm_rates(content).items()
    ]
    rows = [
        ["machine", content["machine"]["name"]],
        ["memory, GiB", f"{content['machine']['memory_gib']}"],
        ["inputs", content["inputs"]],
        *rates,
        ["used by other processes", NONE if others is None else _percent(others)],
        *([name, value] for name, value in content["versions"].items()),
    ]
    return Section(
        title="How to reproduce",
        text="All samples are in `results.json`; the same command goes on where it was interrupted.",
        tables=[Table(title="Circumstances", columns=["", "value"], rows=rows)],
        command=content["command"],
    )


def _percent(value: Spread) -> str:
    return f"{value.median:.0%} of the cores ({value.low:.0%}–{value.high:.0%})"


def _floor(cell: Timed) -> str:
    share = cell.gemm_share
    return NONE if cell.floor is None or share is None else f"{cell.floor.median:.2f} ({share:.0%})"
