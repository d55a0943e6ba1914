"""The one way commands print a table: as wide as the terminal, and no figure is ever cut.

Columns of figures keep their width, long texts are folded at words, headings wrap. What still does not fit is
printed as several tables below each other, each with the first column. Where there is no terminal, lines are
as long as the table needs, unless ``COLUMNS`` says otherwise.
"""

import os
from dataclasses import replace

from rich.box import SIMPLE_HEAD
from rich.cells import cell_len
from rich.console import Console
from rich.table import Table as Drawn
from rich.text import Text

from jaspertc.cli.terminal import visible
from jaspertc.reports.content import Table

WHOLE = 16  # cells up to this many characters are never folded
GAP = 2  # between columns


def show(table: Table, console: Console | None = None) -> None:
    """Print a table, on standard output if no other console is given."""
    table = _visible(table)
    given, console = console, console or Console(highlight=False)
    if given is None and not console.is_terminal and "COLUMNS" not in os.environ:
        natural = sum(_natural(table, column) + GAP for column in range(len(table.columns)))
        console = Console(highlight=False, width=max(console.width, natural))
    width = console.width
    for begin, columns in enumerate(blocks(table, width)):
        title = Text(table.title) if table.title and not begin else None
        drawn = Drawn(
            title=title, title_justify="left", box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0)
        )
        drawn.pad_edge = False
        for column, wide in zip(columns, _widths(table, columns, width)):
            figures = column > 0 and table.is_figures(column)
            heading = Text(table.columns[column])
            drawn.add_column(heading, justify="right" if figures else "left", overflow="fold", width=wide)
        for row in table.rows:
            drawn.add_row(*(Text(row[column]) for column in columns))
        console.print(drawn)
        console.print()
    if table.note:
        console.print(Text(table.note), width=min(width, 100))


def _visible(table: Table) -> Table:
    """With symbols for the control characters that texts and names may hold."""
    return replace(
        table,
        title=visible(table.title),
        columns=[visible(column) for column in table.columns],
        rows=[[visible(cell) for cell in row] for row in table.rows],
        note=visible(table.note, keep="\n"),
    )


def blocks(table: Table, width: int) -> list[list[int]]:
    """The columns of each of the tables below each other that a width takes; all have the first column."""
    first = _least(table, 0) + 1  # rich pads the last column too
    groups, room = [[0]], width - first
    for column in range(1, len(table.columns)):
        needed = GAP + _least(table, column)
        if needed > room and len(groups[-1]) > 1:
            groups.append([0])
            room = width - first
        groups[-1].append(column)
        room -= needed
    return groups


def _widths(table: Table, columns: list[int], width: int) -> list[int]:
    """What each needs, and of the rest what it could use, in equal shares."""
    widths = [_least(table, column) for column in columns]
    spare = width - sum(widths) - GAP * len(columns) + 1
    wishes = [_natural(table, column) - least for column, least in zip(columns, widths)]
    order = sorted(range(len(columns)), key=lambda item: wishes[item])
    for left, item in zip(range(len(columns), 0, -1), order):
        more = max(0, min(wishes[item], spare // left))
        widths[item] += more
        spare -= more
    return widths


def _least(table: Table, column: int) -> int:
    """Characters that a column must have."""
    most = None if table.is_figures(column) else WHOLE
    cells = [min(cell_len(row[column]), most or cell_len(row[column])) for row in table.rows]
    return max([1, *cells, *(min(WHOLE, cell_len(word)) for word in table.columns[column].split())])


def _natural(table: Table, column: int) -> int:
    return max(1, *(cell_len(text) for text in (table.columns[column], *(row[column] for row in table.rows))))
