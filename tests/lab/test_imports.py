"""What the lab takes from the package is there: scripts that no test runs would otherwise break unseen."""

import ast
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import pytest

LAB = Path(__file__).parents[2] / "lab"
SCRIPTS = sorted(path.relative_to(LAB).as_posix() for path in LAB.rglob("*.py"))


@pytest.mark.parametrize("script", SCRIPTS)
def test_imported_names_exist(script: str) -> None:
    tree = ast.parse((LAB / script).read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and (node.module or "").split(".")[0] == "jaspertc":
            module = import_module(node.module or "")
            for name in node.names:
                whole = f"{node.module}.{name.name}"
                assert hasattr(module, name.name) or find_spec(whole), f"{script}: no {whole}"
