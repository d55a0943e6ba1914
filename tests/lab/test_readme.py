"""The lab's page names every script, and links of pages lead to files."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md"), *ROOT.glob("lab/**/*.md")]


def test_every_script_has_a_line():
    page = (ROOT / "lab" / "README.md").read_text(encoding="utf-8")
    experiments = (ROOT / "lab" / "experiments" / "README.md").read_text(encoding="utf-8")
    assert not [path.name for path in ROOT.glob("lab/benchmarks/*.py") if f"`{path.name}`" not in page]
    assert not [path.name for path in ROOT.glob("lab/experiments/*.toml") if path.name not in experiments]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_lead_to_files(page):
    links = re.findall(r"\]\((?!\w+:)([^)#\s]+)", page.read_text(encoding="utf-8"))
    assert not [link for link in links if not (page.parent / link).exists()]


def test_what_imports_the_lab_is_run_as_a_module():
    texts = [path.read_text(encoding="utf-8") for path in [*PAGES, *ROOT.glob("lab/**/*.py")]]
    scripts = {name for text in texts for name in re.findall(r"python (lab/[\w/]+\.py)", text)}
    assert len(scripts) > 10
    imports = re.compile(r"^(from|import) lab\b", re.MULTILINE)
    assert not [name for name in scripts if imports.search((ROOT / name).read_text(encoding="utf-8"))]
