"""The playground in a real browser: mouse, keyboard, a phone's width, dark mode, a key."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jaspertc import Embedder

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
KEY = "k-0123456789abcdef"


@pytest.fixture(scope="module")
def server(start: Any, model: Embedder) -> Any:
    return start(model)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="playwright is not installed")
    if CHROMIUM is None:
        pytest.skip("no Chromium is installed")
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def open_page(browser: Any) -> Iterator[Any]:
    """Open the page of a server; errors of its script and requests to elsewhere fail the test."""
    pages: list[Any] = []
    wrong: list[str] = []

    def show(server: Any, **options: Any) -> Any:
        page = browser.new_page(**options)
        page.set_default_timeout(20_000)
        page.on("pageerror", lambda error: wrong.append(str(error)))
        page.on(
            "request",
            lambda request: (
                None if request.url.startswith((server.url, "data:")) else wrong.append(request.url)
            ),
        )
        page.goto(f"{server.url}/")
        pages.append(page)
        return page

    yield show
    for page in pages:
        page.close()
    assert wrong == []


def number(page: Any, name: str) -> float:
    return float(re.sub(r"[^\d.]", "", page.locator(f"#{name}").inner_text()) or "nan")


def test_the_dial_by_keyboard(server: Any, open_page: Any, tmp_path: Path) -> None:
    page = open_page(server, viewport={"width": 1280, "height": 900})
    page.wait_for_function("() => document.querySelector('#n-cosine').textContent != '–'")
    assert page.locator("#model").inner_text().startswith("small")
    page.fill("#text", "one two three four five six seven eight")
    page.fill("#threshold", "4")
    page.wait_for_function("() => document.querySelectorAll('#curve .dot').length >= 7")
    tokens = number(page, "n-tokens")
    before, agreement = number(page, "n-compressed"), number(page, "n-cosine")
    page.focus("#ratio")
    page.keyboard.press("Home")  # the lowest ratio
    assert page.locator("#ratio-out").inner_text() == "0.05"
    page.wait_for_function(f"() => document.querySelector('#n-cosine').textContent != '{agreement:.4f}'")
    assert number(page, "n-compressed") < before < tokens
    assert page.locator("#tokens span").count() == tokens
    assert page.locator("#tokens .first").count() == number(page, "n-compressed")
    page.keyboard.press("End")  # every token
    page.wait_for_function("() => document.querySelector('#n-cosine').textContent == '1.0000'")
    assert number(page, "n-compressed") == tokens
    assert "Nothing is merged" in page.locator("#windows-note").inner_text()
    page.screenshot(path=tmp_path / "page.png", full_page=True)


def test_compare_and_search(server: Any, open_page: Any) -> None:
    page = open_page(server, viewport={"width": 1280, "height": 900})
    page.wait_for_selector("#heat td.strong")
    page.fill("#texts", "a cat\na cat\n<b>no markup</b>")
    page.wait_for_function("() => document.querySelectorAll('#heat tr').length == 4")
    assert page.locator("#heat tr:nth-child(2) td:nth-child(3)").inner_text() == "1.00"
    assert page.locator("#heat b").count() == 0
    page.focus("#query")
    page.keyboard.type("why does bread rise?")
    page.keyboard.press("Enter")
    page.wait_for_selector("#hits li:nth-child(5)")
    page.locator("#questions button").first.click()
    page.wait_for_function("() => document.querySelector('#search-note').textContent.includes('is number')")
    assert page.locator("#problem").is_hidden()


def test_on_a_phone_and_in_the_dark(server: Any, open_page: Any) -> None:
    page = open_page(server, viewport={"width": 360, "height": 740}, color_scheme="dark")
    page.wait_for_selector("#heat td.strong")
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    dark = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert max(map(int, re.findall(r"\d+", dark)[:3])) < 60
    ink = page.evaluate("getComputedStyle(document.body).color")
    assert min(map(int, re.findall(r"\d+", ink)[:3])) > 180


def test_every_control_has_a_name(server: Any, open_page: Any) -> None:
    page = open_page(server, viewport={"width": 1280, "height": 900})
    page.wait_for_selector("#heat td.strong")
    nameless = page.evaluate(
        """[...document.querySelectorAll("input, select, textarea, button")]
        .filter((node) => !(node.labels?.length || node.textContent.trim() || node.ariaLabel))
        .map((node) => node.id)"""
    )
    assert nameless == []


def test_the_key_is_asked_for(start: Any, model: Embedder, open_page: Any) -> None:
    server = start(model, api_keys=(KEY,))
    page = open_page(server, viewport={"width": 1280, "height": 900})
    page.wait_for_selector("#key-dialog[open]")
    page.fill("#key", KEY)
    page.keyboard.press("Enter")
    page.wait_for_selector("#heat td.strong")
    assert page.locator("#problem").is_hidden()
    page.goto(f"{server.url}/docs")
    page.wait_for_selector(".api section")
    assert "/v1/embeddings" in page.locator(".api").inner_text()
