"""Exports in other Python packages: FastEmbed, and sentence-transformers' ONNX backend."""

import numpy as np
import pytest

from jaspertc import Embedder
from jaspertc.export.write import export
from jaspertc.samples import load_samples


@pytest.fixture(scope="module")
def texts() -> list[str]:
    return [passage["text"] for passage in load_samples("passages")[::12]]


def test_fastembed(make_model, tmp_path, texts):
    fastembed = pytest.importorskip("fastembed")
    from fastembed.common.model_description import ModelSource, PoolingType

    folder = make_model(tokenizer="unigram")
    export(folder, tmp_path / "model.onnx", ratio=0.3)
    fastembed.TextEmbedding.add_custom_model(
        model="jaspertc/test",
        pooling=PoolingType.DISABLED,
        normalization=False,
        sources=ModelSource(url="https://example.invalid/model"),
        dim=24,
        model_file="model.onnx",
    )
    model = fastembed.TextEmbedding("jaspertc/test", specific_model_path=str(tmp_path))
    embedder = Embedder.load(folder, device="cpu", dtype="float32", runtime="torch")
    expected = embedder.encode(texts, prompt="", ratio=0.3)
    np.testing.assert_allclose(np.array([*model.embed(texts)]), expected, rtol=0, atol=1e-4)
