"""CONTRIBUTING's "how to add", done: its code adds a compressor, a backbone, a kind of teacher and a reducer.

Each is a class and an entry in a dict. They are grafted, trained, saved, loaded and embedded with; the
teacher teaches a few texts, and the reducer takes part in the fused targets.
"""

import itertools
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from jaspertc import Embedder, teach
from jaspertc.checkpoint import load_checkpoint, save_checkpoint
from jaspertc.checkpoint.parts import with_compressor
from jaspertc.checkpoint.surgery import graft
from jaspertc.config import BackboneConfig, ModelConfig
from jaspertc.errors import CheckpointError, ConfigError, InputError
from jaspertc.export.write import export
from jaspertc.model.backbones import BACKBONES
from jaspertc.model.compressors import COMPRESSORS
from jaspertc.model.cost import encoder_flops, text_flops
from jaspertc.model.encoder import Encoder
from jaspertc.recipe.objective import Objective
from jaspertc.recipe.recipe import read_recipe
from jaspertc.recipe.stages import TextStage, with_compressor_keys
from jaspertc.teachers import TEACHERS
from jaspertc.teachers.fusion import REDUCERS, unit
from jaspertc.teaching.targets import Targets
from jaspertc.text.packing import pack
from jaspertc.train.step import StepBatch, accumulate_gradients

PAGE = Path(__file__).parents[2] / "CONTRIBUTING.md"
REGISTRIES: tuple[dict[str, Any], ...] = (COMPRESSORS, BACKBONES, TEACHERS, REDUCERS)
SHAPE = {"vocabulary": 60, "width": 16, "layers": 3}


@pytest.fixture(scope="module", autouse=True)
def toys() -> Iterator[ModuleType]:
    """What the page's code defines; it is in the registries as long as these tests run."""
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)
    assert len(blocks) == 4
    module = ModuleType("contributing")
    before = [dict(registry) for registry in REGISTRIES]
    sys.modules[module.__name__] = module  # where dataclasses look for their annotations
    try:
        for block in blocks:
            exec(compile(block, str(PAGE), "exec"), vars(module))
        yield module
    finally:
        del sys.modules[module.__name__]
        for registry, content in zip(REGISTRIES, before):
            registry.clear()
            registry.update(content)


def shape() -> BackboneConfig:
    return BACKBONES["plain"].read_hugging_face(SHAPE)


def encoder() -> Encoder:
    torch.manual_seed(0)
    return Encoder(ModelConfig(backbone=shape())).eval()


OBJECTIVE = Objective(cosine=10)
ROWS = [np.arange(3, 40), np.arange(10, 16), np.array([5])]


def expected(weights: Mapping[str, Tensor], share: float, ids: np.ndarray, target: int) -> Tensor:
    """The whole model on one text, written out."""
    words = weights["backbone.words.weight"][torch.from_numpy(ids)]
    x = words * weights["compressor.scale"] - weights["compressor.offset"]
    x = x + share * torch.cat([torch.zeros(1, x.shape[1]), x[:-1]])
    edges = [i * len(ids) // target for i in range(target + 1)]
    x = torch.stack([x[begin:end].mean(0) for begin, end in itertools.pairwise(edges)])
    for number in range(3):
        weight, bias = (weights[f"backbone.blocks.{number}.{part}"] for part in ("weight", "bias"))
        x = x + torch.tanh(x @ weight.T + bias)
    return x.mean(0)


def test_trained_saved_loaded_and_embedded(tmp_path: Path, toys: ModuleType) -> None:
    student = with_compressor(encoder(), "blend-little", keys={"share": 0.25})
    assert torch.equal(student.compressor.offset, student.backbone.words.weight.mean(0))
    before = {name: value.clone() for name, value in student.state_dict().items()}
    optimiser = torch.optim.SGD(student.parameters(), lr=0.1)
    batch = StepBatch(rows=ROWS, teacher=np.eye(3, 16, dtype=np.float32), ids=["a", "b", "c"])
    accumulate_gradients(student.train(), batch, OBJECTIVE, token_budget=100, ratio=0.5, threshold=8, seed=0)
    optimiser.step()
    weights = student.eval().state_dict()
    for name in ("compressor.scale", "compressor.offset", "backbone.blocks.1.weight"):
        assert not torch.equal(before[name], weights[name]), name

    folder = save_checkpoint(tmp_path / "model", student, tokenizer_json=None)
    stored = load_file(folder / "model.safetensors")
    assert {"toy_scale", "compressor.offset", "model.blocks.2.bias"} <= stored.keys()
    model = Embedder.load(folder, device="cpu")
    assert model.config == student.config
    assert model.config.compressor == toys.BlendConfig(share=0.25)
    vectors = model.encode_ids(ROWS, ratio=0.5, threshold=8, normalize=False)
    for ids, vector in zip(ROWS, vectors):
        target = int(model.target_lengths(np.array([len(ids)]), ratio=0.5, threshold=8)[0])
        torch.testing.assert_close(torch.from_numpy(vector), expected(weights, 0.25, ids, target))


def test_grafted_and_planned() -> None:
    source = encoder()
    student = graft(source, layers=[0, 2], compressor="blend", keys={"share": 0.0}, ratio=0.3)
    assert (student.config.compressor.kind, student.config.compressor.ratio) == ("blend", 0.3)
    for mine, place in zip(student.backbone.blocks, (0, 2)):
        assert torch.equal(mine.weight, source.backbone.blocks[place].weight)
    config = student.config
    assert encoder_flops(config, 100, 40) == text_flops(config.backbone, 40) + 2 * 16 * 100
    bounds = student.compressor.window_bounds(np.arange(5), 3)
    assert bounds == [(0, 1), (1, 3), (3, 5)]


def test_exported(tmp_path: Path) -> None:
    """The backbone with a compressor that has a graph; ``blend``, whose forward is its own, has none."""
    ort = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    student = with_compressor(encoder(), "fractional-average")
    folder = save_checkpoint(tmp_path / "model", student.eval(), tokenizer_json=None)
    export(folder, tmp_path / "out" / "model.onnx")
    ids, mask = np.zeros((2, len(ROWS), 40), np.int64)
    for place, row in enumerate(ROWS):
        ids[place, : len(row)], mask[place, : len(row)] = row, 1
    session = ort.InferenceSession(str(tmp_path / "out" / "model.onnx"))
    feeds = {"input_ids": ids, "attention_mask": mask, "ratio": np.array([0.5]), "threshold": np.array([8])}
    expected = Embedder.load(folder, device="cpu").encode_ids(ROWS, ratio=0.5, threshold=8)
    np.testing.assert_allclose(session.run(["embedding"], feeds)[0], expected, atol=1e-5)
    with pytest.raises(InputError, match="has layers of qwen3, bert, not of 'plain'"):
        Embedder.load(folder, device="cpu", runtime="openvino")
    folder = save_checkpoint(
        tmp_path / "blended", with_compressor(encoder(), "blend").eval(), tokenizer_json=None
    )
    with pytest.raises(CheckpointError, match=r"compressor 'blend'.*cannot be exported"):
        export(folder, tmp_path / "out" / "blended.onnx")


def test_a_stage_asks_for_it_with_its_own_keys() -> None:
    table = with_compressor_keys({"name": "two", "compressor": "blend", "share": 0.25, "steps": 3})
    stage = TextStage(**table, learning_rate=1e-3, objective=OBJECTIVE)
    assert (stage.compressor, stage.compressor_keys) == ("blend", {"share": 0.25})
    assert (
        with_compressor(encoder(), stage.compressor, keys=stage.compressor_keys).config.compressor.share
        == 0.25
    )
    with pytest.raises(ConfigError, match=r"did you mean 'blend"):
        TextStage(**{**table, "compressor": "blend-litle"}, learning_rate=1e-3, objective=OBJECTIVE)
    with pytest.raises(ConfigError, match=r"share is 2\.0, it must lie in"):
        with_compressor(encoder(), "blend", keys={"share": 2.0})
    with pytest.raises(ConfigError, match=r"unknown key 'shar'.*did you mean 'share'"):
        with_compressor(encoder(), "blend", keys={"shar": 0.5})


def test_read_from_a_hugging_face_folder(tmp_path: Path) -> None:
    config = {"model_type": "plain-model", **SHAPE}
    (tmp_path / "config.json").write_text(json.dumps(config))
    weights = {f"model.{name}": value for name, value in encoder().backbone.state_dict().items()}
    save_file({**weights, "cls.weight": torch.zeros(2)}, tmp_path / "model.safetensors")
    checkpoint = load_checkpoint(tmp_path)
    assert checkpoint.info.config == ModelConfig(backbone=shape(), pooler="first")
    with torch.inference_mode():
        lengths = np.array([len(row) for row in ROWS])
        found = checkpoint.encoder(pack(ROWS), lengths)
    assert found.shape == (3, 16)
    (tmp_path / "config.json").write_text(json.dumps({**config, "width": 15}))
    with pytest.raises(CheckpointError, match="hidden_size is 15, it must be even"):
        load_checkpoint(tmp_path)


RECIPE = """
[[texts.files]]
path = "texts.jsonl"

[[teachers]]
name = "counts"
kind = "letters"
alphabet = "aeist"
reducers = [{ kind = "spread", power = 0.5 }]

[[teachers]]
name = "others"
kind = "letters"
alphabet = "nr"
weight = 2.0

[cache]
folder = "vectors"
"""
TEXTS = ("a tree stands in the rain", "seas and tides", "nine stars are near", "rest, taste, art")


def test_a_kind_of_teacher_teaches_and_a_reducer_is_fused(tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE, encoding="utf-8")
    rows = [json.dumps({"id": str(number), "text": text}) + "\n" for number, text in enumerate(TEXTS)]
    (tmp_path / "texts.jsonl").write_text("".join(rows), encoding="utf-8")
    assert teach(recipe) == tmp_path / "vectors"
    targets = Targets(read_recipe(recipe))
    assert targets.widths == [5, 2]
    counts, others = (
        np.array([[text.count(letter) for letter in letters] for text in TEXTS], np.float32)
        for letters in ("aeist", "nr")
    )
    spread = unit(counts / counts.std(0) ** 0.5)
    expected = unit(np.concatenate([spread, 2 * unit(others)], axis=1))
    found = targets.vectors([str(number) for number in range(len(TEXTS))])
    assert np.abs(found - expected).max() < 1e-5
    for key, message in (("alphabet = ", "alphabe"), ("power = ", "powe")):
        recipe.write_text(RECIPE.replace(key, f"{message} = ", 1), encoding="utf-8")
        with pytest.raises(ConfigError, match=message):
            read_recipe(recipe)


def test_every_file_that_the_page_names_is_there() -> None:
    root = PAGE.parent
    names = re.findall(r"`([a-z_]+(?:/[a-z_0-9-]+)*(?:\.py|\.toml|/))[:`]", PAGE.read_text(encoding="utf-8"))
    assert len(names) > 30
    assert not [
        name for name in names if not ((root / name).exists() or (root / "src/jaspertc" / name).exists())
    ]
