"""Tables of commands: no figure is cut at any width, whatever the table."""

import contextlib
import io

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.cells import cell_len

from jaspertc.cli.tables import show
from jaspertc.reports.content import Table

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
        lines = captured(table, width, patch)
    if width is not None:
        assert max(map(cell_len, lines)) <= width
    text = "\n".join(lines)
    assert "…" not in text
    for place in range(columns):
        if table.is_figures(place):
            for row in rows:
                assert row[place] in text
    if width is None:  # a row is a line
        for row in rows:
            assert any(all(cell in line for cell in row) for line in lines)
