"""Keys, host names, where the server listens, and other web pages."""

import os
import re
from pathlib import Path
from typing import Any

import pytest

from jaspertc import Embedder
from jaspertc.errors import ConfigError
from jaspertc.server.names import served_name
from jaspertc.server.page import FILES
from jaspertc.server.security import check_listening, is_loopback, read_keys
from jaspertc.server.settings import ServerSettings

KEY, OTHER = "k-0123456789abcdef", "k-fedcba9876543210"


def test_keys(start: Any, model: Embedder) -> None:
    server = start(model, api_keys=(KEY, OTHER))
    body = {"model": "small", "input": "a"}
    for key in (KEY, OTHER):
        assert server.embed(body, headers={"authorization": f"Bearer {key}"}).status_code == 200
    for wrong in ("", KEY, f"Basic {KEY}", f"Bearer {KEY}x", "Bearer", f"Bearer {KEY[:-1]}", "Bearer ü"):
        answer = server.embed(body, headers={"authorization": wrong.encode()})
        assert answer.status_code == 401
        assert answer.json()["error"]["code"] == "invalid_api_key"
        assert KEY not in answer.text
    without = {"authorization": ""}
    for path in ("/v1/models", "/metrics", "/info", "/openapi.json", "/samples"):
        assert server.http.get(path, headers=without).status_code == 401
    for path in ("/", "/health", "/ready", "/docs", "/static/app.js"):
        assert server.http.get(path, headers=without).status_code == 200


def test_what_the_page_loads_needs_no_key(start: Any, model: Embedder) -> None:
    http, without = start(model, api_keys=(KEY,)).http, {"authorization": ""}
    asked, found = set(), {"/", "/docs"}
    while new := found - asked:
        for path in new:
            answer = http.get(path, headers=without)
            assert answer.status_code == 200, path
            found |= {f"/static/{name}" for name in re.findall(r'"(?:static|\.)/([^"]+)"', answer.text)}
        asked |= new
    assert asked == {"/", "/docs", *(f"/static/{name}" for name in FILES)}


def test_without_a_key_only_local_names_are_answered(server: Any) -> None:
    for host in ("localhost", "localhost:8000", "127.0.0.1:1", "[::1]:80", "LOCALHOST"):
        assert server.http.get("/health", headers={"host": host}).status_code == 200
    for host in ("example.org", "localhost.example.org", "127.0.0.1.example.org:80", "10.0.0.1"):
        assert server.http.get("/health", headers={"host": host}).status_code == 403


def test_where_it_may_listen() -> None:
    for host in ("127.0.0.1", "localhost", "::1", "127.8.8.8"):
        assert is_loopback(host)
        check_listening(host, keys=(), allow_without_key=False)
    for host in ("0.0.0.0", "::", "192.168.1.5", "example.org"):
        with pytest.raises(ConfigError, match="no API key"):
            check_listening(host, keys=(), allow_without_key=False)
        check_listening(host, keys=(KEY,), allow_without_key=False)
        check_listening(host, keys=(), allow_without_key=True)


def test_reading_keys(tmp_path: Path) -> None:
    file = tmp_path / "keys"
    file.write_text(f"# comment\n\n {KEY} \n{OTHER}\n{KEY}\n", encoding="utf-8")
    third = "k-third-0123456789"
    assert read_keys(file, {"JASPERTC_API_KEYS": f"{third}, "}) == (KEY, OTHER, third)
    assert read_keys(None, {}) == ()
    with pytest.raises(ConfigError, match="cannot be read"):
        read_keys(tmp_path / "none", {})
    file.write_text("# nothing\n", encoding="utf-8")
    with pytest.raises(ConfigError, match="has no key"):
        read_keys(file, {})
    with pytest.raises(ConfigError, match="at least 16") as caught:
        read_keys(None, {"JASPERTC_API_KEYS": "short-secret"})
    assert "short-secret" not in str(caught.value)


def test_other_web_pages(start: Any, server: Any, model: Embedder) -> None:
    preflight = {"origin": "https://app.example.org", "access-control-request-method": "POST"}
    assert (
        "access-control-allow-origin" not in server.http.options("/v1/embeddings", headers=preflight).headers
    )
    allowed = start(model, cors_origins=("https://app.example.org",))
    answer = allowed.http.options("/v1/embeddings", headers=preflight)
    assert answer.headers["access-control-allow-origin"] == "https://app.example.org"
    other = allowed.http.options("/v1/embeddings", headers=preflight | {"origin": "https://evil.example.org"})
    assert "access-control-allow-origin" not in other.headers


@pytest.mark.parametrize(
    "origin",
    [
        "",
        "foo",
        "app.example.org",
        "https://x/",
        "https://x/path",
        "https://X",
        "HTTPS://x",
        "https://x y",
        "https://x:443",
        "http://x:80",
        "https://x:port",
        "https://*.x",
        "https://u@x",
        "https://x\n",
        "null",
    ],
)
def test_origins_that_can_never_match(origin: str) -> None:
    with pytest.raises(ConfigError, match="cors_origins has ") as caught:
        ServerSettings(cors_origins=("https://app.example.org", origin))
    assert repr(origin) in str(caught.value)
    assert "scheme://host[:port]" in str(caught.value)


def test_origins_that_browsers_send() -> None:
    origins = ("https://x", "http://x:443", "http://localhost:8000", "http://[::1]:3000", "app://y-z.a_b")
    ServerSettings(cors_origins=origins)
    ServerSettings(cors_origins=("*",), api_keys=(KEY,))


def test_the_page_loads_nothing_from_elsewhere(server: Any) -> None:
    for path in ("/", "/docs", "/static/app.js", "/static/docs.js", "/static/style.css"):
        answer = server.http.get(path)
        assert answer.status_code == 200
        assert "default-src 'none'" in answer.headers["content-security-policy"]
        # the name of SVG's vocabulary is no address
        assert "//" not in answer.text.replace("http://www.w3.org/2000/svg", "").replace("// ", "")


@pytest.mark.parametrize(
    "wrong",
    [
        {"port": 70000},
        {"max_wait_s": 0},
        {"slo_ms": -1},
        {"slo_ms": float("nan")},
        {"slo_floor": 1.2},
        {"max_inputs": 0},
        {"cors_origins": ("*",)},
    ],
)
def test_settings_out_of_range(wrong: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=next(iter(wrong))):
        ServerSettings(**wrong)


def test_served_names(tmp_path: Path) -> None:
    folder = tmp_path / "my-model"
    folder.mkdir()
    assert served_name(str(folder)) == "my-model"
    assert served_name(os.path.relpath(folder)) == "my-model"
    assert served_name("org/model") == "org/model"
    assert served_name("mini", "other") == "other"
    for wrong in ("a b", "mini@2", "mini:x", "-x"):
        with pytest.raises(ConfigError, match="--name"):
            served_name("mini", wrong)
