"""Every address with every method, with and without slashes at its end."""

from typing import Any

import pytest

# address -> its method; bodies are sent to those that take POST
ADDRESSES = {
    "/": "GET",
    "/docs": "GET",
    "/health": "GET",
    "/info": "GET",
    "/metrics": "GET",
    "/openapi.json": "GET",
    "/ready": "GET",
    "/samples": "GET",
    "/static/app.js": "GET",
    "/v1/models": "GET",
    "/v1/models/small": "GET",
    "/v1/models/small@0.5": "GET",
    "/similarity": "POST",
    "/tokenize": "POST",
    "/v1/embeddings": "POST",
}
METHODS = ("GET", "HEAD", "POST", "OPTIONS", "PUT", "PATCH", "DELETE", "TRACE", "BREW")


def test_every_route_is_in_the_list(server: Any) -> None:
    named = {address.replace("small@0.5", "{name}") for address in ADDRESSES}
    paths = {path.replace(":path", "") for path in server.app.openapi()["paths"]}
    assert paths <= named | {"/v1/search"}  # which needs an index: test_server_search.py


def error_of(answer: Any) -> dict[str, Any]:
    error: dict[str, Any] = answer.json()["error"]
    assert set(error) == {"message", "type", "param", "code"}
    return error


@pytest.mark.parametrize("slashes", ["", "/", "//"])
@pytest.mark.parametrize("address", ADDRESSES)
@pytest.mark.parametrize("method", METHODS)
def test_every_method(server: Any, method: str, address: str, slashes: str) -> None:
    takes = ADDRESSES[address]
    body = {"json": {"model": "small", "input": ["a text"]}} if method == "POST" else {}
    answer = server.http.request(method, server.url + address + slashes, **body)
    allowed = "GET, HEAD, OPTIONS" if takes == "GET" else "OPTIONS, POST"
    if method == takes:
        assert answer.status_code == 200
        assert answer.content
    elif method == "HEAD" and takes == "GET":
        whole = server.http.get(address)
        assert answer.status_code == 200
        assert not answer.content
        assert answer.headers["content-type"] == whole.headers["content-type"]
        if address != "/metrics":  # which counts these very requests
            assert answer.headers["content-length"] == str(len(whole.content))
    elif method == "OPTIONS":
        assert (answer.status_code, answer.headers["allow"], answer.content) == (204, allowed, b"")
    else:
        assert answer.status_code == 405
        assert answer.headers["allow"] == allowed
        if method != "HEAD":
            assert error_of(answer)["code"] == "method_not_allowed"


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("address", ["/nothing", "/v1", "/v1/", "/v1/embeddings/x"])
def test_unknown_addresses(server: Any, method: str, address: str) -> None:
    answer = server.http.request(method, address)
    assert answer.status_code == 404
    if method != "HEAD":
        assert "no such address" in error_of(answer)["message"]


@pytest.mark.parametrize("address", ["/static/none.js", "/static/none.js/", "/v1/models/x"])
def test_unknown_things_at_known_addresses(server: Any, address: str) -> None:
    found = {method: server.http.request(method, address) for method in ("GET", "HEAD", "PUT")}
    assert [answer.status_code for answer in found.values()] == [404, 404, 405]
    assert error_of(found["GET"])["message"]


def test_open_addresses_stay_open_with_a_slash(start: Any, model: Any) -> None:
    server = start(model, api_keys=("k-0123456789abcdef",))
    for method, address, status in (("HEAD", "/health/", 200), ("GET", "/info/", 401)):
        answer = server.http.request(method, address, headers={"authorization": ""})
        assert answer.status_code == status


def test_the_same_vectors_with_a_slash(server: Any) -> None:
    body = {"model": "small", "input": "one text"}
    plain, slashed = (server.http.post(f"/v1/embeddings{end}", json=body) for end in ("", "/"))
    assert not slashed.history
    assert slashed.json()["data"] == plain.json()["data"]


def test_the_log_names_the_method_and_the_route(server: Any) -> None:
    before = server.metric('requests_total{path="/health"')
    for end in ("", "/"):
        server.http.head(f"/health{end}")
    assert server.metric('requests_total{path="/health"') == before + 2
