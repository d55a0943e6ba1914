"""A graft starts exactly where its source stands."""

import os
from pathlib import Path

import numpy as np
import pytest
import torch

from jaspertc import Embedder
from jaspertc.checkpoint import load_checkpoint, save_checkpoint
from jaspertc.checkpoint.surgery import graft, kept_layers
from jaspertc.checkpoint.vocabulary import count_tokens, prune_tokenizer, tokens_to_keep
from jaspertc.config import BackboneConfig, ModelConfig
from jaspertc.errors import ConfigError, InputError
from jaspertc.model.encoder import Encoder
from jaspertc.samples import load_samples
from jaspertc.text.packing import pack

TEACHERS = os.environ.get("JASPERTC_TEACHERS")


@pytest.fixture
def source() -> Encoder:
    """A random BERT encoder with 4 layers."""
    torch.manual_seed(1)
    shape = BackboneConfig(
        kind="bert",
        vocab_size=50,
        hidden_size=16,
        num_layers=4,
        num_heads=2,
        num_kv_heads=2,
        head_dim=8,
        intermediate_size=32,
        norm_eps=1e-12,
        max_positions=300,
        causal=False,
    )
    return Encoder(ModelConfig(backbone=shape)).eval()


def vectors(encoder: Encoder, rows: list[list[int]], targets: list[int] | None = None) -> torch.Tensor:
    lengths = np.array([len(row) for row in rows])
    with torch.inference_mode():
        return encoder(pack(rows), lengths if targets is None else np.array(targets))


ROWS = [[3, 4, 5], list(range(40)), [9] * 200]


@pytest.mark.parametrize(
    ("compressor", "dims"), [("average", None), ("residual-swiglu", None), ("residual-swiglu", 16)]
)
def test_equal_to_the_source_at_ratio_one(source: Encoder, compressor: str, dims: int | None) -> None:
    student = graft(source, compressor=compressor, dims=dims)
    assert (vectors(student, ROWS) - vectors(source, ROWS)).abs().max() < 1e-6


def test_a_paper_mlp_is_not_the_identity(source: Encoder) -> None:
    assert (vectors(graft(source, compressor="swiglu"), ROWS) - vectors(source, ROWS)).abs().max() > 0.1


def test_wider_head_keeps_cosines(source: Encoder) -> None:
    wide, plain = (torch.nn.functional.normalize(vectors(m, ROWS)) for m in (graft(source, dims=40), source))
    assert wide.shape == (3, 40)
    assert (wide @ wide.T - plain @ plain.T).abs().max() < 1e-5


def test_layers_and_tokens_are_taken_from_their_places(source: Encoder) -> None:
    keep = np.array([0, 3, 4, 5, 9])
    student = graft(source, layers=2, keep_tokens=keep)
    assert kept_layers(4, 2) == [1, 3]
    ours, theirs = student.backbone.encoder.layer, source.backbone.encoder.layer
    for mine, place in zip(ours, (1, 3)):
        assert torch.equal(mine.output.dense.weight, theirs[place].output.dense.weight)
    table = student.backbone.token_table.weight
    assert torch.equal(table, source.backbone.token_table.weight[torch.from_numpy(keep)])
    cut = graft(source, layers=2)
    assert torch.allclose(vectors(student, [[1, 2, 3]]), vectors(cut, [[3, 4, 5]]))


def test_new_weights_depend_on_the_seed_alone(source: Encoder) -> None:
    torch.manual_seed(5)
    first = graft(source, compressor="swiglu", seed=3)
    torch.manual_seed(6)
    second, third = graft(source, compressor="swiglu", seed=3), graft(source, compressor="swiglu", seed=4)
    one, two, three = (m.state_dict()["compressor.mlp.up_proj.weight"] for m in (first, second, third))
    assert torch.equal(one, two)
    assert not torch.equal(one, three)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        ({"layers": 5}, InputError, "layers is 5"),
        ({"dims": 0}, InputError, "dims is 0"),
        ({"seed": 10**22}, InputError, r"seed is 10{22}, it must be from"),
        ({"compressor": "swigloo"}, ConfigError, "did you mean 'swiglu'"),
        ({"compressor": "average", "keys": {"mlp_size": 8}}, ConfigError, "mlp_size is 8"),
    ],
)
def test_wrong_arguments_are_named(source: Encoder, options: dict, error: type, words: str) -> None:
    with pytest.raises(error, match=words):
        graft(source, **options)


@pytest.mark.skipif(not TEACHERS, reason="set JASPERTC_TEACHERS to a folder that holds the real e5 as e5/")
def test_real_e5_equals_transformers_and_its_graft(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers")
    folder = Path(str(TEACHERS)) / "e5"
    texts = ["query: " + row["question"] for row in load_samples("questions")[:40]]
    checkpoint = load_checkpoint(folder)
    checkpoint.encoder.float()
    theirs = transformers.BertModel.from_pretrained(folder, dtype=torch.float32).eval()
    rows = checkpoint.tokenizer.encode_batch(texts)
    with torch.inference_mode():
        expected = torch.cat([theirs(torch.from_numpy(row)[None]).last_hidden_state.mean(1) for row in rows])
    assert (vectors(checkpoint.encoder, [row.tolist() for row in rows]) - expected).abs().max() < 2e-5

    json_text = checkpoint.tokenizer.to_json()
    keep = tokens_to_keep(json_text, count_tokens(checkpoint.tokenizer, texts))
    student = graft(checkpoint.encoder, keep_tokens=keep)
    save_checkpoint(tmp_path / "student", student, tokenizer_json=prune_tokenizer(json_text, keep))
    ours = Embedder.load(tmp_path / "student").encode(texts, ratio=1.0)
    unit = torch.nn.functional.normalize(expected).numpy()
    assert np.abs(ours - unit).max() < 2e-5
