"""An export in Node: tokenizer and vectors as in Python, and that the dial needs --no-defaults there."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from jaspertc import Embedder
from jaspertc.checkpoint import load_checkpoint
from jaspertc.export.write import export
from jaspertc.samples import load_samples

PAGE = Path(__file__).parents[2] / "docs" / "export.md"


@pytest.fixture(scope="module")
def run(node_modules: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., list[list[float]]]:
    """Run the program that docs/export.md prints: a folder, a ratio and texts to vectors."""
    if not shutil.which("node") or not (node_modules / "onnxruntime-node").is_dir():
        pytest.skip("node or onnxruntime-node is not installed")
    folder = tmp_path_factory.mktemp("node")
    (folder / "node_modules").symlink_to(node_modules)
    program = PAGE.read_text(encoding="utf-8").split("```js\n")[1].split("```")[0]
    (folder / "embed.mjs").write_text(program)

    def run(model: Path, ratio: float, texts: list[str], threshold: int) -> list[list[float]]:
        command = ["node", "embed.mjs", str(model), str(ratio), json.dumps(texts), str(threshold)]
        environment = {**os.environ, "NODE_NO_WARNINGS": "1"}
        done = subprocess.run(
            command, cwd=folder, capture_output=True, text=True, env=environment, check=False
        )
        assert done.returncode == 0, done.stderr
        found: list[list[float]] = json.loads(done.stdout.splitlines()[-1])
        return found

    return run


@pytest.mark.parametrize("tokenizer", ["unigram", "wordpiece", "bpe"])
def test_vectors_are_those_of_python(make_model, run, tmp_path, tokenizer):
    folder = make_model(tokenizer=tokenizer)
    embedder = Embedder.load(folder, device="cpu", dtype="float32", runtime="torch")
    export(folder, tmp_path / "model.onnx", defaults=False)
    texts = [passage["text"] for passage in load_samples("passages")[::12]]
    for ratio in (1.0, 0.3):
        expected = embedder.encode(texts, prompt="", ratio=ratio)
        np.testing.assert_allclose(run(tmp_path, ratio, texts, 8), expected, rtol=0, atol=1e-4)


def test_minis_tokenizer_gives_the_same_ids(exported, run, tmp_path):
    """With another id, vectors of one and the same graph would differ by far more."""
    export("mini", tmp_path / "model.onnx", weights="int8", defaults=False)
    graph = exported("mini", weights="int8")
    texts = [passage["text"][:300] for passage in load_samples("passages")[::6]]
    texts += ["", " ", "a\u200bb\u3000c é", "ＡＢＣ１２３ ﬁ", "a\tb\n\nc  d", "😀 日本語 κόσμε"]
    rows = load_checkpoint("mini").tokenizer.encode_batch(texts)
    expected = np.concatenate([graph([row], ratio=0.5, output="embedding") for row in rows])
    found = np.array(run(tmp_path, 0.5, texts, 80))
    assert (found * expected).sum(1).min() > 0.9999
