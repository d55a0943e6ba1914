"""OpenAI's contract, the dial, names, and vectors equal to the embedder's."""

import base64
import threading
from typing import Any

import numpy as np
import pytest

from jaspertc import Embedder

TEXTS = ["The ferry leaves the harbour at noon, weather permitting.", "山里的雪要到五月才会完全融化。", "a"]


def vectors(answer: Any) -> np.ndarray:
    assert answer.status_code == 200, answer.text
    return np.array([row["embedding"] for row in answer.json()["data"]], dtype=np.float32)


def test_the_contract(server: Any, model: Embedder) -> None:
    answer = server.embed({"model": "small", "input": TEXTS})
    body = answer.json()
    assert set(body) == {"object", "data", "model", "usage", "compression"}
    assert body["object"] == "list"
    assert [(row["object"], row["index"]) for row in body["data"]] == [("embedding", i) for i in range(3)]
    tokens = sum(map(len, model.tokenize(TEXTS)))
    assert body["usage"] == {"prompt_tokens": tokens, "total_tokens": tokens}
    np.testing.assert_allclose(vectors(answer), model.encode(TEXTS), atol=1e-6)
    one = server.embed({"model": "small", "input": TEXTS[0], "user": "someone"})
    np.testing.assert_allclose(vectors(one)[0], model.encode(TEXTS[0]), atol=1e-6)


def test_base64_is_little_endian_float32(server: Any) -> None:
    plain = vectors(server.embed({"model": "small", "input": TEXTS}))
    coded = server.embed({"model": "small", "input": TEXTS, "encoding_format": "base64"}).json()["data"]
    decoded = np.stack([np.frombuffer(base64.b64decode(row["embedding"]), dtype="<f4") for row in coded])
    np.testing.assert_array_equal(decoded, plain)


@pytest.mark.parametrize(
    ("name", "fields", "options"),
    [
        ("small", {"compression_ratio": 0.25}, {"ratio": 0.25}),
        ("small@0.25", {}, {"ratio": 0.25}),
        ("small:query", {}, {"prompt_name": "query"}),
        ("small:query@0.25", {}, {"prompt_name": "query", "ratio": 0.25}),
        ("small@0.25:query", {"prompt_name": "query"}, {"prompt_name": "query", "ratio": 0.25}),
        ("small", {"prompt": "Say: ", "max_compressed": 7}, {"prompt": "Say: ", "max_compressed": 7}),
        ("small", {"threshold": 20, "compression_ratio": 1}, {"threshold": 20, "ratio": 1}),
        ("small", {"dimensions": 8}, {"dims": 8}),
    ],
)
def test_the_dial(
    server: Any, model: Embedder, name: str, fields: dict[str, Any], options: dict[str, Any]
) -> None:
    answer = server.embed({"model": name, "input": TEXTS, **fields})
    np.testing.assert_allclose(vectors(answer), model.encode(TEXTS, **options), atol=1e-6)
    body = answer.json()
    ratio = options.get("ratio", model.default_ratio)
    assert body["model"] == name
    assert body["compression"]["ratio"] == ratio
    assert not body["compression"]["adapted"]
    assert float(answer.headers["x-compression-ratio"]) == ratio
    assert answer.headers["x-compressed-tokens"] == str(body["compression"]["compressed_tokens"])
    assert "compute;dur=" in answer.headers["server-timing"]


def test_a_large_request_is_split_and_stays_in_order(server: Any, model: Embedder) -> None:
    texts = [f"{'word ' * (i % 37)}{i}" for i in range(2048)]
    before = server.metric("compute_seconds_count")
    found = vectors(server.embed({"model": "small", "input": texts}))
    assert server.metric("compute_seconds_count") - before > 10
    np.testing.assert_allclose(found, model.encode(texts), atol=1e-5)


def test_many_clients_get_their_own_vectors(server: Any, model: Embedder) -> None:
    texts = [[f"{'so ' * (i % 11)}text {i} part {j}" for j in range(1 + i % 5)] for i in range(60)]
    expected = [model.encode(group) for group in texts]
    found: dict[int, np.ndarray] = {}

    def ask(number: int) -> None:
        for i in range(number, 60, 12):
            found[i] = vectors(server.embed({"model": "small", "input": texts[i]}))

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for i, vector in enumerate(expected):
        np.testing.assert_allclose(found[i], vector, atol=1e-5)


def test_models(server: Any) -> None:
    body = server.http.get("/v1/models").json()
    assert body["object"] == "list"
    assert [row["id"] for row in body["data"]] == ["small", "small:query", "small:document"]
    assert server.http.get("/v1/models/small:query@0.5").json()["id"] == "small:query@0.5"
    assert server.http.get("/v1/models/other").status_code == 404


def test_tokenize_and_similarity(server: Any, model: Embedder) -> None:
    body = {"input": TEXTS, "compression_ratio": 0.5, "prompt": ""}
    rows = server.http.post("/tokenize", json=body).json()["data"]
    for row, ids in zip(rows, model.tokenize(TEXTS)):
        assert row["ids"] == ids.tolist()
        assert len(row["pieces"]) == len(ids)
        assert len(row["windows"]) == row["compressed"]
        assert row["windows"][-1][1] == len(ids)
    found = server.http.post("/similarity", json={"input": TEXTS, "other": TEXTS[:1], "model": "small@0.5"})
    vector = model.encode(TEXTS, ratio=0.5)
    expected = model.similarity(vector, vector[:1])
    np.testing.assert_allclose(found.json()["similarities"], expected, atol=1e-6)
    square = server.http.post("/similarity", json={"input": TEXTS}).json()["similarities"]
    assert np.array(square).shape == (3, 3)


def test_health_metrics_and_document(server: Any) -> None:
    assert server.http.get("/health").json() == {"status": "ok"}
    assert server.http.get("/ready").json() == {"status": "ready"}
    text = server.http.get("/metrics").text
    for name in (
        "requests_total",
        "queue_requests",
        "tokenize_seconds_bucket",
        "compute_seconds_bucket",
        "queue_seconds_bucket",
        "tokens_total",
        "compressed_tokens_total",
        "compression_ratio_bucket",
        "batch_fill_bucket",
    ):
        assert f"jaspertc_{name}" in text
    document = server.http.get("/openapi.json").json()
    assert {"/v1/embeddings", "/v1/models", "/tokenize", "/similarity"} <= set(document["paths"])
    assert "compression_ratio" in document["components"]["schemas"]["EmbeddingRequest"]["properties"]


def test_token_ids_when_allowed(start: Any, model: Embedder) -> None:
    server = start(model, allow_token_ids=True)
    rows = [row.tolist() for row in model.tokenize(TEXTS)]
    answer = server.embed({"model": "small@0.25", "input": rows})
    np.testing.assert_allclose(vectors(answer), model.encode_ids(rows, ratio=0.25), atol=1e-6)
    np.testing.assert_allclose(
        vectors(server.embed({"model": "small", "input": rows[0]})), model.encode_ids(rows[:1]), atol=1e-6
    )
    for wrong in ([1, 99999], [[1], [-1]], [[1], []], [[1], ["a"]], [1, "a"], [[1], 2]):
        answer = server.embed({"model": "small", "input": wrong})
        assert answer.status_code == 400, wrong
    assert server.embed({"model": "small:query", "input": rows}).status_code == 400
