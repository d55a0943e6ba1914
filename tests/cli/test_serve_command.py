"""``jaspertc serve``, as a process."""

import math
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("fastapi", reason="the serve extra is not installed")

import httpx
import torch

from jaspertc import Embedder, SearchIndex
from jaspertc.cli.serve import serve
from jaspertc.errors import InputError, JasperError
from jaspertc.machine import thread_count
from jaspertc.server.settings import ServerSettings
from jaspertc.server.workers import Application


def start(command: list[str], log: Path) -> subprocess.Popen[bytes]:
    """The server, logging to a file: a pipe that nobody reads fills, and then the server cannot end."""
    with log.open("wb") as errors:
        return subprocess.Popen(command, stderr=errors)


def listening(process: subprocess.Popen[bytes], log: Path) -> str:
    """The line of the log that ends with the server's address, once there is one."""
    while process.poll() is None:
        for line in log.read_text(encoding="utf-8").splitlines(keepends=True):
            if "listening on" in line and line.endswith("\n"):
                return line
        time.sleep(0.05)
    raise AssertionError(log.read_text(encoding="utf-8"))


def test_serve_a_folder_and_stop(model_folder: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("k-0123456789abcdef\n", encoding="utf-8")
    command = [sys.executable, "-m", "jaspertc", "serve", str(model_folder), "--port", "0"]
    options = ["--api-keys", str(keys), "--slo-ms", "500", "--threads", "1"]
    log = tmp_path / "log"
    process = start([*command, *options], log)
    try:
        with httpx.Client(base_url=listening(process, log).split()[-1], timeout=20) as client:
            assert client.get("/v1/models").status_code == 401
            client.headers["authorization"] = "Bearer k-0123456789abcdef"
            assert client.get("/v1/models").json()["data"][0]["id"] == model_folder.name
            assert client.get("/info").json()["slo_ms"] == 500
    finally:
        process.terminate()
    assert process.wait(20) in (0, -15)
    assert "POST" not in log.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--host", "0.0.0.0"], "there is no API key"),
        (["--slo-ms", "300", "--slo-floor", "2"], "slo_floor is 2.0"),
        (["--slo-floor", "0.3"], "--slo-floor is 0.3, it goes with --slo-ms only; leave it out"),
        (["--api-keys", "/nowhere/keys"], "cannot be read"),
        (["no-such-model"], "no model 'no-such-model'"),
    ],
)
def test_mistakes_are_one_line(options: list[str], words: str) -> None:
    result = subprocess.run(
        [sys.executable, "-m", "jaspertc", "serve", *options], capture_output=True, text=True, timeout=60
    )
    assert result.returncode == 1
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


@pytest.mark.parametrize("size", [math.nan, math.inf, -1, 0, 1e-9, 1e308])
def test_a_size_that_is_none_is_named_as_it_was_given(size: float) -> None:
    with pytest.raises(InputError, match=re.escape(f"--max-request-mb is {size:g}, it must be")):
        serve(max_request_mb=size)


def test_a_taken_port_is_named(model_folder: Path) -> None:
    import socket

    from jaspertc.errors import ConfigError
    from jaspertc.server.run import listen
    from jaspertc.server.settings import ServerSettings

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port}"):
            listen(ServerSettings(port=port))


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL here")
def test_workers_share_a_port(model_folder: Path, tmp_path: Path) -> None:
    """Requests are answered by several processes, one that dies is replaced, and all end together."""
    command = [sys.executable, "-m", "jaspertc", "serve", str(model_folder), "--port", "0", "--workers", "2"]
    process = start([*command, "--threads", "1"], tmp_path / "log")
    try:
        line = listening(process, tmp_path / "log")
        assert "2 workers" in line
        address = line.split()[-1]

        def answering(seconds: float = 120) -> set[int]:
            """Workers that have answered, once there are two."""
            found: set[int] = set()
            until = time.monotonic() + seconds
            while len(found) < 2 and time.monotonic() < until:
                answer = httpx.get(f"{address}/metrics", timeout=120)
                assert answer.status_code == 200
                (pid,) = re.findall(r"^jaspertc_process_id (\S+)", answer.text, re.M)
                found.add(int(float(pid)))
            return found

        first = answering()
        assert len(first) == 2
        body = {"model": "mini", "input": ["a text", "another"]}
        one = httpx.post(
            f"{address}/v1/embeddings", json={**body, "model": model_folder.name}, timeout=60
        ).json()
        assert len(one["data"]) == 2
        os.kill(min(first), signal.SIGKILL)
        until = time.monotonic() + 300
        while len(second := answering(30)) < 2 or min(first) in second:
            assert time.monotonic() < until
    finally:
        process.terminate()
    assert process.wait(60) in (0, -15)
    for pid in second:
        with pytest.raises(ProcessLookupError):
            os.kill(pid, 0)


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL here")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["no-such-model"], "no model 'no-such-model'"),
        (["mini", "--index", "/nowhere/index.db"], "no index at /nowhere/index.db"),
    ],
)
def test_mistakes_with_workers_are_one_line(options: list[str], words: str) -> None:
    result = serve_in_two(options)
    assert result.returncode == 1
    assert words in result.stderr
    assert result.stderr.count("\n") == 1


def test_what_a_worker_alone_can_find_ends_the_command(model: Embedder, tmp_path: Path) -> None:
    SearchIndex.create_or_open(tmp_path / "index.db", model).close()
    result = serve_in_two(["mini", "--index", str(tmp_path / "index.db")])
    assert result.returncode == 1
    assert "was built with" in result.stderr
    assert result.stderr.splitlines()[-1] == "jaspertc: error: a worker could not start, for the reason above"
    assert "Traceback" not in result.stderr


def serve_in_two(options: list[str]) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "jaspertc", "serve", *options, "--workers", "2", "--port", "0"]
    return subprocess.run(command, capture_output=True, text=True, timeout=200)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"index": Path("/nowhere/index.db")}, "no index at /nowhere/index.db"),
        ({"index": Path(__file__)}, "not a jaspertc search index"),
        ({"runtime": "nope"}, "runtime is 'nope', it must be auto or one of torch"),
        ({"device": "nope"}, "device 'nope' cannot be used here"),
        ({"device": "cuda:99", "runtime": "openvino"}, "'openvino' has 'cpu' only"),
        ({"dtype": "nope"}, "dtype is 'nope', it must be auto"),
        ({"dtype": "int8", "runtime": "torch"}, "dtype is 'int8', it must be auto"),
        ({"dtype": "float16", "runtime": "openvino"}, "dtype is 'float16', the runtime 'openvino' has auto"),
        ({"settings": ServerSettings(name="a b")}, "choose one with --name"),
    ],
)
def test_what_is_known_before_a_model_is_loaded(given: dict[str, Any], words: str) -> None:
    with pytest.raises(JasperError, match=re.escape(words)):
        Application(**{"model": "mini", "settings": ServerSettings()} | given).check()


@pytest.mark.parametrize(
    ("runtime", "dtype"), [("auto", "auto"), ("auto", "int8"), ("openvino", "bfloat16"), ("torch", "float32")]
)
def test_nothing_stands_in_the_way(model_folder: Path, runtime: str, dtype: str) -> None:
    options = {"device": "cpu", "runtime": runtime, "dtype": dtype}
    Application(model=str(model_folder), settings=ServerSettings(), **options).check()


def test_layers_are_compiled_for_the_threads_asked_for(
    model: Embedder, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[int] = []

    def load(*_: object, **__: object) -> Embedder:
        seen.append(thread_count())
        return model

    before = torch.get_num_threads()
    monkeypatch.setenv("OMP_NUM_THREADS", "1")  # what is set here is undone
    monkeypatch.setattr(Embedder, "load", load)
    try:
        Application(model="mini", settings=ServerSettings(threads=3))()
    finally:
        torch.set_num_threads(before)
    assert seen == [3]
