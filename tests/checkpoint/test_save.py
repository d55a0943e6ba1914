"""Our own folder: nothing is lost, nothing is left half written, and sentence-transformers reads it."""

import os
import warnings

import numpy as np
import pytest
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file

from jaspertc import Embedder
from jaspertc.checkpoint import load_checkpoint, save_checkpoint
from jaspertc.checkpoint.files import save_file
from jaspertc.config import CompressorConfig, HeadConfig
from jaspertc.errors import CheckpointError
from jaspertc.model.compressors.adaptive_average import AdaptiveAverageConfig

CONFIGS = {
    "released-like": {"head": HeadConfig(dims=24, matryoshka=(8, 16))},
    "no head, last, raw": {"pooler": "last", "normalize": False, "head": HeadConfig()},
    "residual": {"compressor": AdaptiveAverageConfig(mlp="residual-swiglu", mlp_size=12)},
    "no compressor": {"compressor": CompressorConfig(), "head": HeadConfig(dims=24, bias=False)},
    "bert": {
        "backbone": {
            "kind": "bert",
            "num_kv_heads": 4,
            "causal": False,
            "position_offset": 2,
            "gelu": "tanh",
        },
        "compressor": AdaptiveAverageConfig(threshold=5, ratio=0.2),
    },
}


def load(folder):
    return Embedder.load(folder, device="cpu", dtype="float32")


@pytest.mark.parametrize("options", CONFIGS.values(), ids=CONFIGS)
def test_round_trip_is_bit_equal(make_encoder, tokenizer_json, tmp_path, options):
    encoder = make_encoder(**options)
    facts = {
        "prompts": {"query": "Q: ", "空": "文\n"},
        "default_prompt_name": "空",
        "max_length": 33,
        "fallback_id": 4,
    }
    folder = save_checkpoint(tmp_path / "a" / "b", encoder, tokenizer_json=tokenizer_json("bpe"), **facts)
    again = load_checkpoint(folder)
    assert again.info.config == encoder.config
    assert {name: getattr(again.info, name) for name in facts} == facts
    state = encoder.state_dict()
    assert set(state) == set(again.encoder.state_dict())
    for name, weight in again.encoder.state_dict().items():
        assert torch.equal(weight, state[name]), name
        assert weight.dtype == state[name].dtype
    assert again.tokenizer.to_json() == load_checkpoint(folder).tokenizer.to_json()
    second = save_checkpoint(tmp_path / "c", again.encoder, tokenizer_json=again.tokenizer.to_json(), **facts)
    for file in ("config.json", "modules.json", "config_sentence_transformers.json", "model.safetensors"):
        assert (second / file).read_bytes() == (folder / file).read_bytes(), file
    rows = [[1, 2, 3], list(range(30))]
    np.testing.assert_allclose(
        load(folder).encode_ids(rows), load(second).encode_ids(rows), rtol=0, atol=1e-5
    )


def test_names_in_the_file_are_the_released_ones(golden, tmp_path):
    folder = save_checkpoint(tmp_path / "x", golden.embedder.checkpoint.encoder, tokenizer_json=None)
    ours, theirs = (load_file(place / "model.safetensors") for place in (folder, golden.folder))
    assert set(ours) == set(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    found = load(folder).encode_ids(golden.rows, ratio=0.33)
    expected = golden.embedder.encode_ids(golden.rows, ratio=0.33)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)  # files differ in alignment


def cosines(a, b):
    return (a * b).sum(1)  # unit vectors


@pytest.mark.parametrize(("weights", "least", "size"), [("int8", 0.999, 0.32), ("bfloat16", 0.999, 0.52)])
def test_smaller_weights(golden, tmp_path, weights, least, size):
    encoder = golden.embedder.checkpoint.encoder
    folder = save_checkpoint(tmp_path / "x", encoder, tokenizer_json=None, weights=weights)
    small = (folder / "model.safetensors").stat().st_size
    assert small < size * (golden.folder / "model.safetensors").stat().st_size
    model = load(folder)
    assert model.checkpoint.encoder.backbone.token_table.weight.dtype == torch.float32
    for ratio in (1, 0.33, 0.1):
        found = model.encode_ids(golden.rows, ratio=ratio)
        assert cosines(found, golden.embedder.encode_ids(golden.rows, ratio=ratio)).min() > least


def test_stored_bfloat16_stays_bfloat16(make_encoder, tmp_path):
    folder = save_checkpoint(tmp_path / "x", make_encoder().bfloat16(), tokenizer_json=None)
    assert {w.dtype for w in load_checkpoint(folder).encoder.state_dict().values()} == {torch.bfloat16}
    wide = save_checkpoint(tmp_path / "y", make_encoder().bfloat16(), tokenizer_json=None, weights="float32")
    assert {w.dtype for w in load_checkpoint(wide).encoder.state_dict().values()} == {torch.float32}


@pytest.mark.parametrize("moment", ["save_file", "os.replace"])
@pytest.mark.parametrize("error", [OSError("disk full"), KeyboardInterrupt()], ids=["disk full", "interrupt"])
def test_a_crash_leaves_nothing(make_encoder, tmp_path, monkeypatch, moment, error):
    def crash(*args, **kwargs):
        raise error

    target = "jaspertc.checkpoint.save.save_file" if moment == "save_file" else "os.replace"
    with monkeypatch.context() as patch:
        patch.setattr(target, crash)
        with pytest.raises(CheckpointError if isinstance(error, OSError) else KeyboardInterrupt):
            save_checkpoint(tmp_path / "x", make_encoder(), tokenizer_json=None)
    assert os.listdir(tmp_path) == []
    save_checkpoint(tmp_path / "x", make_encoder(), tokenizer_json=None)
    assert os.listdir(tmp_path) == ["x"]


@pytest.mark.parametrize("moment", ["save_file", "os.replace"])
def test_a_crash_while_overwriting_keeps_the_old_folder(make_encoder, tmp_path, monkeypatch, moment):
    folder = save_checkpoint(tmp_path / "x", make_encoder(), tokenizer_json=None)
    before = (folder / "model.safetensors").read_bytes()
    target = "jaspertc.checkpoint.save.save_file" if moment == "save_file" else "os.replace"

    def crash(*args, **kwargs):
        raise OSError("disk full")

    with monkeypatch.context() as patch:
        patch.setattr(target, crash)
        with pytest.raises(CheckpointError, match=r"x could not be written \(disk full\)"):
            save_checkpoint(folder, make_encoder(seed=1), tokenizer_json=None, overwrite=True)
    assert os.listdir(tmp_path) == ["x"]
    assert (folder / "model.safetensors").read_bytes() == before


@pytest.mark.parametrize(
    ("message", "number"), [("I/O error: No space left on device (os error 28)", 28), ("no number", None)]
)
def test_weights_that_do_not_fit_are_an_error_of_the_disk(tmp_path, monkeypatch, message, number):
    def full(*args, **kwargs):
        raise SafetensorError(message)

    monkeypatch.setattr("safetensors.torch.save_file", full)
    with pytest.raises(OSError, match=r"No space left|no number") as caught:
        save_file({"a": torch.zeros(1000)}, str(tmp_path / "a"))
    assert caught.value.errno == number


def test_a_disk_that_takes_no_more_is_one_clear_line(make_encoder, tmp_path):
    resource = pytest.importorskip("resource")
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, before[1]))  # bytes of a file
    try:
        with pytest.raises(CheckpointError, match=r"x could not be written \(File too large\)"):
            save_checkpoint(tmp_path / "x", make_encoder(), tokenizer_json=None)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert os.listdir(tmp_path) == []


def test_a_file_where_a_folder_should_be_is_named(make_encoder, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(CheckpointError, match=r"file/x could not be written .*a file is where a folder"):
        save_checkpoint(tmp_path / "file" / "x", make_encoder(), tokenizer_json=None)


def test_existing_folders_are_kept_unless_asked(make_encoder, tmp_path):
    folder = save_checkpoint(tmp_path / "x", make_encoder(), tokenizer_json=None)
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(CheckpointError, match="already exists"):
        save_checkpoint(folder, make_encoder(seed=1), tokenizer_json=None)
    assert (folder / "notes.txt").read_text() == "mine"
    file = tmp_path / "file"
    file.write_text("mine")
    with pytest.raises(CheckpointError, match="already exists"):
        save_checkpoint(file, make_encoder(), tokenizer_json=None)
    before = load(folder).fingerprint
    save_checkpoint(folder, make_encoder(seed=1), tokenizer_json=None, overwrite=True)
    assert load(folder).fingerprint != before
    (tmp_path / "empty").mkdir()
    assert load(save_checkpoint(tmp_path / "empty", make_encoder(), tokenizer_json=None)).dims == 32


@pytest.mark.parametrize("overwrite", [False, True])
@pytest.mark.parametrize("name", ["x/config.json", "x/model.safetensors", "x"])
def test_what_is_no_checkpoint_is_never_replaced(make_encoder, tmp_path, name, overwrite):
    path = tmp_path / name
    path.parent.mkdir(exist_ok=True)
    path.write_text("mine")
    with pytest.raises(CheckpointError, match="choose another folder"):
        save_checkpoint(tmp_path / "x", make_encoder(), tokenizer_json=None, overwrite=overwrite)
    assert path.read_text() == "mine"


def test_unknown_kind_of_weights(make_encoder, tmp_path):
    with pytest.raises(CheckpointError, match=r"weights is 'int4'.*keep, float32, bfloat16, int8"):
        save_checkpoint(tmp_path / "x", make_encoder(), tokenizer_json=None, weights="int4")
    assert os.listdir(tmp_path) == []


# In sentence-transformers


@pytest.fixture
def in_sentence_transformers():
    library = pytest.importorskip("sentence_transformers")

    def make(folder):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return library.SentenceTransformer(str(folder), trust_remote_code=True, device="cpu")

    return make


@pytest.mark.parametrize("options", [{}, *list(CONFIGS.values())[1:]], ids=CONFIGS)
def test_same_vectors_in_sentence_transformers(make_model, in_sentence_transformers, sentences, options):
    folder = make_model(**options)
    ours, theirs = load(folder), in_sentence_transformers(folder)
    texts = ["", "a", *sentences, "a text with a \ud800 surrogate"]
    ratios = [{}] if "compressor" in options and options["compressor"].kind == "none" else [{}, 0.2, 1.0]
    for ratio in ratios:
        mine, their = ({"ratio": ratio}, {"compression_ratio": ratio}) if ratio else ({}, {})
        expected = ours.encode(texts, max_compressed=64, **mine)
        close = {"rtol": 0, "atol": 1e-6 * max(1, np.abs(expected).max())}  # some are not unit vectors
        np.testing.assert_allclose(theirs.encode(texts, **their), expected, **close)
        np.testing.assert_allclose(theirs.encode(texts, batch_size=2, **their), expected, **close)


def test_options_in_sentence_transformers(make_model, in_sentence_transformers, sentences):
    folder = make_model(save={"max_length": 30, "prompts": {"query": "Find: "}})
    ours, theirs = load(folder), in_sentence_transformers(folder)
    older, newer = "get_sentence_embedding_dimension", "get_embedding_dimension"
    assert getattr(theirs, newer if hasattr(theirs, newer) else older)() == 24
    assert theirs.max_seq_length == 30
    pairs = [
        ({"prompt_name": "query"}, {"prompt_name": "query"}),
        ({"prompt": "Look: "}, {"prompt": "Look: "}),
        ({"ratio": 0.1, "threshold": 3}, {"compression_ratio": 0.1, "length_threshold": 3}),
        ({"ratio": 1, "max_compressed": 4}, {"compression_ratio": 1, "max_compressed": 4}),
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        plain = ours.encode(sentences)
        for mine, their in pairs:
            expected = ours.encode(sentences, **mine)
            assert np.abs(expected - plain).max() > 1e-3
            np.testing.assert_allclose(theirs.encode(sentences, **their), expected, rtol=0, atol=1e-6)
        np.testing.assert_allclose(theirs.encode(sentences), plain, rtol=0, atol=1e-6)  # nothing stuck


DIALS = [
    ({"ratio": 1.0}, {"compression_ratio": 1.0}),
    ({"ratio": 0.1, "threshold": 3}, {"compression_ratio": 0.1, "length_threshold": 3}),
    ({"max_compressed": 40}, {"max_compressed": 40}),
]


@pytest.mark.parametrize(
    ("options", "dials"), [({}, DIALS), ({"compressor": CompressorConfig()}, [])], ids=["dial", "no dial"]
)
def test_long_texts_in_pieces_in_sentence_transformers(
    make_model, in_sentence_transformers, sentences, options, dials
):
    folder = make_model(save={"piece_length": 48, "prompts": {"query": "Find: "}}, **options)
    ours, theirs = load(folder), in_sentence_transformers(folder)
    texts = ["", sentences[0], " ".join(sentences), " ".join(sentences[::-1] * 20), "x" * 500]
    assert len(next(ours.encode_pieces(texts[3:])).spans) > 20
    close = {"rtol": 0, "atol": 2e-6}
    pairs = [({}, {}), ({"prompt_name": "query"}, {"prompt_name": "query", "batch_size": 2}), *dials]
    for mine, their in pairs:
        np.testing.assert_allclose(theirs.encode(texts, **their), ours.encode(texts, **mine), **close)
    theirs.max_seq_length = 100
    np.testing.assert_allclose(theirs.encode(texts), ours.encode(texts, max_length=100), **close)


def test_gradients_pass_through_long_texts_in_sentence_transformers(
    make_model, in_sentence_transformers, sentences
):
    module = in_sentence_transformers(make_model(save={"piece_length": 48}))[0]
    weight = module.encoder.head.linear.weight.requires_grad_()
    features = module.preprocess([sentences[0], " ".join(sentences)])
    module(features)["sentence_embedding"].sum().backward()
    assert weight.grad.abs().max() > 1e-3


def test_saved_again_by_sentence_transformers(model_folder, in_sentence_transformers, sentences, tmp_path):
    theirs = in_sentence_transformers(model_folder)
    theirs.save(str(tmp_path / "again"))
    expected = load(model_folder).encode(sentences, ratio=0.3)
    np.testing.assert_allclose(
        load(tmp_path / "again").encode(sentences, ratio=0.3), expected, rtol=0, atol=1e-6
    )
    again = in_sentence_transformers(tmp_path / "again")
    np.testing.assert_allclose(again.encode(sentences, compression_ratio=0.3), expected, rtol=0, atol=1e-6)
    assert again.prompts == {"query": "Find: ", "document": ""}
