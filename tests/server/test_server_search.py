"""/v1/search over an index of the same model."""

import sqlite3
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jaspertc import Embedder, SearchIndex
from jaspertc.errors import RatioError
from jaspertc.search import upkeep
from jaspertc.search.documents import Document
from jaspertc.server import scheduler

TEXTS = {
    "ferry": "The ferry leaves the harbour at noon, weather permitting.",
    "bread": "新鲜的面包闻起来很香,价格也不贵。",
    "silt": "Rivers carry silt to the delta and build new land.",
}


@pytest.fixture(scope="module")
def server(start: Any, model: Embedder, tmp_path_factory: pytest.TempPathFactory) -> Any:
    path = tmp_path_factory.mktemp("index") / "texts.db"
    index = SearchIndex.create_or_open(path, model)
    index.add(
        Document(name, text, {"lang": "zh" if name == "bread" else "en"}) for name, text in TEXTS.items()
    )
    return start(model, index=index)


def search(server: Any, **body: Any) -> Any:
    return server.http.post("/v1/search", json=body)


@pytest.mark.parametrize("mode", ["vector", "text", "hybrid"])
def test_the_same_as_the_index(server: Any, model: Embedder, mode: str) -> None:
    answer = search(server, query="the ferry at noon", mode=mode, k=2)
    assert answer.status_code == 200, answer.text
    found = answer.json()["data"]
    assert found[0]["text"] == TEXTS["ferry"]
    assert (found[0]["id"], found[0]["metadata"]) == ("ferry", {"lang": "en"})
    assert (found[0]["start"], found[0]["stop"]) == (0, len(TEXTS["ferry"]))


def test_the_ratio_in_the_model_name_is_the_query_s(server: Any, model: Embedder) -> None:
    query = TEXTS["ferry"]
    bread = model.encode_document(TEXTS["bread"])
    for name, ratio in (("small", 1.0), ("small@0.2", 0.2), ("small:query@0.2", 0.2)):
        found = search(server, query=query, mode="vector", model=name, where={"lang": "zh"}).json()["data"]
        expected = float(model.encode_query(query, ratio=ratio) @ bread)
        assert found[0]["score"] == pytest.approx(expected, abs=1e-5), name


def test_filter_and_information(server: Any) -> None:
    found = search(server, query="the ferry at noon", where={"lang": "zh"}).json()["data"]
    assert [hit["id"] for hit in found] == ["bread"]
    assert server.http.get("/info").json()["index"] == {"name": "texts.db", "documents": 3}


@pytest.mark.parametrize(
    ("body", "param", "message"),
    [
        ({}, "query", "query"),
        ({"query": ""}, "query", "query"),
        ({"query": "  "}, "query", "query is blank; give a text"),
        ({"query": "\n", "mode": "text"}, "query", "query is blank; give a text"),
        ({"query": "x", "model": "small:document"}, "model", "a query has the prompt query"),
        ({"query": "x", "k": 0}, "k", "k"),
        ({"query": "x", "mode": "fast"}, "mode", "mode"),
        ({"query": "x", "where": {"a": [1]}}, "where.a", "where.a must be a string, number, boolean or null"),
        ({"query": "x", "where": [1]}, "where", "where: Input should be"),
        ({"query": "bread " * 40_000}, "query", "query has "),
        ({"query": "x", "other": 1}, "other", "other"),
    ],
)
def test_refusals(server: Any, body: Any, param: str, message: str) -> None:
    answer = search(server, **body)
    assert answer.status_code == 400, answer.text
    assert answer.json()["error"]["param"] == param
    assert message in answer.json()["error"]["message"]


def test_without_an_index(start: Any, model: Embedder) -> None:
    server = start(model)
    answer = search(server, query="x")
    assert answer.status_code == 404
    assert "--index" in answer.json()["error"]["message"]
    assert server.http.get("/info").json()["index"] is None


@pytest.fixture
def quick(model: Embedder, tmp_path: Path) -> SearchIndex:
    """An index at a low ratio."""
    index = SearchIndex.create_or_open(tmp_path / "quick.db", model, ratio=0.1)
    index.add(Document(f"{number}", f"{number} ferries leave. " * 2) for number in range(20))
    return index


def wait_for(happened: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not happened():
        assert time.monotonic() < end
        time.sleep(0.02)


def test_an_index_is_refined_in_idle_time(
    start: Any, model: Embedder, quick: SearchIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "QUIET_S", 0.01)
    server = start(model, index=quick, refine=0.5)
    assert search(server, query="7 ferries").status_code == 200
    wait_for(lambda: upkeep.contents(quick.path).ratios == {0.5: 20})
    assert server.http.get("/health").status_code == 200
    upkeep.check(quick.path)


def test_a_file_in_use_is_refined_later(
    start: Any, model: Embedder, quick: SearchIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "QUIET_S", 0.01)
    monkeypatch.setattr(scheduler, "NOTHING_TO_DO_S", 0.01)
    writer = sqlite3.connect(quick.path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    server = start(model, index=quick, refine=0.5)
    for _ in range(5):
        assert search(server, query="7 ferries").status_code == 200
        time.sleep(0.05)
    assert upkeep.contents(quick.path).ratios == {0.1: 20}
    writer.execute("ROLLBACK")
    writer.close()
    wait_for(lambda: upkeep.contents(quick.path).ratios == {0.5: 20})


def test_a_ratio_to_refine_to_is_checked_at_once(start: Any, model: Embedder, quick: SearchIndex) -> None:
    with pytest.raises(RatioError, match=r"ratio is 1\.5"):
        start(model, index=quick, refine=1.5)
    quick.close()
