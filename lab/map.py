"""Write docs/map.md, a line a file: python -m lab.map. Each line is the first of the module's docstring."""

import ast
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "src" / "jaspertc"
MAP = ROOT / "docs" / "map.md"
HEAD = """# Map

A line a file, written by `python -m lab.map` (`make map`) from the first lines of the modules' docstrings.
Rooms stand in the order of imports: one imports only from those below it. [CONTRIBUTING](../CONTRIBUTING.md)
says where to begin.
"""


def summary(path: Path) -> str:
    """The first line of a module's docstring; raises ValueError if there is none."""
    content = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    if not content:
        raise ValueError(f"{path} has no docstring; write a line on what is in it")
    return content.splitlines()[0].replace("``", "`")


def rooms() -> list[str]:
    """Rooms and single modules at the top, in the order of imports."""
    contracts = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["importlinter"]
    layers = next(item["layers"] for item in contracts["contracts"] if item["type"] == "layers")
    return [name for layer in layers for name in layer.split(" | ")]


def written() -> str:
    """The content of the page."""
    lines = [HEAD, "## At the top", ""]
    lines += [_line(path, PACKAGE) for path in (PACKAGE / "__init__.py", PACKAGE / "__main__.py")]
    lines += [_line(path, PACKAGE) for name in rooms() if (path := PACKAGE / f"{name}.py").exists()]
    for name in rooms():
        folder = PACKAGE / name
        if folder.is_dir():
            lines += ["", f"## `{name}/`", "", summary(folder / "__init__.py"), ""]
            files = sorted(folder.rglob("*.py"), key=lambda path: (len(path.parts), path))
            lines += [_line(path, folder) for path in files if path != folder / "__init__.py"]
    return "\n".join(lines) + "\n"


def _line(path: Path, folder: Path) -> str:
    return f"- `{path.relative_to(folder).as_posix()}`: {summary(path)}"


if __name__ == "__main__":
    MAP.write_text(written(), encoding="utf-8")
