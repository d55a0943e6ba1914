"""A fingerprint changes exactly when a vector does: every file of every layout, one change at a time."""

import copy
import json
import shutil

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from jaspertc import Embedder, JasperError
from jaspertc.checkpoint import load_checkpoint

LAYOUTS = ("ours", "released", "bert", "qwen3", "sentence-transformers")


@pytest.fixture(params=LAYOUTS)
def folder(request, model_folder, golden, hugging_face, tmp_path):
    """A copy of a folder of each layout."""
    if request.param == "sentence-transformers":
        return dense_folder(hugging_face("bert")[0], tmp_path / "st")
    source = {"ours": model_folder, "released": golden.folder}.get(request.param)
    return shutil.copytree(source or hugging_face(request.param)[0], tmp_path / "copy")


def dense_folder(source, target):
    """A model with pooling, a dense layer and prompts, as sentence-transformers lays them out."""
    shutil.copytree(source, target)
    modules = [
        ("", "Transformer"),
        ("1_Pooling", "Pooling"),
        ("2_Dense", "Dense"),
        ("3_Normalize", "Normalize"),
    ]
    (target / "modules.json").write_text(
        json.dumps(
            [
                {
                    "idx": place,
                    "name": str(place),
                    "path": path,
                    "type": f"models.{kind}",
                }
                for place, (path, kind) in enumerate(modules)
            ]
        )
    )
    for path, content in (
        ("1_Pooling", {"word_embedding_dimension": 32, "pooling_mode_mean_tokens": True}),
        (
            "2_Dense",
            {
                "in_features": 32,
                "out_features": 8,
                "bias": True,
                "activation_function": "torch.nn.modules.linear.Identity",
            },
        ),
        ("3_Normalize", {}),
    ):
        (target / path).mkdir()
        (target / path / "config.json").write_text(json.dumps(content))
    (target / "config_sentence_transformers.json").write_text(
        json.dumps({"prompts": {"query": "query: ", "document": ""}, "default_prompt_name": None})
    )
    generator = torch.Generator().manual_seed(0)
    weights = {
        "linear.weight": torch.randn(8, 32, generator=generator),
        "linear.bias": torch.randn(8, generator=generator),
    }
    save_file(weights, target / "2_Dense" / "model.safetensors")
    return target


def facts(folder, sentences):
    """Fingerprint and vectors, or the error in place of both."""
    try:
        model = Embedder.load(folder, device="cpu", runtime="torch")
        if not (folder / "tokenizer.json").is_file():
            rows = [[1, 2, 3], list(range(2, 150))]
            return model.fingerprint, [model.encode_ids(rows).tobytes()]
        texts = ["", "short", sentences[0], " ".join(sentences * 3)]
        return model.fingerprint, [
            encode(texts).tobytes() for encode in (model.encode, model.encode_query, model.encode_document)
        ]
    except JasperError as error:
        return type(error), None


def leaves(content, path=()):
    if isinstance(content, dict):
        for key, value in content.items():
            yield from leaves(value, (*path, key))
    elif isinstance(content, list):
        for place, value in enumerate(content[:4]):
            yield from leaves(value, (*path, place))
    else:
        yield path, content


def changed(value):
    if isinstance(value, bool):
        return not value
    if isinstance(value, (int, float)):
        return value * 2 + 1
    return f"{value}x" if isinstance(value, str) else 1


def with_value(content, path, value):
    content = copy.deepcopy(content)
    inner = content
    for key in path[:-1]:
        inner = inner[key]
    inner[path[-1]] = value
    return content


@pytest.mark.filterwarnings("ignore::jaspertc.engine.options.LongTextWarning")
def test_settings_one_at_a_time(folder, sentences):
    before = facts(folder, sentences)
    for path in sorted(folder.rglob("*.json")):
        content = json.loads(path.read_text(encoding="utf-8"))
        if path.name == "tokenizer.json":
            content = {key: value for key, value in content.items() if key not in ("model", "added_tokens")}
            if len(json.dumps(content)) > 20_000:
                continue
        whole = path.read_text(encoding="utf-8")
        for leaf, value in leaves(content):
            path.write_text(json.dumps(with_value(json.loads(whole), leaf, changed(value))), encoding="utf-8")
            after = facts(folder, sentences)
            if after[1] is not None and after[1] != before[1]:
                assert after[0] != before[0], (path.name, leaf)
        path.write_text(whole, encoding="utf-8")
    assert facts(folder, sentences) == before


def test_every_tensor_counts(folder, sentences):
    before = facts(folder, sentences)
    for path in sorted(folder.rglob("model.safetensors")):
        tensors = load_file(path)
        for name in sorted(tensors)[:: max(1, len(tensors) // 12)]:
            other = {key: value.clone() for key, value in tensors.items()}
            other[name].view(-1)[-1] += 1
            save_file(other, path)
            after = facts(folder, sentences)
            assert after[0] != before[0], (path, name)
        save_file(tensors, path, metadata={"format": "pt", "made": "again, with another note in the header"})
    assert facts(folder, sentences)[0] == before[0]


def test_every_part_of_the_tokenizer_counts(folder, sentences):
    """Its vocabulary, merges, normalizer and added tokens; not how it is written down."""
    path = folder / "tokenizer.json"
    if not path.is_file():
        pytest.skip("this layout's folder has none")
    before, whole = facts(folder, sentences), path.read_text(encoding="utf-8")
    content = json.loads(whole)
    path.write_text(json.dumps(content, indent=3) + "\n", encoding="utf-8")
    assert facts(folder, sentences) == before
    model = content["model"]
    changes = [
        {"normalizer": {"type": "Lowercase"}},
        {"model": {**model, "vocab": dict(swapped(model["vocab"]))}},
    ]
    if model["type"] == "BPE":
        changes.append({"model": {**model, "merges": model["merges"][:-9]}})
    for change in changes:
        path.write_text(json.dumps(content | change), encoding="utf-8")
        after = facts(folder, [text.upper() for text in sentences] + sentences)
        assert after[0] != before[0], list(change)
        assert after[1] is not None


def swapped(vocabulary):
    """Two tokens change their ids."""
    (*rest, (first, one), (second, two)) = vocabulary.items()
    return [*rest, (first, two), (second, one)]


def test_other_files_do_not_count(folder, sentences):
    before = facts(folder, sentences)
    (folder / "training_log.txt").write_text("step 1")
    (folder / "trainer_state.json").write_text('{"step": 1}')
    (folder / "README.md").write_text("A model.")
    (folder / "logs").mkdir()
    (folder / "logs" / "events.json").write_text("{}")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"_comment": "hello"}, indent=7))
    assert facts(folder, sentences) == before


def test_another_dense_layer_is_another_model(hugging_face, tmp_path, sentences):
    folder = dense_folder(hugging_face("bert")[0], tmp_path / "st")
    before = facts(folder, sentences)
    path = folder / "2_Dense" / "model.safetensors"
    weights = load_file(path)
    save_file({name: weight.flip(0).contiguous() for name, weight in weights.items()}, path)
    after = facts(folder, sentences)
    assert after[0] != before[0]
    assert after[1] != before[1]


def test_overrides_given_at_load_count(hugging_face):
    folder = hugging_face("bert")[0]
    prints = {Embedder.load(folder, pooler=pooler).fingerprint for pooler in ("mean", "first", "last")}
    assert len(prints) == 3


def test_a_model_that_is_replaced_while_it_is_used_keeps_its_fingerprint(model_folder, tmp_path):
    folder = shutil.copytree(model_folder, tmp_path / "copy")
    model = Embedder.load(folder)
    path = folder / "model.safetensors"
    tensors = load_file(path)
    name = next(name for name, tensor in tensors.items() if tensor.ndim == 2)
    tensors[name] = tensors[name] + 1
    path.unlink()
    save_file(tensors, path)
    with pytest.raises(JasperError, match="changed since"):
        _ = model.fingerprint
    assert load_checkpoint(folder).fingerprint != Embedder.load(model_folder).fingerprint


def test_equal_folders_have_equal_fingerprints(folder, tmp_path):
    other = shutil.copytree(folder, tmp_path / "other")
    assert load_checkpoint(folder).fingerprint == load_checkpoint(other).fingerprint


def test_a_stale_tensor_in_another_shard_is_not_read(hugging_face, tmp_path, sentences):
    folder = shutil.copytree(hugging_face("bert")[0], tmp_path / "shards")
    before = Embedder.load(folder).encode(sentences)
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    half = len(names) // 2
    stale = {name: tensors[name] + 1 for name in names[:3]}
    save_file({name: tensors[name] for name in names[:half]}, folder / "model-1.safetensors")
    save_file({name: tensors[name] for name in names[half:]} | stale, folder / "model-2.safetensors")
    weight_map = {name: f"model-{1 if place < half else 2}.safetensors" for place, name in enumerate(names)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    np.testing.assert_array_equal(Embedder.load(folder).encode(sentences), before)
