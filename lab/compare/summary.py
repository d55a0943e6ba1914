"""From rounds to medians with their lowest and highest, and what they are compared with."""

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jaspertc.reports.numbers import Spread, percentile


@dataclass(frozen=True, kw_only=True)
class Timed:
    """One cell of a throughput protocol.

    Attributes:
        ms: per text.
        computed: tokens that the layers see, per text.
        padded: how many times as fast as the padded contender at the same ratio, round by round.
        plain: likewise as the contender without compression.
        floor: measured time over that of its FLOPs at the speed of matrix products, round by round.
        cosine: lowest to the padded contender's vectors.
    """

    label: str
    contender: str
    ratio: float | None
    precision: str
    ms: Spread
    texts_per_second: float
    tokens_per_second: float
    tokens: float
    computed: float
    padded: Spread | None
    plain: Spread | None
    floor: Spread | None
    cosine: float | None

    @property
    def gemm_share(self) -> float | None:
        """Share of the speed of matrix products that was reached, in (0, 1] but for noise."""
        return None if self.floor is None else 1 / self.floor.median


@dataclass(frozen=True, kw_only=True)
class Latency:
    """One contender's single queries, in milliseconds."""

    label: str
    precision: str
    p50: float
    p95: float
    padded: Spread | None
    floor: float | None


@dataclass(frozen=True, kw_only=True)
class Start:
    """One contender's fresh processes: seconds, and megabytes after the first vector."""

    label: str
    load: Spread
    first: Spread
    total: Spread
    resident: Spread
    peak: Spread | None


def timed(unit: Mapping[str, Any], contenders: Mapping[str, Any]) -> list[Timed]:
    """The cells of a unit of ``table4`` or ``mix``; empty before a round is done."""
    cells, rounds, texts = unit["cells"], unit["rounds"], unit["texts"]
    found = []
    for label, cell in cells.items() if rounds else ():
        seconds = [round_["cells"][label] for round_ in rounds]
        middle = statistics.median(seconds)
        precision = contenders[cell["contender"]]["precision"]
        found.append(
            Timed(
                label=label,
                contender=cell["contender"],
                ratio=cell["ratio"],
                precision=precision,
                ms=Spread.of([1000 * value / texts for value in seconds]),
                texts_per_second=texts / middle,
                tokens_per_second=cell["tokens"] / middle,
                tokens=cell["tokens"] / texts,
                computed=cell["computed"] / texts,
                padded=_faster(unit, label, _other(unit, contenders, "padded", cell["ratio"]), contenders),
                plain=_faster(unit, label, _other(unit, contenders, "plain", None), contenders),
                floor=_floor(unit, label, precision),
                cosine=cell.get("cosine"),
            )
        )
    return found


def latencies(unit: Mapping[str, Any], contenders: Mapping[str, Any]) -> list[Latency]:
    """The contenders of the unit ``query``; empty before a round is done."""
    found = []
    for label, cell in unit["cells"].items() if unit["rounds"] else ():
        every = sorted(1000 * value for round_ in unit["rounds"] for value in round_["cells"][label])
        precision = contenders[cell["contender"]]["precision"]
        floor = _floor(unit, label, precision)
        found.append(
            Latency(
                label=label,
                precision=precision,
                p50=statistics.median(every),
                p95=percentile(every, 0.95),
                padded=_faster(unit, label, _other(unit, contenders, "padded", None), contenders),
                floor=None if floor is None else floor.median,
            )
        )
    return found


def starts(unit: Mapping[str, Any]) -> list[Start]:
    """The contenders of the unit ``start``; empty before a round is done."""
    found = []
    for label in unit["cells"] if unit["rounds"] else ():
        rows = [round_["cells"][label] for round_ in unit["rounds"]]
        peaks = [row["peak_mb"] for row in rows if row["peak_mb"] is not None]
        found.append(
            Start(
                label=label,
                load=Spread.of([row["load"] for row in rows]),
                first=Spread.of([row["first"] for row in rows]),
                total=Spread.of([row["load"] + row["first"] for row in rows]),
                resident=Spread.of([row["resident_mb"] for row in rows]),
                peak=Spread.of(peaks) if peaks else None,
            )
        )
    return found


def gemm_rates(content: Mapping[str, Any]) -> dict[str, Spread]:
    """Precision -> FLOP/s of matrix products over all rounds of the run."""
    found: dict[str, list[float]] = {}
    for unit in content["units"].values():
        for round_ in unit["rounds"]:
            for precision, rate in round_["gemm"].items():
                if rate is not None:
                    found.setdefault(precision, []).append(rate)
    return {precision: Spread.of(rates) for precision, rates in found.items()}


def disturbance(content: Mapping[str, Any]) -> Spread | None:
    """The share of the machine that other processes used, over all rounds."""
    shares = [round_["outside"] for unit in content["units"].values() for round_ in unit["rounds"]]
    return Spread.of(shares) if shares else None


def _other(
    unit: Mapping[str, Any], contenders: Mapping[str, Any], kind: str, ratio: float | None
) -> str | None:
    """The first contender of a kind at a ratio."""
    for label, cell in unit["cells"].items():
        if contenders[cell["contender"]]["kind"] == kind and cell["ratio"] == ratio:
            return str(label)
    return None


def _faster(
    unit: Mapping[str, Any], label: str, other: str | None, contenders: Mapping[str, Any]
) -> Spread | None:
    if other is None or other == label:
        return None
    return Spread.of(
        [_seconds(round_["cells"][other]) / _seconds(round_["cells"][label]) for round_ in unit["rounds"]]
    )


def _floor(unit: Mapping[str, Any], label: str, precision: str) -> Spread | None:
    flops = unit["cells"][label]["flops"]
    rates = [round_["gemm"].get(precision) for round_ in unit["rounds"]]
    if flops is None or not all(rates):
        return None
    seconds = [_total(round_["cells"][label]) for round_ in unit["rounds"]]
    return Spread.of([value * rate / flops for value, rate in zip(seconds, rates)])


def _seconds(value: Any) -> float:
    """Seconds of a round: their sum, or the median of its calls."""
    return statistics.median(value) if isinstance(value, list) else float(value)


def _total(value: Any) -> float:
    """Seconds of a round; of single calls, the median for each, so that one stray call does not count."""
    return statistics.median(value) * len(value) if isinstance(value, list) else float(value)
