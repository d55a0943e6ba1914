"""What each compression ratio costs and keeps: time, and agreement with ratio 1, in interleaved rounds.

Shape legend: N texts, E embedding width.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from jaspertc.reports.content import Figure
from jaspertc.reports.drawing import COLOURS, drawn, finished
from jaspertc.reports.numbers import Spread, percentile

Encode = Callable[[Sequence[str], float], npt.NDArray[Any]]


@dataclass(kw_only=True)
class Setting:
    """A ratio and what was measured at it.

    Attributes:
        seconds: of all texts in one call, a value a round.
        singles: of one text in a call, a value a call.
        vectors: of all texts, shape (N, E).
    """

    ratio: float
    seconds: list[float] = field(default_factory=list)
    singles: list[float] = field(default_factory=list)
    vectors: npt.NDArray[Any]

    @property
    def ms(self) -> Spread:
        """Milliseconds per text, of all in one call."""
        return Spread.of(self.seconds) * (1000 / len(self.vectors))

    def percentile(self, share: float) -> float:
        """Milliseconds that this share of the single texts took at most."""
        return 1000 * percentile(self.singles, share)

    def cosines(self, other: "Setting") -> npt.NDArray[Any]:
        """Of each text's vectors at both ratios, shape (N,)."""
        norms = np.linalg.norm(self.vectors, axis=1) * np.linalg.norm(other.vectors, axis=1)
        cosines: npt.NDArray[Any] = (self.vectors * other.vectors).sum(1) / np.maximum(norms, 1e-30)
        return cosines


def turn_dial(
    encode: Encode,
    texts: Sequence[str],
    ratios: Sequence[float],
    *,
    rounds: int,
    singles: Sequence[str] = (),
    advance: Callable[[int], None] = lambda count: None,
) -> list[Setting]:
    """Embed the texts at each ratio in turn, round by round, after a round that warms up.

    Args:
        encode: vectors of N texts at a ratio, shape (N, E).
        ratios: in (0, 1].
        singles: texts that are embedded one a call as well.
        advance: told of each ratio that is done.
    """
    settings = [Setting(ratio=ratio, vectors=encode(texts, ratio)) for ratio in ratios]
    for _ in range(rounds):
        for setting in settings:
            setting.seconds.append(_time(encode, texts, setting.ratio))
            setting.singles += [_time(encode, [text], setting.ratio) for text in singles]
            advance(1)
    return settings


def _time(encode: Encode, texts: Sequence[str], ratio: float) -> float:
    started = time.perf_counter()
    encode(texts, ratio)  # the vectors are on the host when it returns
    return time.perf_counter() - started


def picture(settings: Sequence[Setting], reference: Setting) -> Figure:
    """Agreement with the reference over the time of a text, a point a ratio."""
    with drawn(5.4, 3.6) as (figure, (axes,)):
        times = [setting.ms for setting in settings]
        around = [[ms.median - ms.low for ms in times], [ms.high - ms.median for ms in times]]
        agreement = [float(setting.cosines(reference).mean()) for setting in settings]
        middle = [ms.median for ms in times]
        axes.errorbar(middle, agreement, xerr=around, fmt="o-", color=COLOURS[0], elinewidth=1)
        for setting, x, y in zip(settings, middle, agreement):
            axes.annotate(f"{setting.ratio:g}", (x, y), textcoords="offset points", xytext=(5, -12))
        axes.set_xlim(left=0)
        axes.set_xlabel("ms per text")
        axes.set_ylabel("mean cosine to ratio 1")
        note = "A point a ratio: median, lowest and highest round."
        return finished(figure, "dial", "Time and agreement at each ratio", note)
