"""``jaspertc optimize`` on the real small model, and ``--runtime`` of the commands that load one."""

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jaspertc.cli import app
from jaspertc.cli.optimize import _drawn
from jaspertc.engine.embedder import Embedder
from jaspertc.errors import CheckpointError, DataFileError, InputError

run = CliRunner().invoke


@pytest.fixture
def texts(sentences: list[str], tmp_path: Path) -> Path:
    path = tmp_path / "texts.jsonl"
    rows = [{"id": place, "body": text} for place, text in enumerate(sentences)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return path


def test_writes_a_checkpoint_and_says_what_it_costs(
    texts: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    out = tmp_path / "small"
    options = ["--calibration", str(texts), "--text-field", "body", "--count", "4", "--max-length", "16"]
    monkeypatch.setenv("JASPERTC_CACHE", str(tmp_path / "cache"))
    result = run(app, ["optimize", "mini", str(out), *options])
    assert result.exit_code == 0, result.output
    assert "4 texts" in result.stderr
    (cosine,) = re.findall(r"lowest cosine to float32 +1 +([\d.]+)", result.stdout)
    assert float(cosine) >= 0.997
    size = (out / "model.safetensors").stat().st_size
    assert f"{size / 1e6:.1f} MB" in result.stdout
    assert re.search(r"left in bfloat16 +nothing", result.stdout)
    (fastest,) = re.findall(r"(openvino|onnxruntime|torch) (\w+) .* auto takes this", result.stdout)
    runtime = Embedder.load(out, device="cpu").runtime
    assert (runtime.name, runtime.precision) == fastest
    shown = run(app, ["inspect", "--runtimes", "--model", str(out)])
    assert "what may compute" in shown.stdout
    again = run(app, ["optimize", "mini", str(out), *options])
    assert isinstance(again.exception, CheckpointError)
    assert "already exists; choose another folder, or --overwrite" in str(again.exception)


def test_a_wrong_field_is_named(texts: Path, tmp_path: Path) -> None:
    result = run(app, ["optimize", "mini", str(tmp_path / "out"), "--calibration", str(texts)])
    assert isinstance(result.exception, DataFileError)
    assert "'text'" in str(result.exception)


def test_texts_are_drawn_from_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "many.txt"
    path.write_text("".join(f"{number}\n" for number in range(1000)), encoding="utf-8")
    found = [int(text) for text in _drawn(path, "text", 50)]
    assert found == [int(text) for text in _drawn(path, "text", 50)]
    assert len(set(found)) == 50
    assert min(found) < 150
    assert max(found) > 850
    assert len(_drawn(path, "text", 5000)) == 1000


@pytest.mark.parametrize("command", ["demo", "inspect", "index", "search", "embed", "evaluate", "serve"])
def test_the_runtime_reaches_the_model(
    command: str, texts: Path, tmp_path: Path, make_model: Callable[..., Path]
) -> None:
    index = str(tmp_path / "index.db")
    model = ["--model", str(make_model())]
    arguments = {
        "demo": model,
        "inspect": ["a text", *model],
        "index": [str(texts), "--text-field", "body", "--output", index, *model],
        "search": ["query", "--index", index, *model],
        "embed": [str(texts), "--text-field", "body", "--output", str(tmp_path / "out.npy"), *model],
        "evaluate": [model[1], "--local", "--output", str(tmp_path / "results")],
        "serve": [model[1], "--port", "0"],
    }
    if command == "search":
        made = run(app, ["index", *arguments["index"], "--runtime", "torch"])
        assert made.exit_code == 0, made.output
    if command == "evaluate":
        pytest.importorskip("mteb")
    result = run(app, [command, *arguments[command], "--runtime", "abacus"])
    assert isinstance(result.exception, InputError)
    known = "auto or one of torch, openvino"
    assert f"runtime is 'abacus', it must be {known}" in str(result.exception)


def test_workers_choose_their_own_runtime(texts: Path, tmp_path: Path) -> None:
    arguments = [str(texts), "--output", str(tmp_path / "out"), "--engine", "ray", "--runtime", "torch"]
    result = run(app, ["embed", *arguments])
    assert isinstance(result.exception, InputError)
    assert "leave it out" in str(result.exception)
