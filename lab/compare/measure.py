"""Interleaved rounds: A, B, C, A, B, C ...; the first one of a unit warms up."""

import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch

from jaspertc.config import BackboneConfig
from jaspertc.types import FloatArray
from lab.compare.contenders import Contender, lowest_cosine
from lab.compare.gemm import gemm_rate
from lab.compare.inputs import Inputs
from lab.compare.outside import Outside
from lab.compare.protocols import Cell, Source, Unit
from lab.compare.settings import Settings
from lab.compare.starting import start_fresh
from lab.compare.store import Results

Tell = Callable[[str], None]


def measure_unit(
    unit: Unit,
    contenders: Mapping[str, Contender],
    source: Source,
    results: Results,
    *,
    rounds: int,
    shape: BackboneConfig,
    device: torch.device,
    tell: Tell = lambda label: None,
) -> None:
    """Time a unit's missing rounds; each is written when it is whole.

    Args:
        source: makes the texts.
        shape: of the backbone whose products are timed beside.
        tell: called with the name of each cell when it is done.
    """
    done = results.begin(unit)
    if done >= rounds:
        return
    inputs = source(unit.lengths)
    calls = [inputs[at : at + unit.call] for at in range(0, len(inputs), unit.call)]
    precisions = sorted({contenders[cell.contender].precision for cell in unit.cells})
    results.describe(unit, _describe(unit, contenders, inputs, calls, tell))
    for _ in range(done, rounds):
        outside = Outside()
        times: dict[str, Any] = {}
        for cell in unit.cells:
            seconds = _time(contenders[cell.contender], calls, cell.ratio)
            times[cell.label] = seconds if unit.each else sum(seconds)
            tell(cell.label)
        rates = {precision: gemm_rate(precision, shape, device) for precision in precisions}
        results.add_round(unit, times, rates, outside.share())


def measure_start(
    unit: Unit,
    settings: Settings,
    model: Path,
    inputs: Inputs,
    results: Results,
    *,
    tell: Tell = lambda label: None,
) -> None:
    """Start each contender in a process of its own, round by round; the first one warms the file cache."""
    done = results.begin(unit)
    if done >= settings.rounds:
        return
    specs = {spec.name: spec for spec in settings.contenders}
    for round_ in range(done - 1, settings.rounds):
        found, outside = {}, Outside()
        for cell in unit.cells:
            found[cell.label] = start_fresh(specs[cell.contender], settings, model, inputs[0])
            tell(cell.label)
        if round_ >= done:
            results.add_round(unit, found, {}, outside.share())


def _time(contender: Contender, calls: Sequence[Inputs], ratio: float | None) -> list[float]:
    """Seconds of each call."""
    found = []
    for call in calls:
        started = time.perf_counter()
        contender.vectors(call, ratio)  # the vectors are on the host when it returns
        found.append(time.perf_counter() - started)
    return found


def _describe(
    unit: Unit, contenders: Mapping[str, Contender], inputs: Inputs, calls: Sequence[Inputs], tell: Tell
) -> dict[str, dict[str, Any]]:
    """The warm-up round: what each cell computes, and how far it agrees with the padded way."""
    facts: dict[str, dict[str, Any]] = {}
    vectors: dict[str, FloatArray] = {}
    for cell in unit.cells:
        contender = contenders[cell.contender]
        tokens, seen, flops = contender.work(inputs, cell.ratio)
        facts[cell.label] = {
            "contender": cell.contender,
            "ratio": cell.ratio,
            "tokens": tokens,
            "computed": seen,
            "flops": flops,
        }
        vectors[cell.label] = np.concatenate([contender.vectors(call, cell.ratio) for call in calls])
        tell(cell.label)
    for cell in unit.cells:
        contender = contenders[cell.contender]
        reference = next((other for other in unit.cells if _exact_for(cell, other, contenders)), None)
        if reference is None or reference == cell:
            continue
        exact = contenders[reference.contender]
        lengths, most = contender.lengths(inputs), exact.shape.max_positions if exact.shape else 0
        # Longer texts are cut, squeezed or in pieces.
        whole = np.maximum(lengths, exact.lengths(inputs)) <= most
        mine, theirs = (vectors[label][whole] for label in (cell.label, reference.label))
        if len(mine) and mine.shape == theirs.shape:
            facts[cell.label]["cosine"] = round(lowest_cosine(mine, theirs), 6)
    return facts


def _exact_for(cell: Cell, other: Cell, contenders: Mapping[str, Contender]) -> bool:
    """Whether ``other`` computes what ``cell`` means to compute: the same model with Transformers."""
    mine, theirs = (contenders[item.contender].spec for item in (cell, other))
    if mine.compresses:
        return theirs.kind == "padded" and other.ratio == cell.ratio
    return theirs.kind == "plain" and mine.kind != "peer"
