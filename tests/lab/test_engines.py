"""Other engines compute the model's own backbone; else the comparison would be unfair."""

import numpy as np
import pytest

pytest.importorskip("transformers")

from jaspertc import Embedder
from jaspertc.checkpoint import load_checkpoint
from jaspertc.errors import InputError
from lab.compare.engines import NEEDS, PlainEngine
from lab.compare.sentences import write_plain_folder
from lab.compare.settings import read_contender


@pytest.fixture
def folders(hugging_face, tmp_path):
    """A model without compression, and its backbone for other engines."""
    folder, _ = hugging_face("bert")
    return folder, write_plain_folder(load_checkpoint(folder, pooler="mean"), tmp_path / "plain")


@pytest.mark.slow
@pytest.mark.parametrize("kind", NEEDS)
@pytest.mark.parametrize(("precision", "least"), [("float32", 0.99999), ("int8", 0.9)])
def test_same_vectors(folders, sentences, kind, precision, least):
    for package in NEEDS[kind]:
        pytest.importorskip(package)
    folder, plain = folders
    texts = [*sentences, "x", " ".join(sentences * 9)]
    engine = PlainEngine(kind, plain, precision=precision, batch=2, threads=1, positions=32)
    ours = Embedder.load(folder, device="cpu", dtype="float32", pooler="mean").encode(
        texts, prompt="", max_length=32
    )
    found = engine.embed(texts, None)
    assert (np.asarray(ours) * found).sum(1).min() > least
    assert engine.lengths(texts).max() == 32


def test_what_it_cannot_run_is_said(folders, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("lab.compare.engines.find_spec", lambda name: None)
        with pytest.raises(InputError, match="ct2 needs packages not installed: ctranslate2"):
            PlainEngine("ct2", folders[1], precision="int8", batch=2, threads=1, positions=32)
    with pytest.raises(InputError, match="it must be ours"):
        read_contender("ct2-bf16")
    assert read_contender("ort-int8").dtype == "int8"
