"""The model in the package: loads offline, both languages, and its size."""

import zlib
from pathlib import Path

import numpy as np
import pytest

from jaspertc import Embedder
from jaspertc.checkpoint import resolve
from jaspertc.samples import load_samples


@pytest.fixture(scope="module")
def mini() -> Embedder:
    return Embedder.load("mini", device="cpu")


def test_size_and_card() -> None:
    folder = resolve("mini")
    files = [path for path in folder.rglob("*") if path.is_file() and path.suffix != ".pyc"]
    assert sum(len(zlib.compress(path.read_bytes())) for path in files) <= 40e6  # as in a wheel
    assert "Licence" in (folder / "README.md").read_text(encoding="utf-8")


def test_ranks_sentence_pairs_in_both_languages(mini: Embedder) -> None:
    pairs = load_samples("sts")
    vectors = {key: mini.encode([pair[key] for pair in pairs]) for key in ("sentence1", "sentence2")}
    cosines = (vectors["sentence1"] * vectors["sentence2"]).sum(1)
    scores = np.array([pair["score"] for pair in pairs])
    for lang in ("en", "zh", "en-zh"):
        chosen = np.array([pair["lang"] == lang for pair in pairs])
        ranks = [np.argsort(np.argsort(values[chosen])) for values in (cosines, scores)]
        assert np.corrcoef(*ranks)[0, 1] > 0.7, lang


def test_finds_short_passages_across_languages(mini: Embedder) -> None:
    """Short ones: long passages lose more to a short training run."""
    passages = [passage for passage in load_samples("passages") if len(passage["text"]) < 400]
    ids = {passage["id"]: passage for passage in passages}
    documents = mini.encode_document([passage["text"] for passage in passages])
    questions = [
        question
        for question in load_samples("questions")
        if question["passage"] in ids and question["lang"] != ids[question["passage"]]["lang"]
    ]
    scores = mini.encode_query([question["question"] for question in questions]) @ documents.T
    other = np.array([[q["lang"] != p["lang"] for p in passages] for q in questions])
    found = [passages[index]["id"] for index in np.where(other, scores, -1).argmax(1)]
    right = np.mean([name == question["passage"] for name, question in zip(found, questions)])
    assert right > 0.7


def test_the_folder_is_no_package_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``mini`` is the built-in model even where a folder of that name lies."""
    (tmp_path / "mini").mkdir()
    monkeypatch.chdir(tmp_path)
    assert (resolve("mini") / "config.json").is_file()
