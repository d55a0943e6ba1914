"""The page that ``jaspertc demo --web`` writes, in a real browser: dial, search, speed, offline, a phone."""

import functools
import re
import shutil
import threading
from collections.abc import Callable, Iterator
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner

from jaspertc import Embedder
from jaspertc.errors import CheckpointError, InputError
from jaspertc.export.site import PACKAGES, write_site
from jaspertc.export.write import export
from jaspertc.samples import load_samples

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)


@pytest.fixture(scope="module")
def model_name(make_model: Callable[..., Path]) -> Path:
    return make_model(
        tokenizer="unigram", backbone={"max_positions": 200}, save={"prompts": {"document": "passage: "}}
    )


@pytest.fixture(scope="module")
def site(model_name: Path, node_modules: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Written from an exported file with defaults, which the page's copy must not have."""
    folder = tmp_path_factory.mktemp("site")
    export(model_name, folder / "small" / "small.onnx")
    return write_site(folder / "page", str(folder / "small" / "small.onnx"), node_modules=node_modules)


class Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture(scope="module")
def url(site: Path) -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


def opened(browser: Any, url: str, wrong: list[str], **options: Any) -> Any:
    page = browser.new_context(**options).new_page()
    page.set_default_timeout(60_000)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("request", lambda r: None if r.url.startswith((url, "data:", "blob:")) else wrong.append(r.url))
    page.goto(url)
    page.wait_for_selector("#speed tbody tr:nth-child(2)")
    return page


def number(page: Any, name: str) -> float:
    return float(re.sub(r"[^\d.-]", "", page.locator(f"#{name}").inner_text()) or "nan")


def test_dial_search_speed_and_offline(browser: Any, url: str, model_name: Path) -> None:
    wrong: list[str] = []
    page = opened(browser, url, wrong, viewport={"width": 1280, "height": 900})
    assert page.locator("#embedded").inner_text() == "96 of 96"
    assert page.locator("#hits li").count() == 5
    embedder = Embedder.load(model_name, device="cpu", dtype="float32", runtime="torch")
    text = load_samples("passages")[3]["text"]
    page.fill("#threshold", "12")
    page.fill("#text", text)
    for ratio in (0.4, 0.1):
        before = page.locator("#n-cosine").inner_text()
        page.fill("#ratio", str(ratio))
        page.wait_for_function(f"() => document.querySelector('#n-cosine').textContent != '{before}'")
        page.wait_for_timeout(800)  # the last of several answers
        tokens = np.array([len(embedder.tokenize(["passage: " + text])[0])])
        computed = embedder.target_lengths(tokens, ratio=ratio, threshold=12)
        assert (number(page, "n-tokens"), number(page, "n-compressed")) == (tokens[0], computed[0])
        vectors = [embedder.encode_document([text], ratio=r, threshold=12)[0] for r in (ratio, 1.0)]
        assert number(page, "n-cosine") == pytest.approx(float(vectors[0] @ vectors[1]), abs=2e-4)
    rows = page.locator("#speed tbody tr")
    assert [rows.nth(i).get_attribute("data-ratio") for i in range(2)] == ["1", "0.33"]
    assert all(float(rows.nth(i).locator("td").nth(2).inner_text()) >= 0 for i in range(2))
    page.fill("#query", "<b>why</b> does bread rise?")
    page.keyboard.press("Enter")
    page.wait_for_function("() => document.querySelector('#search-note').textContent.includes('question.')")
    assert page.locator("main b").count() == 0
    assert page.locator("#offline").inner_text() == "It now works offline."
    assert page.evaluate("crossOriginIsolated")
    page.context.set_offline(True)
    page.reload()
    page.wait_for_selector("#speed tbody tr:nth-child(2)")
    assert wrong == []


def test_on_a_phone_in_the_dark(browser: Any, url: str) -> None:
    wrong: list[str] = []
    page = opened(browser, url, wrong, viewport={"width": 360, "height": 740}, color_scheme="dark")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(map(int, re.findall(r"\d+", dark)[:3])) < 60
    assert wrong == []


def test_refusals(site: Path, model_folder: Path, node_modules: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="not empty"):
        write_site(site, "mini", node_modules=node_modules)
    with pytest.raises(InputError, match="is missing; npm install"):
        write_site(tmp_path / "a", str(model_folder), node_modules=tmp_path)
    with pytest.raises(CheckpointError, match="does not exist"):
        write_site(tmp_path / "b", str(tmp_path / "no.onnx"), node_modules=node_modules)


def test_the_command(model_folder: Path, node_modules: Path, tmp_path: Path) -> None:
    from jaspertc.cli import app

    arguments = ["demo", "--web", tmp_path / "page", "--model", model_folder, "--node-modules", node_modules]
    result = CliRunner().invoke(app, [*map(str, arguments)])
    assert result.exit_code == 0, result.output
    assert {
        "index.html",
        "page.js",
        "worker.js",
        "sw.js",
        "style.css",
        "samples.json",
        "model",
        "vendor",
    } == {path.name for path in (tmp_path / "page").iterdir()}


@pytest.fixture
def packages(tmp_path: Path) -> Path:
    """Files by the names of those that npm would fetch."""
    for package, names in PACKAGES.items():
        for name in names:
            path = tmp_path / "modules" / package / "dist" / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
    return tmp_path / "modules"


def test_a_failure_leaves_nothing(model_folder: Path, packages: Path, tmp_path: Path) -> None:
    folder, model = tmp_path / "page", str(model_folder)
    with pytest.raises(InputError, match="is missing; npm install"):
        write_site(folder, model, node_modules=tmp_path / "nowhere")
    with pytest.raises(CheckpointError, match="does not exist"):
        write_site(folder, str(tmp_path / "no.onnx"), node_modules=packages)
    assert not folder.exists()
    write_site(folder, model, node_modules=packages)
    assert (folder / "vendor" / "tokenizers.min.mjs").read_text() == "tokenizers.min.mjs"
    (folder / "mine.txt").write_text("mine")
    write_site(folder, model, node_modules=packages, overwrite=True)
    assert (folder / "mine.txt").read_text() == "mine"


def test_a_file_is_no_folder(packages: Path, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("mine")
    with pytest.raises(CheckpointError, match=r"a\.txt is a file; choose a folder"):
        write_site(tmp_path / "a.txt", "mini", node_modules=packages, overwrite=True)
