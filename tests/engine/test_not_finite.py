"""A vector that is not finite is an error that names its text, wherever vectors are made."""

import shutil

import numpy as np
import pytest
from safetensors.torch import load_file, save_file
from starlette.testclient import TestClient
from typer.testing import CliRunner

from jaspertc import Embedder
from jaspertc.cli import app
from jaspertc.errors import VectorError
from jaspertc.server.app import create_app
from jaspertc.server.settings import ServerSettings


@pytest.fixture
def broken(model_folder, tmp_path):
    """A model whose token table has one infinite row, and a text with that token."""
    folder = shutil.copytree(model_folder, tmp_path / "broken")
    path = folder / "model.safetensors"
    tensors = load_file(path)
    table = next(name for name in tensors if "embed_tokens" in name or "word_embeddings" in name)
    good = Embedder.load(model_folder)
    usual = {int(token) for ids in good.tokenize(["", "one two", "three"]) for token in ids}
    token = next(int(token) for token in good.tokenize(["zebra quartz"])[0] if int(token) not in usual)
    tensors[table][token] = float("inf")
    save_file(tensors, path, metadata={"format": "pt"})
    return folder


TEXTS = ["one two", "zebra quartz", "three"]


def test_encode_names_the_text(broken):
    model = Embedder.load(broken)
    assert np.isfinite(model.encode(TEXTS[::2])).all()
    with pytest.raises(VectorError, match="vector of text 1 is not finite"):
        model.encode(TEXTS)
    blocks = model.encode_stream(TEXTS, block_size=1)
    assert np.isfinite(next(blocks)).all()
    with pytest.raises(VectorError, match="text 1 "):
        next(blocks)


def test_embed_writes_nothing_that_is_not_finite(broken, tmp_path):
    (tmp_path / "texts.txt").write_text("\n".join(TEXTS) + "\n", encoding="utf-8")
    output = tmp_path / "vectors.jsonl"
    arguments = ["embed", str(tmp_path / "texts.txt"), "--output", str(output), "--model", str(broken)]
    result = CliRunner().invoke(app, arguments)
    assert result.exit_code != 0
    assert isinstance(result.exception, VectorError) or "not finite" in result.output
    assert not output.exists()


def test_the_server_refuses_and_goes_on(broken):
    model = Embedder.load(broken)
    with TestClient(create_app(model, ServerSettings(name="m")), base_url="http://127.0.0.1") as client:
        answer = client.post("/v1/embeddings", json={"model": "m", "input": TEXTS})
        assert answer.status_code == 500
        assert "vector of input 1 is not finite" in answer.json()["error"]["message"]
        assert client.post("/v1/embeddings", json={"model": "m", "input": TEXTS[0]}).status_code == 200
