"""The pages about serving keep to the code."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest

from jaspertc.cli.serve import serve
from jaspertc.server.schema import Dial
from jaspertc.server.settings import ServerSettings

DOCS = Path(__file__).parents[2] / "docs" / "serving"
PAGES = {path.name: path.read_text(encoding="utf-8") for path in DOCS.glob("*.md")}


def test_options_named_in_the_pages_exist() -> None:
    code = Path(serve.__code__.co_filename).read_text(encoding="utf-8")
    known = set(serve.__code__.co_varnames[: serve.__code__.co_argcount])
    text = "".join(PAGES.values())
    for option in set(re.findall(r"--([a-z][a-z-]+)", text)) - {"now", "offline", "picture"}:
        assert option.replace("-", "_") in known or f'"--{option}"' in code, option


def test_fields_and_limits_are_in_the_page() -> None:
    for name in Dial.model_fields:
        assert f"`{name}`" in PAGES["server.md"], name
    defaults = ServerSettings()
    for value in (defaults.max_request_tokens, defaults.max_inputs, defaults.max_requests):
        assert f" {value} " in PAGES["server.md"]
    assert f"| {defaults.max_wait_s:g} s |" in PAGES["server.md"]


def test_links_lead_somewhere() -> None:
    for name, text in PAGES.items():
        for link in re.findall(r"\]\((?!http)([^)#]+)\)", text):
            assert (DOCS / link).exists(), (name, link)


def test_the_unit_is_accepted_by_systemd(tmp_path: Path) -> None:
    if shutil.which("systemd-analyze") is None:
        pytest.skip("systemd-analyze is not installed")
    unit = (DOCS / "jaspertc.service").read_text(encoding="utf-8")
    copy = tmp_path / "jaspertc.service"  # the program need not be installed where the unit says
    copy.write_text(unit.replace("/opt/jaspertc/bin/jaspertc", str(shutil.which("true"))), encoding="utf-8")
    result = subprocess.run(
        ["systemd-analyze", "verify", str(copy)], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 0, result.stderr
    assert "jaspertc.service" not in result.stderr
