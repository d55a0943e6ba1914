"""``jaspertc serve``, as a process."""

import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("fastapi", reason="the serve extra is not installed")

import httpx


def test_serve_a_folder_and_stop(model_folder: Path, tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    keys.write_text("k-0123456789abcdef\n", encoding="utf-8")
    command = [sys.executable, "-m", "jaspertc", "serve", str(model_folder), "--port", "0"]
    options = ["--api-keys", str(keys), "--slo-ms", "500", "--threads", "1"]
    process = subprocess.Popen([*command, *options], stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    try:
        line = next(line for line in process.stderr if "listening on" in line)
        with httpx.Client(base_url=line.rpartition(" ")[2].strip(), timeout=20) as client:
            assert client.get("/v1/models").status_code == 401
            client.headers["authorization"] = "Bearer k-0123456789abcdef"
            assert client.get("/v1/models").json()["data"][0]["id"] == model_folder.name
            assert client.get("/info").json()["slo_ms"] == 500
    finally:
        process.terminate()
    assert process.wait(20) in (0, -15)
    assert "POST" not in process.stderr.read()


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--host", "0.0.0.0"], "there is no API key"),
        (["--slo-floor", "2"], "slo_floor is 2.0"),
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


def test_a_taken_port_is_named(model_folder: Path) -> None:
    import socket

    from jaspertc.errors import ConfigError
    from jaspertc.server.run import listen
    from jaspertc.server.settings import ServerSettings

    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(ConfigError, match=f"cannot listen on 127.0.0.1:{port}"):
            listen(ServerSettings(port=port))
