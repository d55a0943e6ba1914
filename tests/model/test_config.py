"""Configurations: what they refuse and that they survive a round trip."""

import dataclasses
import json

import pytest

from jaspertc.config import BackboneConfig, CompressorConfig, HeadConfig, ModelConfig
from jaspertc.errors import ConfigError
from jaspertc.model.read_config import read_model_config


@pytest.fixture
def config(make_encoder):
    return make_encoder(head=HeadConfig(dims=24, matryoshka=(8, 16)), pooler="last", normalize=False).config


def test_round_trip_through_json(config):
    assert read_model_config(json.loads(json.dumps(dataclasses.asdict(config)))) == config


@pytest.mark.parametrize(
    ("room", "key", "nearest"),
    [
        (None, "poolr", "pooler"),
        ("backbone", "hiden_size", "hidden_size"),
        ("compressor", "treshold", "threshold"),
        ("head", "dim", "dims"),
    ],
)
def test_an_unknown_key_names_the_nearest(config, room, key, nearest):
    values = dataclasses.asdict(config)
    (values if room is None else values[room])[key] = 1
    with pytest.raises(ConfigError, match=rf"unknown key '{key}'.*did you mean '{nearest}'\?"):
        read_model_config(values)


@pytest.mark.parametrize(
    ("room", "change", "message"),
    [
        ("backbone", {"kind": "qwen"}, r"did you mean 'qwen3'"),
        ("backbone", {"gelu": "relu"}, "backbone.gelu"),
        ("backbone", {"hidden_size": 0}, "hidden_size is 0"),
        ("backbone", {"num_layers": 2.0}, "num_layers is 2.0"),
        ("backbone", {"vocab_size": "9"}, "vocab_size is '9'"),
        ("backbone", {"num_kv_heads": 3}, "multiple of num_kv_heads"),
        ("compressor", {"kind": "average"}, "did you mean 'disjoint-average'"),
        ("compressor", {"mlp": "none"}, "mlp_size is 40"),
        ("compressor", {"mlp_size": 0}, "mlp_size is 0"),
        ("compressor", {"threshold": 0}, "threshold is 0"),
        ("compressor", {"ratio": 0}, "ratio is 0"),
        ("compressor", {"ratio": float("nan")}, "ratio is nan"),
        ("compressor", {"ratio": 1.5}, "ratio is 1.5"),
        ("head", {"dims": -1}, "dims is -1"),
        ("head", {"matryoshka": [16, 8]}, "ascending"),
        ("head", {"matryoshka": [0, 8]}, "positive"),
        (None, {"pooler": "max"}, "pooler is 'max'"),
    ],
    ids=lambda value: str(value) if isinstance(value, dict) else "",
)
def test_refused(config, room, change, message):
    values = dataclasses.asdict(config)
    (values if room is None else values[room]).update(change)
    with pytest.raises(ConfigError, match=message):
        read_model_config(values)


def test_dims(config):
    assert config.embedding_dims == 24
    assert dataclasses.replace(config, head=HeadConfig()).embedding_dims == 32


@pytest.mark.parametrize("cls", [BackboneConfig, CompressorConfig, HeadConfig, ModelConfig])
def test_frozen_and_keyword_only(cls):
    assert cls.__dataclass_params__.frozen
    assert all(item.kw_only for item in dataclasses.fields(cls))
