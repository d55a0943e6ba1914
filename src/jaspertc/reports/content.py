"""What a page of results is made of."""

import re
from dataclasses import dataclass, field

# Signs, digits, spreads in brackets, shares, factors, letters for thousands, millions ..., and a unit.
NUMBER = re.compile(r"^(?:\d[%kMGTPEex×]|[-+–−\d.,()\s%/])*(?: (?:[kMGTPE]?FLOP|[MG]i?B|days|h|min|s))?$")


@dataclass(frozen=True, kw_only=True)
class Table:
    """Text in columns; the first column names the row."""

    title: str
    columns: list[str]
    rows: list[list[str]]
    note: str = ""
    command: str = ""

    def is_figures(self, column: int) -> bool:
        """Whether a column has numbers only: they stand to the right and are never cut or folded."""
        return all(NUMBER.match(row[column]) for row in self.rows)


@dataclass(frozen=True, kw_only=True)
class Figure:
    """A picture twice: ``svg`` without any external resource, ``png`` with a white ground."""

    name: str
    title: str
    note: str
    svg: str
    png: bytes


@dataclass(frozen=True, kw_only=True)
class Section:
    """A part of the report.

    Attributes:
        figures: shown side by side where there is room.
        command: what makes the numbers of the section.
        details: shown only when asked for, where the format can.
    """

    title: str
    text: str = ""
    tables: list[Table] = field(default_factory=list)
    figures: list[Figure] = field(default_factory=list)
    command: str = ""
    details: list[Table] = field(default_factory=list)


@dataclass(frozen=True, kw_only=True)
class Report:
    """A title, a line under it, and sections."""

    title: str
    subtitle: str
    sections: list[Section]
