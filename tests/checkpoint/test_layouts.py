"""Folders of other libraries: they load, and give the vectors that their own library gives."""

import json
import shutil
import warnings

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from jaspertc import Embedder
from jaspertc.checkpoint import load_checkpoint
from jaspertc.errors import CheckpointError

CLOSE = {"rtol": 0, "atol": 2e-6}  # float32 rounding; which kernels sum in which order varies


def load(folder, **options):
    return Embedder.load(folder, device="cpu", dtype="float32", **options)


@pytest.fixture
def modules():
    pytest.importorskip("sentence_transformers")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return pytest.importorskip("sentence_transformers.models")


@pytest.fixture
def sentence_transformer(hugging_face, modules, tmp_path):
    """Folder and SentenceTransformer of a small model with these modules after the transformer."""
    from sentence_transformers import SentenceTransformer

    def make(kind, pooling, dense=0, bias=True, normalize=True, **options):
        transformer = modules.Transformer(str(hugging_face(kind)[0]))
        parts = [transformer, modules.Pooling(32, pooling)]
        if dense:
            torch.manual_seed(0)
            parts.append(modules.Dense(32, dense, bias=bias, activation_function=torch.nn.Identity()))
        parts += [modules.Normalize()] if normalize else []
        theirs = SentenceTransformer(modules=parts, device="cpu", **options)
        theirs.save(str(tmp_path / "st"))
        return tmp_path / "st", theirs

    return make


def test_released_layout(golden):
    info = load_checkpoint(golden.folder).info
    assert info.config.compressor.kind == "adaptive-average"
    assert (info.config.compressor.mlp, info.config.compressor.threshold) == ("swiglu", 80)
    assert (info.config.head.dims, info.config.pooler, info.config.backbone.causal) == (2048, "mean", True)
    assert info.prompts["query"].endswith("answer the query\nQuery: ")
    assert (info.prompts["document"], info.default_prompt_name, info.max_length) == ("", None, None)
    assert info.fallback_id == 1


@pytest.mark.parametrize("kind", ["qwen3", "bert", "roberta", "xlm-roberta"])
@pytest.mark.parametrize(("pooling", "ours"), [("mean", "mean"), ("cls", "first"), ("lasttoken", "last")])
def test_vectors_are_sentence_transformers(sentence_transformer, sentences, kind, pooling, ours):
    folder, theirs = sentence_transformer(kind, pooling)
    model = load(folder)
    assert (model.config.pooler, model.dims) == (ours, 32)
    texts = ["short", "", *sentences, sentences[0] * 3]
    np.testing.assert_allclose(model.encode(texts), theirs.encode(texts), **CLOSE)


@pytest.mark.parametrize("where", ["sentence_bert_config", "tokenizer_config"])
def test_texts_are_cut_where_sentence_transformers_cuts(sentence_transformer, sentences, where):
    from sentence_transformers import SentenceTransformer

    folder, _ = sentence_transformer("bert", "mean")
    key = {"sentence_bert_config": "max_seq_length", "tokenizer_config": "model_max_length"}[where]
    path = folder / f"{where}.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {key: 20}))
    theirs = SentenceTransformer(str(folder), device="cpu")
    assert theirs.max_seq_length == 20
    model = load(folder)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.testing.assert_allclose(model.encode(sentences), theirs.encode(sentences), **CLOSE)
    assert model.max_length == 20


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("normalize", [True, False])
def test_dense_and_normalize_modules(sentence_transformer, sentences, bias, normalize):
    folder, theirs = sentence_transformer("bert", "mean", dense=48, bias=bias, normalize=normalize)
    model = load(folder)
    assert (model.dims, model.config.normalize) == (48, normalize)
    np.testing.assert_allclose(model.encode(sentences), theirs.encode(sentences), rtol=1e-5, atol=1e-5)
    raw = model.encode(sentences, normalize=False)
    assert (np.abs(np.linalg.norm(raw, axis=1) - 1) > 1e-3).all()


def test_prompts_of_the_folder(sentence_transformer, sentences):
    prompts = {"query": "question: ", "document": "text: "}
    folder, theirs = sentence_transformer("bert", "mean", prompts=prompts, default_prompt_name="document")
    model = load(folder)
    assert model.prompts == prompts
    for options in ({}, {"prompt_name": "query"}, {"prompt": ""}, {"prompt": "river "}):
        expected = theirs.encode(sentences, **options)
        np.testing.assert_allclose(model.encode(sentences, **options), expected, **CLOSE)


def test_a_dense_layer_with_activation_is_refused(sentence_transformer):
    folder, _ = sentence_transformer("bert", "mean", dense=48)
    path = next(folder.glob("*_Dense")) / "config.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"activation_function": "torch.nn.modules.activation.Tanh"}))
    with pytest.raises(CheckpointError, match="activation 'Tanh'; only Identity"):
        load(folder)


def _two_dense_layers(folder):
    modules = json.loads((folder / "modules.json").read_text())
    shutil.copytree(folder / "2_Dense", folder / "9_Dense")
    (folder / "modules.json").write_text(json.dumps([*modules, modules[2] | {"path": "9_Dense"}]))


def _normalize_before_dense(folder):
    modules = json.loads((folder / "modules.json").read_text())
    order = [modules[0], modules[1], modules[3], modules[2]]
    (folder / "modules.json").write_text(json.dumps(order))


def _prompt_left_out(folder):
    path = folder / "1_Pooling" / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"include_prompt": False}))


def _dense(option):
    def change(folder):
        path = folder / "2_Dense" / "config.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | option))

    return change


@pytest.mark.parametrize(
    "change",
    [
        _two_dense_layers,
        _normalize_before_dense,
        _prompt_left_out,
        _dense({"use_residual": True}),
        _dense({"module_input_name": "token_embeddings"}),
        _dense({"module_output_name": "other"}),
    ],
)
def test_pipelines_that_we_do_not_compute_are_refused(sentence_transformer, change):
    folder, _ = sentence_transformer("bert", "mean", dense=32)
    change(folder)
    with pytest.raises(CheckpointError):
        load(folder)


@pytest.mark.parametrize(
    ("kind", "pooler"), [("qwen3", "last"), ("bert", "mean"), ("roberta", "mean"), ("xlm-roberta", "mean")]
)
def test_without_modules_the_usual_pooling_is_taken_and_said(hugging_face, caplog, kind, pooler):
    folder, theirs = hugging_face(kind)
    model = load(folder)
    assert (model.config.pooler, model.config.normalize) == (pooler, True)
    assert "names no pooling" in caplog.text
    row = np.arange(5, 30)
    with torch.no_grad():
        states = theirs(input_ids=torch.from_numpy(row)[None]).last_hidden_state[0].numpy()
    expected = {"mean": states.mean(0), "last": states[-1], "first": states[0]}
    for chosen in expected:
        found = load(folder, pooler=chosen).encode_ids([row], normalize=False)[0]
        np.testing.assert_allclose(found, expected[chosen], rtol=0, atol=2e-5)
    np.testing.assert_allclose(model.encode_ids([row], normalize=False)[0], expected[pooler], atol=2e-5)


def test_the_pooler_argument_overrides_every_layout(model_folder, golden, sentence_transformer):
    for folder in (model_folder, golden.folder, sentence_transformer("bert", "mean")[0]):
        rows = [[5, 6, 7, 8]]
        first, usual = load(folder, pooler="first").encode_ids(rows), load(folder).encode_ids(rows)
        assert np.abs(first - usual).max() > 1e-3


@pytest.mark.parametrize(
    ("kind", "rename"),
    [
        ("bert", lambda name: "bert." + name),
        ("roberta", lambda name: "roberta." + name),
        (
            "bert",
            lambda name: name.replace("LayerNorm.weight", "LayerNorm.gamma").replace(
                "LayerNorm.bias", "LayerNorm.beta"
            ),
        ),
        ("qwen3", lambda name: "model." + name),
    ],
    ids=["bert.", "roberta.", "gamma and beta", "model."],
)
def test_other_names_of_the_same_weights(hugging_face, tmp_path, kind, rename):
    folder, _ = hugging_face(kind)
    expected = load(folder).encode_ids([[5, 6, 7]])
    copy = shutil.copytree(folder, tmp_path / "copy")
    weights = load_file(folder / "model.safetensors")
    renamed = {rename(name): tensor for name, tensor in weights.items()}
    assert set(renamed) != set(weights)
    extra = {"cls.predictions.bias": torch.zeros(3), "lm_head.weight": torch.zeros(3, 2)}
    extra |= {"bert.embeddings.position_ids": torch.arange(3), "bert.pooler.dense.bias": torch.zeros(3)}
    save_file(renamed | extra, copy / "model.safetensors")
    np.testing.assert_allclose(load(copy).encode_ids([[5, 6, 7]]), expected, **CLOSE)


@pytest.mark.parametrize("source", ["golden", "bert", "ours"])
def test_sharded_weights(source, golden, hugging_face, model_folder, tmp_path):
    folder = {"golden": golden.folder, "ours": model_folder}.get(source) or hugging_face(source)[0]
    copy = shutil.copytree(folder, tmp_path / "copy")
    weights = load_file(copy / "model.safetensors")
    (copy / "model.safetensors").unlink()
    names = sorted(weights)
    shards = {f"model-{i + 1:05}-of-00003.safetensors": names[i::3] for i in range(3)}
    for file, part in shards.items():
        save_file({name: weights[name].clone() for name in part}, copy / file)
    index = {"metadata": {}, "weight_map": {name: file for file, part in shards.items() for name in part}}
    (copy / "model.safetensors.index.json").write_text(json.dumps(index))
    rows = [[5, 6, 7], list(range(5, 105))]
    np.testing.assert_allclose(load(copy).encode_ids(rows), load(folder).encode_ids(rows), **CLOSE)


def test_tied_rope_settings_of_both_generations(hugging_face, tmp_path):
    """rope_theta at the top (Transformers 4) or in rope_parameters (5) means the same."""
    folder, _ = hugging_face("qwen3")
    config = json.loads((folder / "config.json").read_text())
    assert config.pop("rope_parameters")["rope_theta"] == 5e5
    rows = [list(range(5, 60))]
    expected = load(folder).encode_ids(rows)
    copy = shutil.copytree(folder, tmp_path / "copy")
    for theta, same in ((5e5, True), (1e3, False)):
        old = config | {"rope_theta": theta, "rope_scaling": None}
        (copy / "config.json").write_text(json.dumps(old))
        assert np.allclose(load(copy).encode_ids(rows), expected, atol=1e-6) == same


def test_a_default_prompt_that_is_not_there_and_a_pooling_that_is_unknown_are_named(sentence_transformer):
    folder, _ = sentence_transformer("bert", "mean", prompts={"query": "q: "}, default_prompt_name="query")
    settings = folder / "config_sentence_transformers.json"
    content = json.loads(settings.read_text())
    for default in ("nope", ["query"]):
        settings.write_text(json.dumps(content | {"default_prompt_name": default}))
        with pytest.raises(CheckpointError, match=r"transformers\.json: default_prompt_name is .*, the"):
            load_checkpoint(folder)
    settings.write_text(json.dumps(content))
    (pooling,) = folder.glob("*Pooling/config.json")
    for named in (["mean", "cls"], "weightedmean", {"mode": "cls"}):
        pooling.write_text(json.dumps({"word_embedding_dimension": 32, "pooling_mode": named}))
        with pytest.raises(CheckpointError, match=r"pools by .*'(cls|weightedmean)'"):
            load_checkpoint(folder)
