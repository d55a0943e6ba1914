"""Tables of commands: no figure is cut at any width, whatever the table."""

import contextlib
import io
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len
from typer.testing import CliRunner

from jaspertc.cli import app, distil, optimize, teach
from jaspertc.cli import search as cli_search
from jaspertc.cli.tables import WHOLE, show
from jaspertc.evaluation.store import Score
from jaspertc.evaluation.summary import GROUPS, Summary
from jaspertc.evaluation.tables import overview
from jaspertc.reports.content import Table
from jaspertc.samples import load_samples
from jaspertc.search.index import Hit
from jaspertc.search.passages import Passage
from jaspertc.teaching.scoring import ScoreRow

RECIPES = Path(__file__).parents[2] / "recipes"

FIGURES = ["1", "2.84e+04", "1,234,567", "50.6 (43.9–57.2)", "0.9866", "12.5 %", "1.19×", "63.4k", ""]
WORDS = [
    "",
    "contrastive",
    "a long name of a stage",
    "what remains of the texts",
    "为什么面包会发起来",
    "x" * 40,
]


def captured(table, width, patch):
    """The lines printed at a width, or without a terminal."""
    if width is None:
        patch.delenv("COLUMNS", raising=False)
    else:
        patch.setenv("COLUMNS", str(width))
    with contextlib.redirect_stdout(io.StringIO()) as out:
        show(table)
    return out.getvalue().splitlines()


@pytest.mark.parametrize("width", [60, 80, 200, None])
@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_all_figures_are_whole_and_no_line_is_too_long(width, data):
    columns = data.draw(st.integers(1, 12))
    kinds = [st.sampled_from(data.draw(st.sampled_from((FIGURES, WORDS)))) for _ in range(columns)]
    rows = data.draw(st.lists(st.tuples(*kinds).map(list), min_size=1, max_size=5))
    headings = [data.draw(st.sampled_from(("ratio", "tokens computed", "GiB a GPU", ""))) for _ in kinds]
    table = Table(title="a title", columns=headings, rows=rows, note="a note")
    with pytest.MonkeyPatch.context() as patch:
        check(table, width, patch)


def check(table, width, patch):
    """Print a table and demand that figures and short words are whole, and lines not too long."""
    lines = captured(table, width, patch)
    text = "\n".join(lines)
    if width is not None:
        assert max(map(cell_len, lines)) <= width, text
    assert text.count("…") == sum(cell.count("…") for row in table.rows for cell in row)
    for place, heading in enumerate(table.columns):
        cells = [row[place] for row in table.rows]
        whole = cells if table.is_figures(place) else [word for cell in cells for word in cell.split()]
        for item in [*whole, *heading.split()]:
            assert item in text or (cell_len(item) > WHOLE and not table.is_figures(place)), (item, text)
    if width is None:  # a row is a line
        for row in table.rows:
            assert any(all(cell in line for cell in row) for line in lines)


@pytest.fixture(scope="module")
def tables(tmp_path_factory):
    """A table of each command."""
    found = {}
    with pytest.MonkeyPatch.context() as patch:

        def collect(table, console=None):
            found[f"{name} {len(found)}"] = table

        patch.setattr("jaspertc.cli.tables.show", collect)
        patch.setattr("jaspertc.recipe.plan.measured_speed", lambda: 5e11)
        patch.setattr("jaspertc.cli.demo.ROUNDS", 1)
        passages = [row for row in load_samples("passages") if 300 < len(row["text"]) < 900][:6]
        ids = {row["id"] for row in passages}
        questions = [row for row in load_samples("questions") if row["passage"] in ids]
        patch.setattr(
            "jaspertc.samples.load_samples", {"passages": passages, "questions": questions}.__getitem__
        )
        texts = tmp_path_factory.mktemp("texts") / "a rather long name of a file of texts.txt"
        texts.write_text("\n".join(row["text"].replace("\n", " ") for row in passages))
        for name, *arguments in (
            ("plan", RECIPES / "paper-600m.toml", "--gpus", 4, "--kind", "a100", "--hourly-cost", 8),
            ("distil", "--dry-run", RECIPES / "paper-600m.toml"),
            ("lengths", texts, texts, texts),
            ("clean", texts, "--output", texts.with_name("clean.jsonl")),
            ("inspect", passages[0]["text"]),
            ("bench", "--count", 2, "--rounds", 1),
            ("demo",),
        ):
            CliRunner().invoke(app, [name, *map(str, arguments)])
        name = "search"
        hits = [
            Hit(id="notes.txt:1234", text="a text " * 40, score=0.98765, metadata={}, passage=Passage(0, 280))
        ]
        cli_search._print_table(hits)
        name = "teach --score"
        scores = dict.fromkeys([f"task {place} nDCG@10" for place in range(8)], 0.9876)
        teach._print_scores([ScoreRow(name="qwen3-embedding-8b", dims=4096, scores=scores)])
        name = "distil"
        stages = {"contrastive": {"0.33": scores, "1": scores}}
        distil._print_table(SimpleNamespace(table=lambda: stages))
        name = "evaluate"
        label = "a long name of a model @ 0.33"
        facts = {"ratio": 0.33, "limit": None, "megabytes": 37.61, "dims": 384, "share_kept": 0.4567}
        facts |= {"label": label}
        every = [Score(label=label, task=kind, group=kind, score=0.98765, facts=facts) for kind in GROUPS]
        summary = Summary([replace(score, facts={**facts, "tokens": 10, "name": "m"}) for score in every])
        collect(overview(summary, {"contenders": {every[0].label: {"texts_per_second": 12345.6}}}))
        name = "optimize"
        accuracy = SimpleNamespace(worst=0.99876, mean=0.99987)
        small = SimpleNamespace(
            folder=Path("a") / "folder", before=123456789, after=12345678, accuracy=accuracy, exact=[]
        )
        optimize._print(small)
    return found


def test_every_command_has_its_tables(tables):
    commands = {name.rpartition(" ")[0] for name in tables}
    assert commands == {
        "plan",
        "distil",
        "lengths",
        "clean",
        "inspect",
        "bench",
        "demo",
        "search",
        "teach --score",
        "evaluate",
        "optimize",
    }
    assert len(tables) == 13


@pytest.mark.parametrize("width", [60, 80, 200, None])
def test_no_command_cuts_a_figure(tables, width, monkeypatch):
    for table in tables.values():
        check(table, width, monkeypatch)
