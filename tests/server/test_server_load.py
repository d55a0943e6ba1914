"""Overload, departures, the latency promise and shutdown, on a model that is made slow."""

import asyncio
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

from jaspertc import Embedder

LONG = "word " * 12  # 60 tokens and more; 8 stay whole


def together(count: int, work: Callable[[int], Any]) -> list[Any]:
    found: list[Any] = [None] * count

    def one(number: int) -> None:
        found[number] = work(number)

    threads = [threading.Thread(target=one, args=(number,)) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_overload_ends_in_429_with_a_time_to_come_back(start: Any, slowed: Any) -> None:
    server = start(slowed(0.004), max_wait_s=0.3, batch_tokens=20)
    answers = together(30, lambda i: server.embed({"model": "small", "input": f"{LONG} {i}"}))
    codes = [answer.status_code for answer in answers]
    assert set(codes) == {200, 429}
    refused = next(answer for answer in answers if answer.status_code == 429)
    assert int(refused.headers["retry-after"]) >= 1
    assert refused.json()["error"]["code"] == "rate_limit_exceeded"
    assert server.metric("refused_total") == codes.count(429)


def test_no_more_requests_inside_than_allowed(start: Any, slowed: Any) -> None:
    server = start(slowed(0.0, 0.2), max_requests=2)
    answers = together(5, lambda i: server.embed({"model": "small", "input": "a"}))
    assert sorted(answer.status_code for answer in answers) == [200, 200, 429, 429, 429]


def test_a_short_request_does_not_wait_for_a_bulk_one(start: Any, slowed: Any) -> None:
    server = start(slowed(0.002), batch_tokens=20)
    bulk = threading.Thread(target=lambda: server.embed({"model": "small", "input": [LONG] * 30}))
    began = time.perf_counter()
    bulk.start()
    time.sleep(0.2)
    asked = time.perf_counter()
    assert server.embed({"model": "small", "input": "a"}).status_code == 200
    short = time.perf_counter() - asked
    bulk.join()
    assert short < (time.perf_counter() - began) / 3


def test_work_of_clients_that_left_is_dropped(start: Any, slowed: Any) -> None:
    server = start(slowed(0.002), batch_tokens=20)
    before = server.metric("compressed_tokens_total")
    with pytest.raises(httpx.ReadTimeout):
        server.embed({"model": "small", "input": [LONG] * 200}, timeout=0.3)
    deadline = time.monotonic() + 5
    while server.metric("cancelled_requests_total") < 1 and time.monotonic() < deadline:
        time.sleep(0.05)
    assert server.metric("cancelled_requests_total") == 1
    assert server.metric("queue_requests") == 0
    assert server.metric("compressed_tokens_total") - before < 2000
    assert server.embed({"model": "small", "input": "a"}).status_code == 200


def test_requests_out_of_time(start: Any, slowed: Any) -> None:
    server = start(slowed(0.0, 0.5), request_timeout_s=0.2)
    answer = server.embed({"model": "small", "input": "a"})
    assert answer.status_code == 503
    assert answer.json()["error"]["code"] == "timeout"


def test_a_failing_batch_is_a_500_and_the_next_request_works(
    start: Any, slowed: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    embedder = slowed(0.0)
    server = start(embedder)
    working = embedder.runtime.embed
    monkeypatch.setattr(embedder.runtime, "embed", lambda *_: 1 / 0)
    answer = server.embed({"model": "small", "input": "a"})
    assert answer.status_code == 500
    assert answer.json()["error"]["type"] == "server_error"
    assert "ZeroDivision" not in answer.text
    monkeypatch.setattr(embedder.runtime, "embed", working)
    monkeypatch.setattr("jaspertc.server.flow.Flow.wanted", lambda *_: 1 / 0)
    assert server.embed({"model": "small", "input": "a"}).status_code == 500
    monkeypatch.undo()
    assert server.embed({"model": "small", "input": "a"}).status_code == 200
    assert server.http.get("/health").status_code == 200


def test_the_promise_lowers_the_ratio_under_load_only(start: Any, slowed: Any, model: Embedder) -> None:
    server = start(slowed(0.002), slo_ms=600, slo_floor=0.1, batch_tokens=64)
    calm = server.embed({"model": "small", "input": LONG}).json()
    assert calm["compression"] | {"compressed_tokens": 0} == {
        "ratio": 0.5,
        "adapted": False,
        "compressed_tokens": 0,
    }
    bodies = [{"model": "small", "input": f"{LONG} {i}"} for i in range(30)]
    bodies[10]["model"] = "small@0.5"
    bodies[20]["input"] = "a"
    answers = [answer.json() for answer in together(30, lambda i: server.embed(bodies[i]))]
    used = [answer["compression"]["ratio"] for answer in answers]
    assert used[10] == 0.5  # fixed by the client
    assert used[20] == 0.5  # under the threshold
    assert not answers[20]["compression"]["adapted"]
    assert min(used) < 0.3
    assert min(used) >= 0.1
    assert server.metric("adapted_requests_total") == sum(a["compression"]["adapted"] for a in answers) > 3
    for body, answer, ratio in zip(bodies, answers, used):
        vector = np.array(answer["data"][0]["embedding"], dtype=np.float32)
        np.testing.assert_allclose(vector, model.encode(body["input"], ratio=ratio), atol=1e-5)


SERVER = """
import sys, time
from jaspertc import Embedder
from jaspertc.server.app import create_app
from jaspertc.server.run import serve
from jaspertc.server.settings import ServerSettings
import logging
logging.basicConfig(level=logging.INFO)
embedder = Embedder.load(sys.argv[1], device="cpu")
embed = embedder.runtime.embed
embedder.runtime.embed = lambda *batch: (time.sleep(0.05), embed(*batch))[1]
settings = ServerSettings(port=0, name="small", batch_tokens=32)
serve(create_app(embedder, settings), settings)
"""


def test_sigterm_under_load_answers_everything_that_was_accepted(model_folder: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-c", SERVER, str(model_folder)], stderr=subprocess.PIPE, text=True
    )
    assert process.stderr is not None
    line = next(line for line in process.stderr if "listening on" in line)
    url = line.rpartition(" ")[2].strip()

    async def load() -> list[Any]:
        async with httpx.AsyncClient(base_url=url, timeout=30) as client:
            tasks = [
                asyncio.create_task(
                    client.post("/v1/embeddings", json={"model": "small", "input": [f"{LONG}{i}"] * 3})
                )
                for i in range(20)
            ]
            while (await client.get("/metrics")).text.count('path="/metrics"') == 0:
                await asyncio.sleep(0.01)
            await asyncio.sleep(0.3)
            process.terminate()
            return await asyncio.gather(*tasks)

    answers = asyncio.run(load())
    assert [answer.status_code for answer in answers] == [200] * 20
    assert process.wait(20) in (0, -15)
    assert "Traceback" not in process.stderr.read()
