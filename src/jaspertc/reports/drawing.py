"""The frame of a figure: SVG for pages that follow light and dark mode, PNG for Markdown."""

import io
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any

from jaspertc.errors import MissingExtraError
from jaspertc.reports.content import Figure

INK = "#345678"  # stands for the page's own text colour until the SVG is finished
COLOURS = ("#3a86c8", "#d9822b", "#3a9d6e", "#a06cd5", "#d1495b", "#8a8f3c", "#c063a0", "#5f8f99")
IN_A_ROW = 3
# Ids that matplotlib gives to everything and that nothing refers to.
IDS = re.compile(r' id="(?:\w+?|matplotlib\.axis)_\d+"')


def matplotlib() -> Any:
    """The ``matplotlib`` package, drawing to files only.

    Raises:
        MissingExtraError: it is not installed.
    """
    try:
        import matplotlib as library
    except ImportError as error:
        raise MissingExtraError("matplotlib", "evaluate", "a report") from error
    library.use("agg")
    return library


def plain_ticks(axis: Any) -> None:
    """Ticks of a logarithmic axis at 1, 2, 5, 10 ..., written out."""
    from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter

    axis.set_major_locator(LogLocator(base=10, subs=(1, 2, 5)))
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


@contextmanager
def drawn(width: float, height: float, *, panels: int = 1) -> Iterator[tuple[Any, Sequence[Any]]]:
    """A figure and its axes.

    Args:
        width: of a row of panels, in inches.
        height: of a panel.
        panels: how many; they share their scales and stand in rows of three.
    """
    library = matplotlib()
    from matplotlib.figure import Figure as Drawing

    settings = {"svg.fonttype": "none", "font.size": 9.5}
    with library.rc_context(settings):
        rows = -(-panels // IN_A_ROW)
        figure = Drawing(figsize=(width, rows * height), layout="constrained")
        grid = figure.subplots(rows, min(panels, IN_A_ROW), sharex=True, sharey=True, squeeze=False)
        for axes in grid.flat[panels:]:
            axes.set_visible(False)
        every = list(grid.flat[:panels])
        for axes in every:
            axes.set_facecolor("none")
            axes.tick_params(colors=INK, which="both", labelbottom=True)
            for text in (axes.xaxis.label, axes.yaxis.label, axes.title):
                text.set_color(INK)
            for side, spine in axes.spines.items():
                spine.set_color(INK)
                spine.set_visible(side in ("left", "bottom"))
            axes.grid(color=INK, alpha=0.15, linewidth=0.7)
        yield figure, every


def finished(figure: Any, name: str, title: str, note: str) -> Figure:
    """The figure in both formats; ``name`` differs between the figures of a page."""
    matplotlib().rcParams["svg.hashsalt"] = name  # and so do ids
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
