"""The charts: time by length at each ratio, time by ratio on mixed lengths, single queries."""

from collections.abc import Mapping, Sequence
from typing import Any

from jaspertc.reports.content import Figure
from jaspertc.reports.drawing import COLOURS, IN_A_ROW, INK, drawn, finished, plain_ticks
from jaspertc.reports.numbers import Spread
from lab.compare.summary import Latency, Timed

PANEL, HEIGHT, MOST_PANELS = 2.3, 3.0, 6
MARKS = "osD^vP*X"


def by_length(units: Mapping[int, Sequence[Timed]], colours: Mapping[str, int]) -> Figure:
    """Table 4 as lines: ms per text over the length, a panel for each ratio.

    Args:
        units: length in tokens -> the cells of that length.
        colours: contender -> its place among the colours.
    """
    every = [cell for cells in units.values() for cell in cells]
    swept = list(dict.fromkeys(cell.ratio for cell in every if cell.ratio is not None))
    ratios: list[float | None] = [*swept[:MOST_PANELS]] or [None]
    width = max(3.6, PANEL * min(IN_A_ROW, len(ratios)) + 0.8)
    with drawn(width, HEIGHT, panels=len(ratios)) as (figure, panels):
        for axes, ratio in zip(panels, ratios):
            for name in dict.fromkeys(cell.contender for cell in every):
                points = [
                    (length, cell.ms)
                    for length, cells in units.items()
                    for cell in cells
                    if cell.contender == name and cell.ratio in (ratio, None)
                ]
                if points:
                    _line(axes, [x for x, _ in points], [y for _, y in points], name, colours)
            axes.set_xscale("log", base=2)
            axes.set_yscale("log")
            axes.set_xticks(list(units), [str(length) for length in units], rotation=45)
            axes.minorticks_off()
            plain_ticks(axes.yaxis)
            axes.set_title("no compressor" if ratio is None else f"ratio {ratio:g}", fontsize=10)
            axes.set_xlabel("tokens of a text")
        for axes in panels[::IN_A_ROW]:
            axes.set_ylabel("ms per text")
        _legend(figure, panels[0], colours)
        note = "Medians; whiskers: lowest and highest round. Lower is better; both axes are logarithmic."
        return finished(figure, "table4", "Time per text by length", note)


def by_ratio(cells: Sequence[Timed], colours: Mapping[str, int]) -> Figure:
    """Mixed lengths: ms per text over the ratio; what does not compress is a level line."""
    with drawn(5.4, 3.6) as (figure, (axes,)):
        for name in dict.fromkeys(cell.contender for cell in cells):
            own = [cell for cell in cells if cell.contender == name]
            if own[0].ratio is None:
                colour = COLOURS[colours[name] % len(COLOURS)]
                axes.axhline(own[0].ms.median, color=colour, linewidth=1.6, linestyle="--", label=name)
                axes.axhspan(own[0].ms.low, own[0].ms.high, color=colour, alpha=0.12, linewidth=0)
            else:
                own = sorted(own, key=lambda cell: cell.ratio or 0)
                _line(axes, [cell.ratio or 0 for cell in own], [cell.ms for cell in own], name, colours)
        axes.set_xlabel("compression ratio")
        axes.set_ylabel("ms per text")
        axes.set_ylim(bottom=0)
        _legend(figure, axes, colours)
        return finished(
            figure, "mix", "Time per text on mixed lengths", "Medians; whiskers: lowest and highest round."
        )


def by_query(rows: Sequence[Latency], colours: Mapping[str, int]) -> Figure:
    """Single queries: a bar to the median, and a mark at the 95th percentile."""
    with drawn(5.4, 0.9 + 0.38 * len(rows)) as (figure, (axes,)):
        for place, row in enumerate(rows):
            colour = COLOURS[colours[row.label] % len(COLOURS)]
            axes.barh(place, row.p50, color=colour, height=0.55)
            axes.plot([row.p50, row.p95], [place, place], color=INK, linewidth=1)
            axes.plot([row.p95], [place], "|", color=INK, markersize=11)
        axes.set_yticks(range(len(rows)), [row.label for row in rows])
        axes.invert_yaxis()
        axes.set_xlim(left=0)
        axes.set_xlabel("ms")
        axes.grid(visible=False, axis="y")
        return finished(figure, "query", "Time of a single query", "Bars: median. Marks: 95th percentile.")


def _line(
    axes: Any, xs: Sequence[float], times: Sequence[Spread], name: str, colours: Mapping[str, int]
) -> None:
    middle = [time.median for time in times]
    around = [
        [time.median - time.low for time in times],
        [time.high - time.median for time in times],
    ]
    place = colours[name]
    axes.errorbar(
        xs,
        middle,
        yerr=around,
        fmt=f"{MARKS[place % len(MARKS)]}-",
        color=COLOURS[place % len(COLOURS)],
        markersize=4.5,
        linewidth=1.6,
        elinewidth=1,
        label=name,
    )


def _legend(figure: Any, axes: Any, colours: Mapping[str, int]) -> None:
    found = sorted(zip(*axes.get_legend_handles_labels()), key=lambda pair: colours[pair[1]])
    handles, labels = zip(*found)
    figure.legend(
        handles,
        labels,
        loc="outside upper left",
        ncols=min(4, len(labels)),
        frameon=False,
        labelcolor=INK,
        fontsize=9,
    )
