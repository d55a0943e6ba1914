"""A stage in pictures: its losses, learning rate, ratios and validation."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jaspertc.errors import MissingExtraError


def draw_stage(
    path: Path, title: str, steps: Sequence[Mapping[str, Any]], validations: Sequence[Mapping[str, Any]]
) -> None:
    """Write the curves of a stage as a picture.

    Args:
        path: ends in .png or .svg.
        steps: rows of ``metrics.jsonl``.
        validations: rows of ``validation.jsonl``: ``step`` and ``scores`` by ratio and name.

    Raises:
        MissingExtraError: matplotlib is not installed.
    """
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("matplotlib", "train", "drawing curves") from error
    figure = Figure(figsize=(11, 6.5), layout="constrained")
    losses, ratios, scores, near = figure.subplots(2, 2).flat
    at = np.array([row["step"] for row in steps])
    for name in steps[0]["losses"] if steps else ():
        values = np.array([row["losses"][name] for row in steps])
        line = losses.plot(at, values, alpha=0.25, linewidth=0.8)[0]
        losses.plot(at, _smooth(values), color=line.get_color(), label=name)
    losses.set(title="loss (weighted; bold: running mean)", xlabel="step", yscale="log")
    losses.legend()
    ratios.plot(at, [row["ratio"] for row in steps], ".", markersize=3, label="compression ratio")
    top = max((row["learning_rate"] for row in steps), default=1.0)
    ratios.plot(at, [row["learning_rate"] / top for row in steps], label=f"learning rate / {top:.2g}")
    ratios.set(title="schedules", xlabel="step", ylim=(0, 1.05))
    ratios.legend()
    _draw_scores(scores, validations, ("Spearman", "nDCG", "found"), "validation (x 100)")
    _draw_scores(near, validations, ("cosine to target", "neighbours kept"), "held-out texts (x 100)")
    figure.suptitle(title)
    figure.savefig(path, dpi=110)


def _draw_scores(axes: Any, rows: Sequence[Mapping[str, Any]], wanted: Sequence[str], title: str) -> None:
    styles = ("-", "--", "-.", ":", (0, (1, 3)), (0, (5, 5)))
    names = [name for name in _names(rows) if any(word in name for word in wanted)]
    for color, name in enumerate(names):
        ratios = list(rows[-1]["scores"])
        for style, ratio in enumerate(ratios):
            points = [
                (row["step"], 100 * row["scores"][ratio][name])
                for row in rows
                if name in row["scores"].get(ratio, {})
            ]
            axes.plot(
                *zip(*points),
                color=f"C{color % 10}",
                linestyle=styles[style % len(styles)],
                marker=".",
                label=f"{name}, {ratio if 'tokens' in ratio else f'ratio {ratio}'}",
            )
    axes.set(title=title, xlabel="step")
    if names:
        axes.legend(fontsize=6)


def _names(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    return list(dict.fromkeys(name for row in rows for scores in row["scores"].values() for name in scores))


def _smooth(values: Any, half_life: float = 20.0) -> Any:
    """Exponential running mean."""
    keep = 0.5 ** (1 / half_life)
    smoothed, total, weight = [], 0.0, 0.0
    for value in values:
        total, weight = keep * total + value, keep * weight + 1
        smoothed.append(total / weight)
    return np.array(smoothed)
