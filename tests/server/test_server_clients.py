"""Clients that people use, against a running server. The optional ones skip where they are not installed."""

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jaspertc import Embedder

TEXTS = ["The ferry leaves the harbour at noon, weather permitting.", "山里的雪要到五月才会完全融化。"]
KEY = "k-0123456789abcdef"


@pytest.fixture(scope="module")
def keyed(start: Any, model: Embedder) -> Any:
    return start(model, api_keys=(KEY,))


def close(found: Any, expected: Any) -> None:
    np.testing.assert_allclose(np.array(found, dtype=np.float32), expected, atol=1e-6)


def test_openai_python(keyed: Any, model: Embedder) -> None:
    openai = pytest.importorskip("openai", reason="openai is not installed")
    client = openai.OpenAI(base_url=f"{keyed.url}/v1", api_key=KEY, max_retries=0)
    answer = client.embeddings.create(model="small", input=TEXTS)  # asks for base64 by itself
    close([row.embedding for row in answer.data], model.encode(TEXTS))
    assert answer.usage.prompt_tokens == sum(map(len, model.tokenize(TEXTS)))
    by_name = client.embeddings.create(model="small:query@0.25", input=TEXTS[0], encoding_format="float")
    close(by_name.data[0].embedding, model.encode(TEXTS[0], prompt_name="query", ratio=0.25))
    by_field = client.embeddings.create(
        model="small", input=TEXTS, dimensions=8, extra_body={"compression_ratio": 0.25}
    )
    close([row.embedding for row in by_field.data], model.encode(TEXTS, ratio=0.25, dims=8))
    assert by_field.compression["ratio"] == 0.25
    assert "small" in [found.id for found in client.models.list()]
    with pytest.raises(openai.BadRequestError, match="empty string") as refused:
        client.embeddings.create(model="small", input="")
    assert refused.value.param == "input"
    with pytest.raises(openai.NotFoundError):
        client.embeddings.create(model="other", input="a")
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="wrong").embeddings.create(model="small", input="a")


def test_openai_python_comes_back_after_429(start: Any, slowed: Any) -> None:
    openai = pytest.importorskip("openai", reason="openai is not installed")
    server = start(slowed(0.0, 0.3), max_requests=1)
    client = openai.OpenAI(base_url=f"{server.url}/v1", api_key="-", max_retries=5)
    asynchronous = subprocess.Popen(
        [
            *("curl", "-s", f"{server.url}/v1/embeddings", "-H", "Content-Type: application/json"),
            *("-d", json.dumps({"model": "small", "input": "a"}), "-o", "/dev/null"),
        ]
    )
    while server.metric("queue_seconds_count") < 1:
        pass
    assert len(client.embeddings.create(model="small", input="b").data) == 1
    assert asynchronous.wait(10) == 0
    assert server.metric("refused_total") >= 1


def test_curl(keyed: Any, model: Embedder) -> None:
    if shutil.which("curl") is None:
        pytest.skip("curl is not installed")
    body = {"model": "small", "input": TEXTS, "compression_ratio": 0.25}
    result = subprocess.run(
        [
            *("curl", "-s", f"{keyed.url}/v1/embeddings", "-H", f"Authorization: Bearer {KEY}"),
            *("-H", "Content-Type: application/json", "-d", json.dumps(body)),
        ],
        capture_output=True,
        check=True,
    )
    rows = json.loads(result.stdout)["data"]
    close([row["embedding"] for row in rows], model.encode(TEXTS, ratio=0.25))


def langchain(url: str, **options: Any) -> Any:
    embeddings = pytest.importorskip("langchain_openai", reason="langchain-openai is not installed")
    return embeddings.OpenAIEmbeddings(
        base_url=f"{url}/v1", api_key=KEY, model="small", max_retries=0, **options
    )


@pytest.fixture
def offline_tiktoken(monkeypatch: pytest.MonkeyPatch) -> None:
    """cl100k_base is downloaded at first use; one id a byte stands for it."""
    tiktoken = pytest.importorskip("tiktoken", reason="tiktoken is not installed")
    ranks = {bytes([value]): value for value in range(256)}
    encoding = tiktoken.Encoding("bytes", pat_str=r"[\s\S]", mergeable_ranks=ranks, special_tokens={})
    monkeypatch.setattr(tiktoken, "get_encoding", lambda _: encoding)


def test_langchain_sends_text_when_told(keyed: Any, model: Embedder) -> None:
    client = langchain(keyed.url, check_embedding_ctx_length=False)
    close(client.embed_documents(TEXTS), model.encode(TEXTS))
    close(client.embed_query(TEXTS[0]), model.encode(TEXTS[0]))


def test_langchain_sends_ids_by_default_and_is_told_what_to_do(keyed: Any, offline_tiktoken: None) -> None:
    openai = pytest.importorskip("openai")
    with pytest.raises(openai.BadRequestError, match="check_embedding_ctx_length=False"):
        langchain(keyed.url, check_embedding_ctx_length=True).embed_documents(TEXTS)


def test_langchain_with_the_models_own_tokenizer(
    keyed: Any, model: Embedder, model_folder: Path, tmp_path: Path
) -> None:
    """The other way to keep its length check: it cuts by our tokenizer and sends text."""
    transformers = pytest.importorskip("transformers", reason="transformers is not installed")
    tokenizer = transformers.PreTrainedTokenizerFast(tokenizer_file=str(model_folder / "tokenizer.json"))
    tokenizer.save_pretrained(tmp_path)
    client = langchain(keyed.url, tiktoken_enabled=False, tiktoken_model_name=str(tmp_path))
    assert client.check_embedding_ctx_length
    close(client.embed_documents(TEXTS), model.encode(TEXTS))


def test_llama_index(keyed: Any, model: Embedder) -> None:
    like = pytest.importorskip(
        "llama_index.embeddings.openai_like", reason="llama-index-embeddings-openai-like is not installed"
    )
    client = like.OpenAILikeEmbedding(
        model_name="small",
        api_base=f"{keyed.url}/v1",
        api_key=KEY,
        additional_kwargs={"extra_body": {"compression_ratio": 0.25}},
    )
    close(client.get_text_embedding_batch(TEXTS), model.encode(TEXTS, ratio=0.25))
    close(client.get_query_embedding(TEXTS[0]), model.encode(TEXTS[0], ratio=0.25))


NODE = """
const { OpenAI } = await import(process.argv[1]);
const client = new OpenAI({ baseURL: process.argv[2], apiKey: process.argv[3], maxRetries: 0 });
const texts = JSON.parse(process.argv[4]);
const found = await client.embeddings.create({ model: "small", input: texts, compression_ratio: 0.25 });
console.log(JSON.stringify(found.data.map((row) => Array.from(row.embedding))));
"""


@pytest.fixture(scope="session")
def npm_openai(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The npm package, installed by npm into a folder of its own."""
    if shutil.which("node") is None or shutil.which("npm") is None:
        pytest.skip("node and npm are not installed")
    folder = tmp_path_factory.mktemp("npm")
    command = ["npm", "install", "openai", "--no-audit", "--no-fund", "--ignore-scripts"]
    try:
        subprocess.run(command, cwd=folder, check=True, capture_output=True, timeout=60)
    except (subprocess.CalledProcessError, subprocess.TimeoutExpired):
        pytest.skip("npm cannot install openai here")
    return folder / "node_modules" / "openai" / "index.mjs"


def test_openai_node(keyed: Any, model: Embedder, npm_openai: Path) -> None:
    result = subprocess.run(
        [
            *("node", "--input-type=module", "-e", NODE),
            *(str(npm_openai), f"{keyed.url}/v1", KEY, json.dumps(TEXTS)),
        ],
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert result.returncode == 0, result.stderr
    close(json.loads(result.stdout), model.encode(TEXTS, ratio=0.25))
