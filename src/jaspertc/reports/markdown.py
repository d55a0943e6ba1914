"""A report as Markdown."""

from collections.abc import Iterator

from jaspertc.reports.content import Report, Section, Table


def to_markdown(report: Report, pictures: str) -> str:
    """The report as Markdown; its pictures are PNG files in the folder ``pictures`` beside it."""
    parts = [f"# {report.title}", report.subtitle]
    for section in report.sections:
        parts += _section(section, pictures)
    return "\n\n".join(part for part in parts if part) + "\n"


def _section(section: Section, pictures: str) -> Iterator[str]:
    yield f"## {section.title}"
    yield section.text
    for figure in section.figures:
        yield f"**{figure.title}**" if len(section.figures) > 1 else ""
        yield f"![{section.title}: {figure.title}]({pictures}/{figure.name}.png)"
        yield figure.note
    for table in [*section.tables, *section.details]:
        yield f"**{table.title}**" if table.title != section.title else ""
        yield _table(table)
        yield table.note
    yield f"From `{section.command}`" if section.command else ""


def _table(table: Table) -> str:
    lines = [table.columns, ["---", *["---:"] * (len(table.columns) - 1)], *table.rows]
    return "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
