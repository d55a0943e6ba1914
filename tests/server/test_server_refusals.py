"""Whatever is wrong with a request is a clear 4xx in OpenAI's form, and its text comes back nowhere."""

import json
import logging
import socket
import time
from typing import Any

import pytest

from jaspertc.server.schema import EmbeddingRequest

SECRET = "the-secret-words"


def refusal(answer: Any, status: int) -> dict[str, Any]:
    assert answer.status_code == status, answer.text[:300]
    error = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    assert error["message"]
    assert SECRET not in answer.text
    return error


@pytest.mark.parametrize(
    ("change", "param", "words"),
    [
        ({"input": ""}, "input", "input 0 is an empty string"),
        ({"input": [SECRET, ""]}, "input", "input 1 is an empty string"),
        ({"input": []}, "input", "0 entries"),
        ({"input": ["a"] * 2049}, "input", "2,049 entries, it must have 1 ... 2,048"),
        ({"input": None}, "input", "null"),
        ({"input": {"text": SECRET}}, "input", "image"),
        ({"input": [SECRET, 7]}, "input", "input 1 is of type number"),
        ({"input": [7, SECRET]}, "input", "input 1 is of type str, it must be a token id"),
        ({"input": [[SECRET]]}, "input", "one or more token ids"),
        ({"input": [True]}, "input", "boolean"),
        ({"input": [1, 2, 3]}, "input", "check_embedding_ctx_length=False"),
        ({"input": [[1, 2], [3]]}, "input", "check_embedding_ctx_length=False"),
        ({"input": "word " * 3000}, "input", "the limit is 2,000"),
        ({"input": "x" * 40_000}, "input", "40,000 characters"),
        ({"compression_ratio": 0}, "compression_ratio", "greater than 0"),
        ({"compression_ratio": 1.5}, "compression_ratio", "less than or equal to 1"),
        ({"compression_ratio": "0.5"}, "compression_ratio", "number"),
        ({"compression_ratio": True}, "compression_ratio", "number"),
        ({"max_compressed": 0}, "max_compressed", "greater than or equal to 1"),
        ({"max_compressed": 2.5}, "max_compressed", "integer"),
        ({"threshold": -1}, "threshold", "greater than"),
        ({"image_tokens": 4}, "image_tokens", "it is for pictures"),
        ({"dimensions": 9}, "dimensions", "trained for 8, 16, 24"),
        ({"encoding_format": "hex"}, "encoding_format", "float"),
        ({"prompt_name": "nope"}, "prompt_name", "query, document"),
        ({"prompt_name": "query", "prompt": "x"}, "prompt_name", "not both"),
        ({"model": "small:query", "prompt": "x"}, "prompt", "contradict"),
        ({"model": "small@0.5", "compression_ratio": 0.4}, "compression_ratio", "contradict"),
        ({"model": "small@7"}, "model", "(0, 1]"),
        ({"model": "small@0.0.1"}, "model", "(0, 1]"),
        ({"model": 3}, "model", "string"),
        ({"compresion_ratio": 0.5}, "compresion_ratio", "did you mean 'compression_ratio'"),
    ],
)
def test_bad_fields(server: Any, change: dict[str, Any], param: str, words: str) -> None:
    error = refusal(server.embed({"model": "small", "input": SECRET} | change), 400)
    assert error["param"] == param
    assert words in error["message"]
    assert error["type"] == "invalid_request_error"


def test_nothing_has_no_rest(server: Any) -> None:
    error = refusal(server.embed({"model": "small", "input": []}), 400)
    assert error["message"] == "input has 0 entries, it must have 1 ... 2,048"


@pytest.mark.parametrize(
    "name", ["gpt-4", "small:nope", "small:query:query", "small@0.5@0.5", "small-2", "", "small:"]
)
def test_unknown_models(server: Any, name: str) -> None:
    error = refusal(server.embed({"model": name, "input": "a"}), 404)
    assert error["code"] == "model_not_found"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"text"',
        b"\xff\xfe",
        b'{"model": "small", "input": "\xff"}',
        b'{"model": "small", "input": "\\ud800"}',
        b'{"model": "small", "input": ["a", "\\udfff b"]}',
        b'{"model": "small", "input": "a", "compression_ratio": NaN}',
        b'{"model": "small", "input": "a", "compression_ratio": Infinity}',
        b'{"model": "small", "input": "a", "compression_ratio": 1e999}',
        b'{"model": "small", "input": ' + b"[" * 5000 + b"]" * 5000 + b"}",
        b'{"model": "small", "input": [' + b"1," * 100_000 + b"1]}",
    ],
)
def test_bodies_that_are_no_request(server: Any, body: bytes) -> None:
    answer = server.http.post("/v1/embeddings", content=body, headers={"content-type": "application/json"})
    refusal(answer, 400)


def test_a_text_that_is_too_long_is_named_as_the_client_calls_it(server: Any) -> None:
    for long in ("bread " * 40_000, "x" * 600_000):
        answer = server.http.post("/similarity", json={"input": ["a", "b"], "other": ["c", long]})
        error = refusal(answer, 400)
        assert error["param"] == "other"
        assert error["message"].startswith("other 1 has ")


def test_content_type_method_and_address(server: Any) -> None:
    body = json.dumps({"model": "small", "input": "a"})
    for kind in ("text/plain", "application/x-www-form-urlencoded"):
        refusal(server.http.post("/v1/embeddings", content=body, headers={"content-type": kind}), 415)
    assert refusal(server.http.get("/v1/embeddings"), 405)["message"].startswith("this address")
    for path in ("/v1/completions", "/static/../app.py", "/static/..%2fapp.py", "/static/secret", "/%00"):
        refusal(server.http.get(path), 404)


@pytest.mark.parametrize("path", ["/v1/embeddings", "/tokenize", "/similarity", "/v1/search"])
@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("content-encoding", "gzip", "the content encoding is 'gzip'"),
        ("content-encoding", "BR", "the content encoding is 'br'"),
        ("content-encoding", "identity, gzip", "the content encoding is 'identity, gzip'"),
        ("content-type", "application/json; charset=utf-16", "the charset is 'utf-16'"),
        ("content-type", 'application/json;x=1;Charset="latin1"', "the charset is '\"latin1\"'"),
        ("content-type", "application/json; charset=", "the charset is ''"),
    ],
)
def test_bodies_that_are_not_plain_utf_8(server: Any, path: str, name: str, value: str, words: str) -> None:
    headers = {"content-type": "application/json", name: value}
    answer = server.http.post(path, content=json.dumps({"input": SECRET}), headers=headers)
    assert words in refusal(answer, 415)["message"]
    if name == "content-encoding":
        assert answer.headers["accept-encoding"] == "identity"


@pytest.mark.parametrize(
    ("kind", "encoding"),
    [
        ("application/json", "identity"),
        ("application/json", ""),
        ("application/json; charset=utf-8", ""),
        ('Application/JSON;charset="UTF-8"', "Identity"),
        ("application/json;", ""),
        ("application/json; x=y", ""),
    ],
)
def test_plain_utf_8_is_read(server: Any, kind: str, encoding: str) -> None:
    headers = {"content-type": kind, "content-encoding": encoding}
    body = json.dumps({"model": "small", "input": "a"})
    assert server.http.post("/v1/embeddings", content=body, headers=headers).status_code == 200


def test_large_bodies(start: Any, model: Any) -> None:
    server = start(model, max_request_bytes=100_000)
    error = refusal(server.embed({"model": "small", "input": "x" * 500_000}), 413)
    assert "100,000 bytes" in error["message"]
    pieces = (b"x" * 10_000 for _ in range(40))  # chunked: no length is announced
    headers = {"content-type": "application/json"}
    refusal(server.http.post("/v1/embeddings", content=pieces, headers=headers), 413)
    assert server.http.get("/health").status_code == 200


def test_ten_megabytes(server: Any) -> None:
    started = time.perf_counter()
    refusal(server.embed({"model": "small", "input": "word " * 2_000_000}), 413)
    refusal(server.embed({"model": "small", "input": ["word " * 1_000_000] * 1}), 400)
    assert time.perf_counter() - started < 10


def test_too_many_tokens_together(start: Any, model: Any) -> None:
    server = start(model, max_request_tokens=100)
    error = refusal(server.embed({"model": "small", "input": ["some words here"] * 50}), 400)
    assert "the limit is 100" in error["message"]


def test_slow_clients(start: Any, model: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("jaspertc.server.run.HEAD_SECONDS", 0.3)
    server = start(model, body_timeout_s=0.3)
    port = int(server.url.rpartition(":")[2])
    with socket.create_connection(("127.0.0.1", port), timeout=5) as body_stalls:
        head = "POST /v1/embeddings HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/json\r\n"
        body_stalls.sendall(f"{head}Content-Length: 50\r\n\r\n{{".encode())
        assert b" 408 " in body_stalls.recv(4096).split(b"\r\n")[0]
    with socket.create_connection(("127.0.0.1", port), timeout=5) as head_stalls:
        head_stalls.sendall(b"POST /v1/emb")
        assert head_stalls.recv(4096) == b""


def test_nothing_of_a_text_is_logged(server: Any, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.DEBUG):
        server.embed({"model": "small", "input": SECRET})
        server.embed({"model": "small", "input": [SECRET, ""]})
        server.embed({"model": SECRET, "input": SECRET})
        server.http.get(f"/{SECRET}?q={SECRET}")
    ours = [record.getMessage() for record in caplog.records if record.name.startswith("jaspertc")]
    assert len(ours) == 4
    assert not any(SECRET in message for message in ours)
    assert SECRET not in server.http.get("/metrics").text


def test_no_field_is_undocumented() -> None:
    for name, field in EmbeddingRequest.model_fields.items():
        assert field.description, name
