"""A report as files: one HTML page that needs nothing else, and Markdown with its pictures beside it."""

from pathlib import Path

from jaspertc.files.aside import writing, written_aside
from jaspertc.reports.content import Report
from jaspertc.reports.html import to_html
from jaspertc.reports.markdown import to_markdown


def write_pages(report: Report, output: Path, pictures: str) -> list[Path]:
    """Make ``OUTPUT.html``, ``OUTPUT.md`` and PNG files in the folder ``pictures`` beside them.

    Args:
        output: path without an ending; folders above it are made.

    Returns:
        The pictures, then the two pages.

    Raises:
        DataFileError: they cannot be written.
    """
    folder = output.parent / pictures
    figures = [figure for section in report.sections for figure in section.figures]
    contents = {folder / f"{figure.name}.png": figure.png for figure in figures}
    contents[output.with_name(f"{output.name}.html")] = to_html(report).encode()
    contents[output.with_name(f"{output.name}.md")] = to_markdown(report, pictures).encode()
    with writing(output):
        (folder if figures else output.parent).mkdir(parents=True, exist_ok=True)
    for path, content in contents.items():
        with writing(path), written_aside(path) as file:
            file.write(content)
    return list(contents)
