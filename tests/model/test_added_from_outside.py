"""CONTRIBUTING's "how to add", done: a compressor and a backbone that the package does not know.

Each is a class and an entry in the registry; both are grafted, trained, saved, loaded and embedded with.
"""

import itertools
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from jaspertc import Embedder
from jaspertc.checkpoint import load_checkpoint, save_checkpoint
from jaspertc.checkpoint.parts import with_compressor
from jaspertc.checkpoint.surgery import graft
from jaspertc.config import BackboneConfig, CompressorConfig, ModelConfig, require
from jaspertc.errors import CheckpointError, ConfigError
from jaspertc.model.attention import PackedLayout
from jaspertc.model.backbones import BACKBONES, Backbone
from jaspertc.model.compressors import COMPRESSORS, Compressor, TokenRows
from jaspertc.model.cost import encoder_flops, text_flops
from jaspertc.model.encoder import Encoder
from jaspertc.recipe.stages import Objective, TextStage, with_compressor_keys
from jaspertc.text.packing import PackedBatch, pack
from jaspertc.train.step import StepBatch, accumulate_gradients
from jaspertc.types import IntArray


@dataclass(frozen=True, kw_only=True)
class BlendConfig(CompressorConfig):
    kind: str = "blend"
    share: float = 0.5

    def __post_init__(self) -> None:
        super().__post_init__()
        require(0 <= self.share < 1, f"compressor.share is {self.share}, it must lie in [0, 1)")


class Blend(Compressor):
    """Each token gets a share of the one before it, then means of disjoint windows."""

    Config = BlendConfig
    starts: ClassVar[Mapping[str, Mapping[str, Any]]] = {"blend": {}, "blend-little": {"share": 0.125}}
    stored_names: ClassVar[Mapping[str, str]] = {"toy_scale": "scale"}

    def __init__(self, config: BlendConfig, width: int) -> None:
        super().__init__(config, width)
        self.scale = nn.Parameter(torch.ones(width))
        self.offset = nn.Parameter(torch.zeros(width))

    def initialise(self, backbone: Backbone) -> None:
        with torch.no_grad():
            self.offset.copy_(backbone.token_table.weight.mean(0))

    @classmethod
    def flops(cls, config: CompressorConfig, width: int, tokens: int) -> int:
        return 2 * width * tokens

    def transform(self, x: Tensor) -> Tensor:
        return x * self.scale - self.offset

    @staticmethod
    def window_edges(index: Any, length: Any, target: Any) -> tuple[Any, Any]:
        return index * length // target, (index + 1) * length // target

    def forward(self, rows: TokenRows, batch: PackedBatch, targets: IntArray) -> Tensor:
        x = rows.each()
        before = torch.cat([x[:1] * 0, x[:-1]])
        before[batch.offsets[:-1]] = 0
        blended = x + self.config.share * before
        return TokenRows(blended).pooled(self.windows(batch, targets))


class Plain(Backbone):
    """Layers without attention."""

    model_types = ("plain-model",)
    usual_pooler = "first"
    layers_name = "blocks"
    mlp_matrices = 1

    def __init__(self, config: BackboneConfig) -> None:
        super().__init__(config)
        self.words = nn.Embedding(config.vocab_size, config.hidden_size)
        self.blocks = nn.ModuleList(
            nn.Linear(config.hidden_size, config.hidden_size) for _ in range(config.num_layers)
        )

    @property
    def token_table(self) -> nn.Embedding:
        return self.words

    @classmethod
    def check(cls, config: BackboneConfig) -> None:
        require(config.hidden_size % 2 == 0, f"backbone.hidden_size is {config.hidden_size}, it must be even")

    @classmethod
    def read_hugging_face(cls, config: Mapping[str, Any]) -> BackboneConfig:
        return shape(hidden_size=config["width"])

    def forward(self, x: Tensor, layout: PackedLayout) -> Tensor:
        for block in self.blocks:
            x = x + torch.tanh(self.run(block, x))
        return x


def shape(hidden_size: int = 16) -> BackboneConfig:
    return BackboneConfig(
        kind="plain",
        vocab_size=60,
        hidden_size=hidden_size,
        num_layers=3,
        num_heads=2,
        num_kv_heads=2,
        head_dim=8,
        intermediate_size=16,
        norm_eps=1e-6,
        max_positions=128,
        causal=False,
    )


@pytest.fixture(autouse=True)
def registered(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(COMPRESSORS, "blend", Blend)
    monkeypatch.setitem(BACKBONES, "plain", Plain)


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


def test_trained_saved_loaded_and_embedded(tmp_path: Path) -> None:
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
    assert model.config.compressor == BlendConfig(share=0.25)
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
    config = {"model_type": "plain-model", "width": 16}
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
