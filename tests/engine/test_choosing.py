"""What ``auto`` takes: the rule, and what was measured on this machine."""

import json
from pathlib import Path

import numpy as np
import pytest

from jaspertc import Embedder
from jaspertc.checkpoint import load_checkpoint, resolve
from jaspertc.engine.measuring import measure_runtimes
from jaspertc.engine.runtimes import choosing
from jaspertc.engine.runtimes.choosing import Candidate, Measured, candidates, remembered
from jaspertc.errors import InputError


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("JASPERTC_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(choosing, "ROUNDS", 1)
    return tmp_path / "cache"


def stored(cache: Path) -> Path:
    (path,) = (cache / "runtimes").iterdir()
    return path


def change(path: Path, **fastest: float) -> None:
    """Make one candidate, by runtime and dtype, the fastest by far."""
    content = json.loads(path.read_text())
    for item in content["candidates"]:
        item["query_ms"] = item["text_ms"] = fastest.get(f"{item['runtime']}_{item['dtype']}", 100.0)
    path.write_text(json.dumps(content))


def test_auto_takes_what_was_the_fastest(cache: Path, model_folder: Path) -> None:
    measured = measure_runtimes(model_folder)
    names = [(item.runtime, item.dtype) for item in measured.candidates]
    assert names == candidates(load_checkpoint(model_folder, keep_int8=True))
    assert ("torch", "float32") in names
    assert ("openvino", "float32") in names
    assert all(item.query_ms > 0 for item in measured.candidates)
    assert all(item.cosine > 0.999 for item in measured.candidates)
    assert measure_runtimes(model_folder) == measured  # not measured again
    for name in ("torch", "openvino"):
        change(stored(cache), **{f"{name}_float32": 1.0})
        assert Embedder.load(model_folder, device="cpu").runtime.name == name
    assert Embedder.load(model_folder, device="cpu", dtype="float32").runtime.name == "torch"
    assert Embedder.load(model_folder, device="cpu", runtime="torch").runtime.name == "torch"


def test_expanded_int8_weights_give_the_vectors_of_float32(cache: Path) -> None:
    exact = Embedder.load("mini", device="cpu", runtime="torch", dtype="float32")
    expanded = Embedder.load("mini", device="cpu", runtime="openvino", dtype="float32")
    texts = ["A river flows to the sea.", "面包会发起来。"]
    assert np.abs(exact.encode(texts) - expanded.encode(texts)).max() < 1e-4


def test_what_is_not_near_enough_is_not_taken() -> None:
    far = Candidate(runtime="openvino", dtype="int8", query_ms=1, text_ms=1, cosine=0.99)
    near = Candidate(runtime="torch", dtype="float32", query_ms=9, text_ms=9, cosine=1)
    assert Measured(made_of={}, candidates=(far, near)).fastest == near


@pytest.mark.parametrize("content", ["", "{", "[]", '{"made_of": 1, "candidates": [{}]}', "\udc80"])
def test_a_damaged_file_is_as_none(cache: Path, model_folder: Path, content: str) -> None:
    measure_runtimes(model_folder)
    stored(cache).write_bytes(content.encode(errors="surrogateescape"))
    assert remembered(load_checkpoint(model_folder, keep_int8=True)) is None
    assert Embedder.load(model_folder, device="cpu").runtime.name == "torch"


def test_other_files_threads_or_versions_are_measured_anew(
    cache: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    measure_runtimes(model_folder)
    assert remembered(load_checkpoint(resolve("mini"), keep_int8=True)) is None
    checkpoint = load_checkpoint(model_folder, keep_int8=True)
    assert remembered(checkpoint) is not None
    monkeypatch.setattr(choosing, "versions", lambda *names: {"torch": "1.0"})
    assert remembered(checkpoint) is None


def test_a_cache_that_cannot_be_written_is_named(
    tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("JASPERTC_CACHE", str(tmp_path / "file"))
    monkeypatch.setattr(choosing, "ROUNDS", 1)
    with pytest.raises(InputError, match="set JASPERTC_CACHE to a folder"):
        measure_runtimes(model_folder)
