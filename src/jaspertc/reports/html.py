"""A report as one HTML page: no script, no font, no picture from elsewhere."""

import re
from collections.abc import Iterator
from html import escape

from jaspertc.reports.content import Figure, Report, Section, Table

STYLE = """
:root { color-scheme: light dark; --ground: #fcfcfb; --ink: #1d2327; --soft: #5c666d; --line: #d9dee1;
  --panel: #ffffff; --code: #f0f2f3; }
@media (prefers-color-scheme: dark) {
  :root { --ground: #14181b; --ink: #e4e8ea; --soft: #9aa5ac; --line: #333c42;
    --panel: #1b2125; --code: #232a2f; }
}
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 2rem 1rem 4rem; max-width: 74rem;
  background: var(--ground); color: var(--ink);
  font: 16px/1.55 system-ui, "Segoe UI", Roboto, "Noto Sans", "Noto Sans CJK SC", sans-serif; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .3rem; }
h2 { font-size: 1.2rem; margin: 2.6rem 0 .6rem; padding-top: .8rem; border-top: 1px solid var(--line); }
h3 { font-size: 1rem; margin: 1.2rem 0 .4rem; }
p { margin: .4rem 0 .8rem; max-width: 46rem; }
.soft, figcaption, .from { color: var(--soft); font-size: .88rem; }
.grid { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fit, minmax(min(100%, 19rem), 1fr)); }
.grid.one { grid-template-columns: minmax(0, 44rem); }
.grid.two { grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); }
figure { margin: 0; padding: .8rem; background: var(--panel);
  border: 1px solid var(--line); border-radius: .5rem; }
figure h3 { margin: 0 0 .3rem; }
figure svg { display: block; width: 100%; height: auto; }
.scroll { overflow-x: auto; border: 1px solid var(--line); border-radius: .5rem; background: var(--panel);
  margin: .5rem 0; }
table { border-collapse: collapse; width: 100%; font-size: .88rem; font-variant-numeric: tabular-nums; }
th, td { padding: .38rem .55rem; text-align: left; vertical-align: bottom;
  border-bottom: 1px solid var(--line); }
td { vertical-align: top; }
td.number, th.number { text-align: right; }
td.number { white-space: nowrap; }
thead th { font-weight: 600; color: var(--soft); }
th:first-child, td:first-child { position: sticky; left: 0; background: var(--panel); }
tbody tr:last-child td { border-bottom: 0; }
td:first-child { white-space: nowrap; }
tbody tr:hover td { background: var(--code); }
code { font: .86em ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; background: var(--code);
  padding: .12em .35em; border-radius: .3em; overflow-wrap: anywhere; }
.from { margin-top: .6rem; }
summary { cursor: pointer; margin: .8rem 0 .4rem; }
nav { display: flex; flex-wrap: wrap; gap: .3rem 1rem; margin: 1rem 0; font-size: .92rem; }
a { color: inherit; text-underline-offset: .2em; }
@media print { nav { display: none; } .scroll { overflow: visible; } }
"""


def to_html(report: Report) -> str:
    """The whole page."""
    anchors = [f"s{number}" for number, _ in enumerate(report.sections, 1)]
    links = "\n".join(
        f'<a href="#{anchor}">{escape(section.title)}</a>'
        for anchor, section in zip(anchors, report.sections)
    )
    body = "\n".join(
        line for anchor, section in zip(anchors, report.sections) for line in _section(section, anchor)
    )
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{escape(report.title)}</title>
<style>{STYLE}</style>
</head>
<body>
<h1>{escape(report.title)}</h1>
<p class="soft">{escape(report.subtitle)}</p>
<nav>
{links}
</nav>
{body}
</body>
</html>
"""


def _section(section: Section, anchor: str) -> Iterator[str]:
    yield f'<section id="{anchor}">'
    yield f"<h2>{escape(section.title)}</h2>"
    if section.text:
        yield f"<p>{_code(section.text)}</p>"
    if section.figures:
        count = {1: " one", 2: " two"}.get(len(section.figures), "")
        yield f'<div class="grid{count}">'
        yield from (_figure(figure, titled=len(section.figures) > 1) for figure in section.figures)
        yield "</div>"
    for table in section.tables:
        if len(section.tables) > 1:
            yield f"<h3>{escape(table.title)}</h3>"
        yield from _table(table)
    for table in section.details:
        yield f"<details><summary>{escape(table.title)}</summary>"
        yield from _table(table)
        yield "</details>"
    if section.command:
        yield f'<p class="from">From <code>{escape(section.command)}</code></p>'
    yield "</section>"


def _figure(figure: Figure, *, titled: bool) -> str:
    title = f"<h3>{escape(figure.title)}</h3>" if titled else ""
    note = f"<figcaption>{escape(figure.note)}</figcaption>" if figure.note else ""
    return f"<figure>{title}{figure.svg}{note}</figure>"


def _table(table: Table) -> Iterator[str]:
    numeric = [table.is_figures(column) for column in range(len(table.columns))]
    kinds = [' class="number"' if number and column else "" for column, number in enumerate(numeric)]
    yield '<div class="scroll"><table><thead><tr>'
    yield "".join(f"<th{kind}>{escape(name)}</th>" for kind, name in zip(kinds, table.columns))
    yield "</tr></thead><tbody>"
    for row in table.rows:
        yield "<tr>" + "".join(f"<td{kind}>{escape(cell)}</td>" for kind, cell in zip(kinds, row)) + "</tr>"
    yield "</tbody></table></div>"
    if table.note:
        yield f'<p class="soft">{escape(table.note)}</p>'


def _code(text: str) -> str:
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(text))
