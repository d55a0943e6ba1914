"""The padded reference computes the same vectors as the engine; else the comparison would be unfair."""

import shutil

import numpy as np
import pytest
import torch

pytest.importorskip("transformers")

from jaspertc import Embedder
from jaspertc.checkpoint import load_checkpoint
from jaspertc.errors import InputError
from jaspertc.model.compressors.adaptive_average import AdaptiveAverageConfig
from lab.compare.padded import PaddedModel
from lab.compare.sentences import SentenceModel, with_tokenizer

# Texts beyond the positions or the limit are meant.
pytestmark = pytest.mark.filterwarnings("ignore::jaspertc.engine.options.LongTextWarning")

BACKBONES = {
    "qwen3": {"rope_theta": 5e5},
    "bert": {"kind": "bert", "num_kv_heads": 4, "causal": False},
    "bert tanh": {"kind": "bert", "num_kv_heads": 4, "causal": False, "gelu": "tanh"},
    "xlm-roberta": {"kind": "bert", "num_kv_heads": 4, "causal": False, "position_offset": 2},
}
LENGTHS = (1, 8, 9, 30, 61, 200, 2)  # of 64 positions, threshold 8


def padded(folder, batch=3):
    return PaddedModel(load_checkpoint(folder), dtype=torch.float32, device=torch.device("cpu"), batch=batch)


@pytest.mark.parametrize("kind", BACKBONES)
@pytest.mark.parametrize("ratio", [1.0, 0.66, 1 / 3, 0.1])
def test_same_vectors_from_token_ids(make_model, kind, ratio):
    folder = make_model(backbone=BACKBONES[kind], tokenizer=None)
    generator = np.random.default_rng(0)
    rows = [generator.integers(0, 320, length) for length in LENGTHS]
    embedder = Embedder.load(folder, device="cpu", dtype="float32")
    reference = padded(folder)
    np.testing.assert_allclose(
        reference.embed(rows, ratio), embedder.encode_ids(rows, ratio=ratio), atol=2e-5
    )
    lengths = np.array(LENGTHS)
    assert (reference.targets(lengths, ratio) == embedder.target_lengths(lengths, ratio=ratio)).all()


@pytest.mark.parametrize("pooler", ["first", "last"])
def test_same_vectors_from_texts_with_other_poolers_and_a_limit(make_model, sentences, pooler):
    mlp = AdaptiveAverageConfig(mlp="residual-swiglu", mlp_size=24, threshold=5, ratio=0.3)
    folder = make_model(pooler=pooler, compressor=mlp, save={"max_length": 20})
    embedder = Embedder.load(folder, device="cpu", dtype="float32")
    texts = [*sentences, "x", " ".join(sentences)]
    ours = embedder.encode(texts, prompt="", ratio=0.4)
    np.testing.assert_allclose(padded(folder).embed(texts, 0.4), ours, atol=2e-5)


@pytest.mark.parametrize("kind", ["qwen3", "bert", "xlm-roberta"])
def test_plain_is_transformers_own_model(hugging_face, sentences, kind):
    """Without a ratio there is no compressor: Transformers' own model on the same folder says the same."""
    folder, theirs = hugging_face(kind)
    reference = PaddedModel(
        load_checkpoint(folder, pooler="mean"), dtype=torch.float32, device=torch.device("cpu"), batch=4
    )
    found = reference.embed(sentences, None)
    for row, vector in zip(reference.rows(sentences, None), found):
        with torch.inference_mode():
            states = theirs(input_ids=torch.from_numpy(row)[None]).last_hidden_state[0]
        mean = torch.nn.functional.normalize(states.mean(0), dim=0)
        np.testing.assert_allclose(vector, mean.numpy(), atol=2e-5)


def test_plain_reads_no_more_than_it_has_positions(make_model):
    reference = padded(make_model(tokenizer=None))
    assert [len(row) for row in reference.rows([np.arange(100), np.arange(10)], None)] == [64, 10]
    assert [len(row) for row in reference.rows([np.arange(100)], 0.5)] == [100]


def test_a_model_that_transformers_has_not_is_refused(make_model):
    with pytest.raises(InputError, match="causal"):
        padded(make_model(backbone={"causal": False}))


@pytest.mark.parametrize("kind", ["bert", "xlm-roberta"])
def test_a_peer_without_a_tokenizer_configuration_is_read_with_its_own_tokenizer(
    hugging_face, sentences, tmp_path, kind
):
    """sentence-transformers then has the vectors of the engine, which reads ``tokenizer.json`` itself."""
    pytest.importorskip("sentence_transformers")
    whole, _ = hugging_face(kind)
    folder = tmp_path / "peer"
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        shutil.copy(whole / name, folder / name)
    embedder = Embedder.load(folder, device="cpu", dtype="float32", pooler="mean")
    place = with_tokenizer(folder, embedder.config.backbone, tmp_path / "scratch")
    peer = SentenceModel(place, precision="float32", device="cpu", batch=4)
    np.testing.assert_allclose(peer.embed(sentences, None), embedder.encode(sentences), atol=2e-5)
    assert peer.lengths(sentences).tolist() == [len(row) for row in embedder.tokenize(sentences)]
    assert sorted(item.name for item in folder.iterdir()) == [
        "config.json",
        "model.safetensors",
        "tokenizer.json",
    ]
