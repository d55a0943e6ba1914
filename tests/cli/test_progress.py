"""The bars of the commands, as a terminal shows them."""

import re
from pathlib import Path
from types import SimpleNamespace

import pytest
from rich.control import strip_control_codes

from jaspertc.cli import distil, evaluate, progress, scale
from jaspertc.cluster.meter import Meter


@pytest.fixture
def terminal(monkeypatch):
    """Standard error is taken for one."""
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_UPDATES", 0)


def shown(capsys):
    """What is on standard error in the end, without colours; nothing may be on standard output."""
    captured = capsys.readouterr()
    assert captured.out == ""
    return strip_control_codes(re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", captured.err))


def test_nothing_where_there_is_no_terminal(capsys, monkeypatch):
    monkeypatch.delenv("FORCE_COLOR", raising=False)
    with progress.progress("work", 10, unit="texts") as advance:
        advance(10)
    assert shown(capsys) == ""


def test_numbers_and_the_time_left(terminal, capsys):
    with progress.progress("work [1]", 10, done=2) as advance:
        advance(3)
        advance(4)
    last = shown(capsys).strip().splitlines()[-1]
    assert re.search(r"^work \[1\] .* 9/10 +(\d:\d\d:\d\d|-:--:--)", last)
    assert "/s" not in last


def test_a_unit_shows_the_speed_of_this_run(terminal, capsys, monkeypatch):
    clock = iter([100.0] + [102.0] * 9)
    monkeypatch.setattr(progress.time, "monotonic", lambda: next(clock))
    with progress.progress("work", 10, done=2, unit="texts") as advance:
        advance(8)
    assert "10/10 4 texts/s" in shown(capsys)


def test_what_is_told_between_two_updates_counts_in_the_end(terminal, capsys, monkeypatch):
    monkeypatch.setattr(progress, "SECONDS_BETWEEN_UPDATES", 1000)
    with progress.progress("work", 10) as advance:
        for _ in range(7):
            advance(1)
    assert " 7/10 " in shown(capsys)


@pytest.mark.parametrize(("total", "text"), [(None, " 3/?"), (6, " 3/6")])
def test_a_total_that_is_not_known(terminal, capsys, total, text):
    with progress.progress("work", total) as advance:
        advance(3)
    assert text in shown(capsys)


def test_percent(terminal, capsys):
    with progress.progress("work", 8, percent=True) as advance:
        advance(6)
    assert " 75%" in shown(capsys)


def test_scale_shows_its_meter(terminal, capsys):
    meter = Meter(4)
    with scale._shown("embedding") as show:
        meter.add(50)
        show(meter)
    assert re.search(r"embedding .* 1/4 \S+ texts/s, .* left", shown(capsys))


def test_evaluate_shows_the_texts_of_the_task_and_each_score(terminal, capsys):
    class Evaluation:
        def run(self, *, started, advance, finished):
            started(SimpleNamespace(name="mini@0.5 [sts]"))
            advance(1200)
            finished(SimpleNamespace(name="mini@0.5 [sts]"), 0.5)

    evaluate._run(Evaluation(), 2)
    found = shown(capsys)
    assert "mini@0.5 [sts]: 50.00" in found
    assert re.search(r"mini@0.5 \[sts\] .* 1/2 1,200 texts 0:00:00", found)


def test_distil_shows_a_bar_while_tokens_are_prepared_and_one_a_stage(terminal, capsys, monkeypatch):
    from jaspertc.train import boards
    from jaspertc.train import distil as training

    class Run:
        recipe = SimpleNamespace(
            stages=[SimpleNamespace(name="compress", steps=2)],
            text_stages=[SimpleNamespace(name="compress", steps=2)],
            vision_stages=[],
            training=SimpleNamespace(folder=None, device="cpu"),
            is_pictures=False,
        )
        training = SimpleNamespace(folder=None, device="cpu")

        def __init__(self, recipe, *, processes, device, say, progress):
            say("preparing")
            with progress("tokens", 30) as advance:
                advance(30)

        def run(self, only, *, on_step):
            for step in range(2):
                on_step(
                    self.recipe.stages[0],
                    SimpleNamespace(step=step, tokens=50, seconds=0.5, losses={"total": 2.5}),
                )

        def table(self):
            return {}

    monkeypatch.setattr(training, "Distillation", Run)
    monkeypatch.setattr(training, "training_sections", lambda recipe: (None, Run.training))
    monkeypatch.setattr(training, "start_processes", lambda device: (SimpleNamespace(rank=0), "cpu"))
    monkeypatch.setattr("jaspertc.recipe.recipe.read_recipe", lambda path: Run.recipe)
    monkeypatch.setattr(boards, "Boards", lambda *_: SimpleNamespace(add=lambda *_: None, close=lambda: None))
    distil.distil(Path("recipe.toml"))
    found = shown(capsys)
    assert re.search(r"tokens .* 30/30 \S+ texts/s", found)
    assert re.search(r"compress .* 2/2 loss 2.5, 100 tokens/s", found)
