"""Folders that are incomplete, corrupt, hostile or of another kind: one named error each, and no code run."""

import json
import pickle
import re
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from jaspertc import Embedder, JasperError
from jaspertc.checkpoint import load_checkpoint
from jaspertc.errors import CheckpointError, TokenizerError

WEIGHTS = "model.safetensors"
INDEX = "model.safetensors.index.json"


@pytest.fixture(params=["ours", "released", "bert", "qwen3"])
def folder(request, model_folder, golden, hugging_face, tmp_path):
    """A copy of a good folder of each layout, to be damaged."""
    source = {"ours": model_folder, "released": golden.folder}.get(request.param)
    return shutil.copytree(source or hugging_face(request.param)[0], tmp_path / "copy")


@pytest.fixture
def ours(model_folder, tmp_path):
    return shutil.copytree(model_folder, tmp_path / "ours")


@pytest.fixture
def bert(hugging_face, tmp_path):
    return shutil.copytree(hugging_face("bert")[0], tmp_path / "bert")


@pytest.fixture
def qwen3(hugging_face, tmp_path):
    return shutil.copytree(hugging_face("qwen3")[0], tmp_path / "qwen3")


def change_json(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def change_weights(folder, change):
    weights = load_file(folder / WEIGHTS)
    change(weights)
    save_file(weights, folder / WEIGHTS)


def refused(folder, message):
    with pytest.raises(CheckpointError, match=message):
        load_checkpoint(folder)


# Weights


@pytest.mark.parametrize("keep", [0, 4, 8, 200, 0.5, -1], ids=str)
def test_a_file_cut_short(folder, keep):
    content = (folder / WEIGHTS).read_bytes()
    (folder / WEIGHTS).write_bytes(content[: int(len(content) * keep) if keep == 0.5 else keep])
    refused(folder, r"model\.safetensors is corrupt or was not written to its end")


def test_a_file_of_noise(folder):
    (folder / WEIGHTS).write_bytes(np.random.default_rng(0).bytes(10_000))
    refused(folder, "corrupt")


def test_no_weights(folder):
    (folder / WEIGHTS).unlink()
    refused(folder, f"no {WEIGHTS} or {INDEX}")


class Trap:
    def __reduce__(self):
        return (open, ("trap-ran", "w"))


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "pytorch_model-00001-of-00002.bin"])
def test_pickles_are_refused_unread(folder, name, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    (folder / WEIGHTS).unlink()
    (folder / name).write_bytes(pickle.dumps(Trap()))
    refused(folder, rf"only pickled weights \({name}\).*can run code.*safe_serialization")
    assert not (tmp_path / "trap-ran").exists()


def test_a_missing_tensor(folder):
    name = sorted(name for name in load_file(folder / WEIGHTS) if "layer" in name)[0]
    change_weights(folder, lambda weights: weights.pop(name))
    refused(folder, r"lacks 1 tensors its config.json asks for: backbone\.")


def test_an_extra_tensor(folder):
    change_weights(folder, lambda weights: weights.update({"adapter.weight": torch.zeros(2)}))
    refused(folder, r"holds 1 tensors with no place in the model: .*adapter\.weight")


def test_another_shape(folder):
    name = sorted(name for name in load_file(folder / WEIGHTS) if "layer" in name)[0]
    change_weights(folder, lambda weights: weights.update({name: torch.zeros(3, 5)}))
    refused(folder, r"tensor '.*' has shape \(3, 5\), config.json asks for \(")


def test_integers_where_numbers_belong(folder):
    def change(weights):
        name = next(name for name in weights if "layer" in name and weights[name].ndim == 1)
        weights[name] = weights[name].to(torch.int32)

    change_weights(folder, change)
    refused(folder, r"is torch\.int32, not floating point")


def test_int8_without_its_scale(ours):
    def change(weights):
        weights["linear_1.weight"] = weights["linear_1.weight"].to(torch.int8)

    change_weights(ours, change)
    refused(ours, r"int8 tensor 'linear_1\.weight' has no per-row 'linear_1\.weight\.scale'")


def test_released_layout_without_its_head(golden, tmp_path):
    copy = shutil.copytree(golden.folder, tmp_path / "copy")
    change_weights(copy, lambda weights: weights.pop("linear_1.weight"))
    refused(copy, r"lacks linear_1\.\* or jasper_mlp")


# Shards


def write_index(folder, weight_map):
    (folder / WEIGHTS).rename(folder / "shard.safetensors")
    (folder / INDEX).write_text(json.dumps({"weight_map": weight_map}))


@pytest.mark.parametrize(
    "path", ["../secret.safetensors", "/etc/passwd", "sub/../../secret.safetensors", "sub/x"]
)
def test_an_index_that_points_outside(folder, path):
    shutil.copy(folder / WEIGHTS, folder.parent / "secret.safetensors")
    write_index(folder, {"a": "shard.safetensors", "b": path})
    refused(folder, "points outside its folder")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "cannot be read as JSON"),
        ("{}", "has no 'weight_map'"),
        ('{"weight_map": []}', "has no 'weight_map'"),
        ("[1]", "must hold a JSON object, not list"),
        ('{"weight_map": {"a": "absent.safetensors"}}', r"absent\.safetensors is missing"),
        ('{"weight_map": {"a": ".."}}', "corrupt|outside|missing"),
        ('{"weight_map": {"a": ""}}', "corrupt|outside|missing"),
        ('{"weight_map": {"a": null}}', "missing|outside|corrupt"),
        ('{"weight_map": {}}', "lacks"),
    ],
)
def test_a_broken_index(ours, content, message):
    (ours / WEIGHTS).unlink()
    (ours / INDEX).write_text(content)
    refused(ours, message)


def test_a_tensor_that_no_shard_holds(ours):
    name = "model.norm.weight"
    weights = load_file(ours / WEIGHTS)
    change_weights(ours, lambda found: found.pop(name))
    write_index(ours, dict.fromkeys(weights, "shard.safetensors"))
    refused(ours, "lacks 1 tensors .*norm.weight")


# Configuration


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read as JSON"),
        (b"{'a': 1}", "cannot be read as JSON"),
        (b"\xff\xfe\x00", "cannot be read as JSON"),
        (b"[]", "must hold a JSON object, not list"),
        (b"null", "must hold a JSON object, not NoneType"),
        (b"{}", "is a None model; supported are qwen3, bert, roberta, xlm-roberta"),
        (b'{"model_type": "gpt2"}', "is a 'gpt2' model; supported are"),
        (b'{"model_type": "bert"}', r"has no key '\w+'"),
        (b'{"jaspertc": {"format": 99, "model": {}}}', "format 99; update jaspertc"),
        (b'{"jaspertc": {}}', "has no key 'format'"),
    ],
)
def test_a_broken_configuration(folder, content, message):
    (folder / "config.json").write_bytes(content)
    (folder / "modules.json").unlink(missing_ok=True)
    refused(folder, message)


def test_no_configuration(folder):
    (folder / "config.json").unlink()
    refused(folder, r"config\.json is missing; is .* a complete checkpoint folder")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rope_parameters": {"rope_type": "yarn", "rope_theta": 1e6}}, "rope_type = 'yarn'"),
        (
            {"rope_scaling": {"type": "linear", "factor": 2.0}, "rope_parameters": None},
            "rope_type = 'linear'",
        ),
        ({"attention_bias": True}, "attention_bias = True"),
        ({"use_sliding_window": True}, "use_sliding_window = True"),
        ({"hidden_act": "gelu"}, "hidden_act = 'gelu'.*supports 'silu'"),
    ],
    ids=str,
)
def test_unsupported_qwen3(qwen3, changes, message):
    change_json(qwen3 / "config.json", **changes)
    refused(qwen3, message)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_act": "relu"}, "hidden_act = 'relu'"),
        ({"position_embedding_type": "relative_key"}, "position_embedding_type = 'relative_key'"),
        ({"model_type": "bart"}, "'bart' model"),
    ],
    ids=str,
)
def test_unsupported_bert(bert, changes, message):
    change_json(bert / "config.json", **changes)
    refused(bert, message)


@pytest.mark.parametrize(
    ("room", "key", "nearest"),
    [
        ("compressor", "tresholds", "threshold"),
        ("backbone", "num_layer", "num_layers"),
        (None, "polar", "pooler"),
    ],
)
def test_an_unknown_key_names_the_nearest(ours, room, key, nearest):
    content = json.loads((ours / "config.json").read_text())
    model = content["jaspertc"]["model"]
    (model if room is None else model[room])[key] = 1
    (ours / "config.json").write_text(json.dumps(content))
    refused(ours, rf"config\.json: unknown key '{key}'.*did you mean '{nearest}'")


@pytest.mark.parametrize(
    ("key", "values", "allowed"),
    [
        ("format", ["1", None, 0, -1, 1.5, True], "an integer >= 1"),
        ("fallback_id", ["x", -1, 320, 10**9, 1.5, True, [0]], "a token id, 0 to 319, or null"),
        ("max_length", ["5", 0, -1, 1.5, True], "an integer >= 1"),
        ("piece_length", ["50", 0, 31, 40.5, True], "(an integer )?>= (1|32)"),
    ],
)
def test_odd_values_of_our_own_keys_are_named(ours, key, values, allowed):
    content = json.loads((ours / "config.json").read_text())
    for value in values:
        content["jaspertc"][key] = value
        (ours / "config.json").write_text(json.dumps(content))
        refused(ours, rf"config\.json: {key} is {re.escape(repr(value))}, it must be {allowed}")


def test_limits_of_others_name_their_file(bert):
    change_json(bert / "tokenizer_config.json", model_max_length=0)
    refused(bert, r"tokenizer_config\.json: model_max_length is 0, it must be an integer >= 1")


def test_a_limit_with_no_room_for_a_token_is_named(make_model, tmp_path):
    for limit, fits in ((1, False), (2, True)):  # the tokenizer adds one
        model = Embedder.load(make_model(save={"max_length": limit}), device="cpu", dtype="float32")
        assert model.encode_ids([[5, 6, 7]]).shape == (1, 24)
        if fits:
            assert np.abs(np.diff(model.encode(["a cat", "bread rises"]), axis=0)).max() > 1e-3
        else:
            with pytest.raises(CheckpointError, match=r"max_length in config\.json .*is 1, it must be > 1"):
                model.encode(["a cat"])


def _places(value, path=()):
    """Paths to every value inside a JSON object."""
    for key, inner in value.items():
        yield (*path, key)
        if isinstance(inner, dict):
            yield from _places(inner, (*path, key))


def test_odd_values_anywhere_give_named_errors(folder):
    """Each value of config.json is deleted or replaced: loading and use succeed or say what is wrong."""
    original = (folder / "config.json").read_text()
    wrong = []
    for path in _places(json.loads(original)):
        for value in (..., None, "x", -1, 0, 2.5, [], {}, 3, 77):
            content = json.loads(original)
            room = content
            for key in path[:-1]:
                room = room[key]
            if value is ...:
                del room[path[-1]]
            else:
                room[path[-1]] = value
            (folder / "config.json").write_text(json.dumps(content))
            try:
                Embedder.load(folder, device="cpu", dtype="float32").encode_ids([[1, 2, 3]])
            except JasperError:
                pass
            except Exception as error:
                wrong.append(f"{'.'.join(path)} = {value!r}: {type(error).__name__}: {error}")
    assert not wrong, "\n".join(wrong)


@pytest.mark.parametrize(
    "content",
    [
        "",
        "[]",
        "{",
        '{"prompts": [1]}',
        '{"prompts": "x"}',
        '{"prompts": {"query": {"text": "query: "}}}',
        '{"prompts": {"query": 5}}',
    ],
)
def test_broken_prompts(folder, content):
    (folder / "config_sentence_transformers.json").write_text(content)
    refused(folder, "config_sentence_transformers")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "modules.json"),
        ("{}", None),
        ("[1]", "modules.json"),
        ('[{"type": "x.Pooling"}]', "modules.json"),
        ('[{"type": "x.Pooling", "path": "1_Pooling"}]', "config.json is missing"),
        ('[{"type": "x.CNN", "path": ""}]', "names the module 'CNN'"),
    ],
)
def test_broken_modules(bert, content, message):
    (bert / "modules.json").write_text(content)
    if message:
        refused(bert, message)
    else:
        assert load_checkpoint(bert).info.config.pooler == "mean"


@pytest.mark.parametrize(
    "content",
    [
        {"pooling_mode": "max"},
        {"pooling_mode_mean_tokens": True, "pooling_mode_cls_token": True},
        {"pooling_mode_max_tokens": True},
        {"pooling_mode_weightedmean_tokens": True},
        {},
    ],
    ids=str,
)
def test_poolings_that_we_do_not_compute(bert, content):
    (bert / "modules.json").write_text(
        '[{"type": "a.Transformer", "path": ""}, {"type": "a.Pooling", "path": "p"}]'
    )
    (bert / "p").mkdir()
    (bert / "p" / "config.json").write_text(json.dumps(content))
    refused(bert, "supported is one of mean, cls and last token")


# Tokenizer


def test_without_a_tokenizer_token_ids_still_work(folder):
    (folder / "tokenizer.json").unlink(missing_ok=True)
    model = Embedder.load(folder, device="cpu", dtype="float32")
    assert np.isfinite(model.encode_ids([[5, 6, 7]])).all()
    with pytest.raises(TokenizerError, match=r"no tokenizer at .*tokenizer\.json.*encode_ids"):
        model.encode("text")


def test_a_broken_tokenizer(ours):
    (ours / "tokenizer.json").write_text("{}")
    model = Embedder.load(ours, device="cpu", dtype="float32")
    with pytest.raises(TokenizerError, match=r"tokenizer\.json is not a tokenizer"):
        model.encode("text")


def test_a_tokenizer_larger_than_the_vocabulary(ours, tokenizer_json):
    big = json.loads(tokenizer_json("bpe"))
    big["added_tokens"] += [
        big["added_tokens"][0] | {"id": 300 + n, "content": f"<extra {n}>"} for n in range(30)
    ]
    (ours / "tokenizer.json").write_text(json.dumps(big))
    model = Embedder.load(ours, device="cpu", dtype="float32")
    with pytest.raises(TokenizerError, match="has 330 tokens but the model only 320"):
        model.encode("text")
