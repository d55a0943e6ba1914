"""The map of the package is the one that its script writes, and has every module."""

from lab.map import MAP, PACKAGE, written


def test_up_to_date() -> None:
    assert MAP.read_text(encoding="utf-8") == written(), "run `make map`"


def test_every_module_has_a_line() -> None:
    lines = [line for line in written().splitlines() if line.startswith("- `")]
    rooms = [path for path in PACKAGE.iterdir() if (path / "__init__.py").is_file()]
    modules = [path for path in PACKAGE.rglob("*.py") if path.parent not in rooms or path.stem != "__init__"]
    assert len(lines) == len(modules)
