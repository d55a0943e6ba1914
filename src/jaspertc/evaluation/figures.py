"""The curves and the heat map: SVG for pages that follow light and dark mode, PNG for Markdown."""

import io
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

from jaspertc.evaluation.library import matplotlib
from jaspertc.evaluation.summary import GROUPS, Summary

INK = "#345678"  # stands for the page's own text colour until the SVG is finished
COLOURS = ("#3a86c8", "#d9822b", "#3a9d6e", "#a06cd5", "#d1495b", "#8a8f3c", "#c063a0", "#5f8f99")
WIDTH, HEIGHT, SMALL = 5.4, 3.8, (3.9, 2.9)
# Ids that matplotlib gives to everything and that nothing refers to.
IDS = re.compile(r' id="(?:\w+?|matplotlib\.axis)_\d+"')


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A picture twice: ``svg`` without any external resource, ``png`` with a white ground."""

    name: str
    title: str
    note: str
    svg: str
    png: bytes


@dataclass(frozen=True)
class _Series:
    """Points of one line: milliseconds per text, score x 100, ratio."""

    label: str
    points: list[tuple[float, float, float]]


def quality_latency(summary: Summary, latency: Mapping[str, Any]) -> list[Figure]:
    """Quality against time: over all tasks, for each kind of task, and for each length of texts.

    Empty where no model has several ratios, or nothing was timed.
    """
    times = latency.get("contenders", {})
    swept = {
        name: labels for name, labels in summary.swept().items() if all(label in times for label in labels)
    }
    if not swept:
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
    with _axes(5.0, 4.4) as (figure, axes):
        image = axes.pcolormesh(cosines, cmap="viridis", rasterized=False)
        axes.invert_yaxis()
        axes.set_aspect("equal")
        places = range(4, len(cosines), 5)
        axes.set_xticks([place + 0.5 for place in places], [place + 1 for place in places])
        axes.set_yticks([place + 0.5 for place in places], [place + 1 for place in places])
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
        return _finished(figure, name, label, note)


def _group_mean(summary: Summary, group: str, label: str) -> float | None:
    return summary.mean(label, group)


def _stratum_mean(summary: Summary, stratum: str, label: str) -> float | None:
    return summary.stratum_mean(label, stratum)


def _overall(summary: Summary, swept: Mapping[str, list[str]], times: Mapping[str, Any]) -> Figure:
    with _axes(WIDTH, HEIGHT) as (figure, axes):
        _lines(axes, _series(summary, swept, times, summary.mean), ratios=True)
        peers = [
            label for label in summary.labels if summary.facts(label)["ratio"] is None and label in times
        ]
        for place, label in enumerate(peers):
            colour = COLOURS[(len(swept) + place) % len(COLOURS)]
            x, y = times[label]["ms_per_text"], summary.mean(label)
            axes.plot([x], [y], "D", color=colour, markersize=6, label=label)
        axes.set_xscale("log")
        _plain_ticks(axes)
        if len(swept) + len(peers) > 1:
            axes.legend(frameon=False, labelcolor=INK, fontsize=8.5, loc="best")
        note = f"Mean of {len(summary.common)} tasks; time over texts of all lengths. Numbers are ratios."
        return _finished(figure, "curve", "all tasks", note)


def _small(name: str, title: str, series: Sequence[_Series]) -> Figure:
    with _axes(*SMALL) as (figure, axes):
        _lines(axes, series, ratios=False)
        if len(series) > 1:
            axes.legend(frameon=False, labelcolor=INK, fontsize=8.5)
        return _finished(figure, name, title, "")


def _series(
    summary: Summary,
    swept: Mapping[str, list[str]],
    times: Mapping[str, Any],
    score: Callable[[str], float | None],
    stratum: str | None = None,
) -> list[_Series]:
    found = []
    for name, labels in swept.items():
        points = []
        for label in labels:
            quality = score(label)
            time = times[label]["strata"][stratum]["median"] if stratum else times[label]["ms_per_text"]
            if quality is not None:
                points.append((time, quality, summary.facts(label)["ratio"]))
        found.append(_Series(name, points))
    return found


def _lines(axes: Any, series: Sequence[_Series], *, ratios: bool) -> None:
    for place, line in enumerate(series):
        colour = COLOURS[place % len(COLOURS)]
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


def _plain_ticks(axes: Any) -> None:
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axes.xaxis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.xaxis.set_minor_formatter(NullFormatter())


@contextmanager
def _axes(width: float, height: float) -> Iterator[tuple[Any, Any]]:
    library = matplotlib()
    from matplotlib.figure import Figure as Drawing

    settings = {"svg.fonttype": "none", "font.size": 9.5}
    with library.rc_context(settings):
        figure = Drawing(figsize=(width, height), layout="constrained")
        axes = figure.add_subplot()
        axes.set_facecolor("none")
        axes.tick_params(colors=INK, which="both")
        axes.xaxis.label.set_color(INK)
        axes.yaxis.label.set_color(INK)
        for side, spine in axes.spines.items():
            spine.set_color(INK)
            spine.set_visible(side in ("left", "bottom"))
        axes.grid(color=INK, alpha=0.15, linewidth=0.7)
        yield figure, axes


def _finished(figure: Any, name: str, title: str, note: str) -> Figure:
    matplotlib().rcParams["svg.hashsalt"] = name  # ids differ between the figures of a page
    text = io.StringIO()
    figure.savefig(text, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    picture = io.BytesIO()
    figure.savefig(picture, format="png", dpi=160, facecolor="white", metadata={"Software": None})
    return Figure(
        name=name, title=title, note=note, svg=_inline(text.getvalue(), title), png=picture.getvalue()
    )


def _inline(svg: str, title: str) -> str:
    """An SVG element that takes the page's colour and font, and the width it is given."""
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor")
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'font: ([\d.]+px) [^;"]*', r"font-size: \1", svg)
    svg = IDS.sub("", svg)
    head, rest = svg.split(">", 1)
    box = re.search(r'viewBox="[^"]*"', head)
    assert box is not None
    return f'<svg xmlns="http://www.w3.org/2000/svg" {box.group()} role="img" aria-label="{title}">{rest}'


def _slug(text: str) -> str:
    return re.sub(r"\W+", "-", text.lower()).strip("-")
