"""The curves and the heat map: SVG for pages that follow light and dark mode, PNG for Markdown."""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from jaspertc.evaluation.summary import GROUPS, Summary
from jaspertc.reports.content import Figure
from jaspertc.reports.drawing import COLOURS, INK, drawn, finished, plain_ticks

WIDTH, HEIGHT, SMALL = 5.4, 3.8, (3.9, 2.9)
FAR = 5.0  # points beyond the curves; peers further away would flatten them and are named instead


@dataclass(frozen=True)
class _Series:
    """Points of one line: milliseconds per text, score x 100, ratio."""

    label: str
    points: list[tuple[float, float, float]]


def quality_latency(summary: Summary, latency: Mapping[str, Any]) -> list[Figure]:
    """Quality against time: over all tasks, for each kind of task, and for each length of texts.

    Empty where no model has several ratios, nothing was timed, or no task is common to all models.
    """
    times = summary.times(latency)
    swept = {
        name: labels for name, labels in summary.swept().items() if all(label in times for label in labels)
    }
    if not swept or not summary.common:
        return []
    figures = [_overall(summary, swept, times)]
    for group in summary.groups:
        title = GROUPS.get(group, group)
        series = _series(summary, swept, times, partial(_group_mean, summary, group))
        figures.append(_small(f"curve-{_slug(title)}", title, series))
    for stratum in summary.strata:
        if stratum not in latency["texts"]:
            continue
        series = _series(summary, swept, times, partial(_stratum_mean, summary, stratum), stratum)
        figures.append(_small(f"length-{_slug(stratum)}", f"{stratum} tokens", series))
    return figures


def heat_map(label: str, similarity: Mapping[str, Any], name: str) -> Figure:
    """Cosines of English sentences (rows) and Chinese ones (columns); translations are on the diagonal."""
    cosines = similarity["cosines"]
    with drawn(5.0, 4.4) as (figure, (axes,)):
        image = axes.pcolormesh(cosines, cmap="viridis", rasterized=False)
        axes.invert_yaxis()
        axes.set_aspect("equal")
        ticks = range(4, len(cosines), 5)
        axes.set_xticks([place + 0.5 for place in ticks], [place + 1 for place in ticks])
        axes.set_yticks([place + 0.5 for place in ticks], [place + 1 for place in ticks])
        axes.grid(visible=False)
        axes.set_xlabel("Chinese sentence")
        axes.set_ylabel("English sentence")
        bar = figure.colorbar(image, ax=axes)
        bar.outline.set_edgecolor(INK)
        bar.ax.tick_params(colors=INK)
        diagonal = [row[place] for place, row in enumerate(cosines)]
        others = [value for i, row in enumerate(cosines) for j, value in enumerate(row) if i != j]
        right = sum(max(row) == row[place] for place, row in enumerate(cosines))
        note = (
            f"Mean cosine of translations {sum(diagonal) / len(diagonal):.3f}, of other pairs "
            f"{sum(others) / len(others):.3f}. The translation is nearest for {right} of {len(cosines)}."
        )
        return finished(figure, name, label, note)


def _group_mean(summary: Summary, group: str, label: str) -> float | None:
    return summary.mean(label, group)


def _stratum_mean(summary: Summary, stratum: str, label: str) -> float | None:
    return summary.stratum_mean(label, stratum)


def _overall(summary: Summary, swept: Mapping[str, list[str]], times: Mapping[str, Any]) -> Figure:
    with drawn(WIDTH, HEIGHT) as (figure, (axes,)):
        lines = _series(summary, swept, times, summary.mean)
        scores = [quality for line in lines for _, quality, _ in line.points]
        note = f"Mean of {len(summary.common)} tasks; time over texts of all lengths. Numbers are ratios."
        peers = [
            label for label in summary.labels if summary.facts(label)["ratio"] is None and label in times
        ]
        outside = []
        for number, label in enumerate(peers):
            colour = COLOURS[(len(swept) + number) % len(COLOURS)]
            x, y = times[label]["ms_per_text"], summary.mean(label)
            if y is None:
                continue
            if min(scores) - FAR <= y <= max(scores) + FAR:
                axes.plot([x], [y], "D", color=colour, markersize=6, label=label)
            else:
                outside.append(f"{label}, {y:.1f} at {x:.3g} ms")
        _lines(axes, lines, ratios=True)
        axes.set_xscale("log")
        plain_ticks(axes.xaxis)
        if len(swept) + len(peers) > 1:
            axes.legend(frameon=False, labelcolor=INK, fontsize=8.5, loc="best")
        if outside:
            note += f" Outside the picture: {'; '.join(outside)}."
        return finished(figure, "curve", "all tasks", note)


def _small(name: str, title: str, series: Sequence[_Series]) -> Figure:
    with drawn(*SMALL) as (figure, (axes,)):
        _lines(axes, series, ratios=False)
        if len(series) > 1:
            axes.legend(frameon=False, labelcolor=INK, fontsize=8.5)
        return finished(figure, name, title, "")


def _series(
    summary: Summary,
    swept: Mapping[str, list[str]],
    times: Mapping[str, Any],
    score: Callable[[str], float | None],
    stratum: str | None = None,
) -> list[_Series]:
    series = []
    for name, labels in swept.items():
        points = []
        for label in labels:
            quality = score(label)
            time = times[label]["strata"][stratum]["median"] if stratum else times[label]["ms_per_text"]
            if quality is not None:
                points.append((time, quality, summary.facts(label)["ratio"]))
        series.append(_Series(name, points))
    return series


def _lines(axes: Any, series: Sequence[_Series], *, ratios: bool) -> None:
    for index, line in enumerate(series):
        colour = COLOURS[index % len(COLOURS)]
        xs, ys, _ = zip(*line.points)
        axes.plot(xs, ys, "o-", color=colour, markersize=4.5, linewidth=1.6, label=line.label)
        ends = (line.points[0], line.points[-1])
        for number, (x, y, ratio) in enumerate(line.points if ratios else ends):
            below = number % 2 == 0  # neighbours would cover each other
            axes.annotate(
                f"{ratio:g}",
                (x, y),
                xytext=(0, -12 if below else 6),
                textcoords="offset points",
                ha="center",
                fontsize=8,
                color=INK,
            )
    axes.set_xlabel("ms per text")
    axes.set_ylabel("score × 100")
    low, high = axes.get_ylim()
    if high - low < 2:  # noise must not look like a slope
        axes.set_ylim((low + high) / 2 - 1, (low + high) / 2 + 1)
    axes.margins(x=0.08)


def _slug(text: str) -> str:
    return re.sub(r"\W+", "-", text.lower()).strip("-")
