"""Int8 matrices as they lie in their file: the same values, mapped, and given back."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file

from jaspertc import Embedder
from jaspertc.checkpoint import load_checkpoint, save_checkpoint
from jaspertc.errors import CheckpointError
from jaspertc.model.int8 import Int8Embedding, Int8Linear, Int8Matrix, dequantize

BACKBONES: dict[str, dict[str, Any]] = {
    "qwen3": {},
    "bert": {"kind": "bert", "num_kv_heads": 4, "causal": False},
}


@pytest.fixture(params=BACKBONES)
def folder(request: pytest.FixtureRequest, make_model: Callable[..., Path]) -> Path:
    return make_model(backbone=BACKBONES[request.param], save={"weights": "int8"})


def test_kept_matrices_have_the_same_values(folder: Path) -> None:
    plain = load_checkpoint(folder)
    kept = load_checkpoint(folder, keep_int8=True)
    modules = dict(kept.encoder.named_modules())
    small = [name for name, module in modules.items() if isinstance(module, Int8Matrix)]
    assert isinstance(kept.encoder.backbone.token_table, Int8Embedding)
    assert sum(isinstance(modules[name], Int8Linear) for name in small) >= 12
    assert all(name.startswith("backbone.") for name in small)
    assert not any(isinstance(module, Int8Matrix) for module in plain.encoder.modules())
    ids = torch.tensor([3, 0, 250])
    table = kept.encoder.backbone.token_table
    assert torch.equal(table(ids), plain.encoder.backbone.token_table(ids))
    x = torch.linspace(-1, 1, 2 * 32).view(2, 32)
    for name in small:
        other = plain.encoder.get_submodule(name)
        if isinstance(modules[name], Int8Linear) and modules[name].weight.shape[1] == 32:
            assert torch.equal(modules[name](x), other(x))
    dequantize(kept.encoder)
    expected = plain.encoder.state_dict()
    assert set(kept.encoder.state_dict()) == set(expected)
    for name, weight in kept.encoder.state_dict().items():
        assert torch.equal(weight, expected[name]), name


def test_pages_given_back_are_read_again(folder: Path) -> None:
    kept = load_checkpoint(folder, keep_int8=True)
    assert kept.mapped is not None
    stored = load_file(folder / "model.safetensors")
    assert set(kept.mapped.tensors) == {name for name, part in stored.items() if part.dtype == torch.int8}
    with kept.mapped.releasing():
        assert all(torch.equal(part, stored[name]) for name, part in kept.mapped.tensors.items())
    kept.mapped.release()
    assert all(torch.equal(part, stored[name]) for name, part in kept.mapped.tensors.items())


def test_saved_again_as_it_was(folder: Path, tmp_path: Path) -> None:
    kept = load_checkpoint(folder, keep_int8=True)
    again = save_checkpoint(tmp_path / "again", kept.encoder, tokenizer_json=None)
    before, after = (load_file(place / "model.safetensors") for place in (folder, again))
    assert set(after) - set(before) == set()
    for name, part in after.items():
        if part.dtype == torch.int8:
            assert torch.equal(part, before[name])
            assert torch.equal(after[f"{name}.scale"], before[f"{name}.scale"])
    wide = save_checkpoint(tmp_path / "wide", kept.encoder, tokenizer_json=None, weights="float32")
    assert {part.dtype for part in load_file(wide / "model.safetensors").values()} == {torch.float32}


def test_nothing_is_kept_where_nothing_is_int8(model_folder: Path) -> None:
    checkpoint = load_checkpoint(model_folder, keep_int8=True)
    assert checkpoint.mapped is None
    assert not any(isinstance(module, Int8Matrix) for module in checkpoint.encoder.modules())


@pytest.mark.parametrize("keep", [True, False])
def test_a_layer_without_its_scales(folder: Path, tmp_path: Path, keep: bool) -> None:
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in tensors if name.endswith(".weight.scale") and ".0." in name)
    tensors[name] = tensors[name][:-1].clone()
    for file in folder.glob("*.json"):
        (tmp_path / file.name).write_bytes(file.read_bytes())
    save_file(tensors, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=f"has no per-row '{name}'"):
        load_checkpoint(tmp_path, keep_int8=keep)


def test_the_torch_runtime_computes_in_float(folder: Path) -> None:
    model = Embedder.load(folder, runtime="torch", device="cpu")
    assert not any(isinstance(module, Int8Matrix) for module in model.checkpoint.encoder.modules())
    assert model.encode("some text").shape == (24,)


@pytest.mark.parametrize("runtime", ["torch", "openvino"])
def test_loading_does_not_import_compilers(folder: Path, runtime: str) -> None:
    """PyTorch's compiler and sympy take seconds and 150 MB; a stray operation on meta tensors loads them."""
    pytest.importorskip("openvino")
    code = (
        "import sys; from jaspertc import Embedder\n"
        f"Embedder.load({str(folder)!r}, device='cpu', runtime={runtime!r}).encode('some text')\n"
        "print([name for name in ('sympy', 'torch._dynamo', 'torch._inductor') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
