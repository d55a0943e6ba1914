"""From samples to what is said about them, with samples made by hand."""

import json
from types import SimpleNamespace

import pytest

pytest.importorskip("matplotlib")
pytest.importorskip("psutil")

from lab.compare import outside
from lab.compare.report import build
from lab.compare.store import FORMAT
from lab.compare.summary import disturbance, gemm_rates, latencies, percentile, starts, timed

CONTENDERS = {
    "ours": {"kind": "ours", "precision": "int8", "detail": "packed"},
    "padded": {"kind": "padded", "precision": "bfloat16", "detail": "padded"},
    "plain": {"kind": "plain", "precision": "bfloat16", "detail": "padded"},
    "peer": {"kind": "peer", "precision": "float32", "detail": "padded"},
}
RATES = {"int8": 4e12, "bfloat16": 1e12, "float32": None}


def cell(contender, ratio, flops=1e12, **more):
    return {
        "contender": contender,
        "ratio": ratio,
        "tokens": 1000,
        "computed": 500,
        "flops": flops,
        **more,
    }


def unit(protocol, cells, rounds, texts=10):
    return {
        "protocol": protocol,
        "texts": texts,
        "median tokens": 100,
        "cells": cells,
        "rounds": [{"cells": times, "gemm": RATES, "outside": 0.02} for times in rounds],
    }


@pytest.fixture
def mix():
    cells = {
        "ours @ 0.5": cell("ours", 0.5, cosine=0.99),
        "padded @ 0.5": cell("padded", 0.5),
        "padded @ 1": cell("padded", 1.0),
        "plain": cell("plain", None),
        "peer": cell("peer", None, flops=None),
    }
    rounds = [
        {"ours @ 0.5": ours, "padded @ 0.5": padded, "padded @ 1": 5.0, "plain": 6.0, "peer": 8.0}
        for ours, padded in ((1.0, 2.0), (2.0, 6.0), (1.5, 3.0))
    ]
    return unit("mix", cells, rounds)


def test_throughput(mix):
    ours, padded, _, plain, peer = timed(mix, CONTENDERS)
    assert (ours.ms.median, ours.ms.low, ours.ms.high) == (150, 100, 200)
    assert (ours.texts_per_second, ours.tokens_per_second) == (10 / 1.5, 1000 / 1.5)
    assert (ours.tokens, ours.computed, ours.cosine) == (100, 50, 0.99)
    # Ratios are of rounds, not of medians, and of the same compression ratio.
    assert (ours.padded.median, ours.padded.low, ours.padded.high) == (2, 2, 3)
    assert (ours.plain.median, ours.plain.low, ours.plain.high) == (4, 3, 6)
    # 1e12 FLOPs at 4e12 a second would take 0.25 s; 1.5 s were taken.
    assert ours.floor.median == 6
    assert ours.gemm_share == pytest.approx(1 / 6)
    assert padded.floor.median == 3
    assert padded.padded is None
    assert plain.plain is None
    assert plain.padded is None  # there is none without a ratio
    assert peer.floor is None
    assert peer.plain.median == 0.75


def test_queries():
    fast, slow = [0.001] * 23 + [0.009, 0.5], [0.002] * 24 + [0.004]
    cells = {"ours": cell("ours", None, flops=25e8), "padded": cell("padded", None, flops=None)}
    ours, padded = latencies(unit("query", cells, [{"ours": fast, "padded": slow}], texts=25), CONTENDERS)
    assert (ours.p50, ours.p95, padded.p50, padded.p95) == (1, 9, 2, 2)
    assert ours.padded.median == 2  # one stray query does not count
    assert ours.floor == pytest.approx(0.001 / (1e8 / 4e12))
    assert padded.floor is None
    assert percentile([5.0], 0.95) == 5


def test_starts():
    rounds = [
        {"ours": {"load": load, "first": 0.5, "resident_mb": 100, "peak_mb": None}} for load in (1, 3, 2)
    ]
    (ours,) = starts(unit("start", {"ours": {"contender": "ours"}}, rounds))
    assert (ours.load.median, ours.total.median, ours.total.high) == (2, 2.5, 3.5)
    assert ours.peak is None


def test_the_report_of_a_run_that_has_just_begun(mix):
    empty = {**mix, "rounds": []}
    content = {
        "format": FORMAT,
        "command": "python -m lab.compare",
        "date": "2026-01-01",
        "settings": {"model": "mini", "shape": "", "layers": 0, "texts": 10, "batch": 32},
        "machine": {"name": "a machine", "cores": 2, "memory_gib": 1.0},
        "versions": {"python": "3"},
        "inputs": "texts",
        "contenders": CONTENDERS,
        "skipped": {"st-onnx": "no optimum"},
        "units": {"mix": empty},
    }
    assert [section.title for section in build(content).sections] == ["Contenders", "How to reproduce"]
    content["units"]["mix"] = mix
    report = build(content)
    assert [section.title for section in report.sections][:1] == ["Mixed lengths"]
    assert report.sections[0].tables[0].rows[0][:3] == ["ours @ 0.5", "int8", "150 (100–200)"]
    assert report.sections[0].tables[0].rows[0][-2:] == ["6.00 (17%)", "0.9900"]
    assert ["st-onnx", "–", "left out: no optimum"] in report.sections[1].tables[0].rows
    assert json.dumps(report.sections[2].tables[0].rows).count("2% of the cores (2%") == 1
    assert disturbance(content).median == 0.02
    assert {name: rate.median for name, rate in gemm_rates(content).items()} == {
        "int8": 4e12,
        "bfloat16": 1e12,
    }


def test_the_share_of_other_processes(monkeypatch):
    clock, busy, own = iter((0.0, 10.0)), iter((100.0, 115.0)), iter((3.0, 9.0))
    monkeypatch.setattr(outside, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    monkeypatch.setattr(outside, "_busy", lambda: next(busy))
    monkeypatch.setattr(outside.Outside, "_mine", lambda self: next(own))
    monkeypatch.setattr(outside.os, "cpu_count", lambda: 2)
    assert outside.Outside().share() == (15 - 6) / 20
