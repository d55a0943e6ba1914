"""Limits that a folder or a call states, where they are easily overlooked."""

import json
import shutil

import numpy as np
import pytest

from jaspertc import Embedder
from jaspertc.checkpoint import load_checkpoint
from jaspertc.config import ConfigError, HeadConfig, ModelConfig
from jaspertc.engine.precision import similarity
from jaspertc.errors import CheckpointError, InputError


@pytest.mark.parametrize("widths", [(8, 4096), (8, 8), (16, 8), (8.0, 16)])
def test_matryoshka_widths_lie_within_the_vector(model_folder, widths):
    backbone = load_checkpoint(model_folder).info.config.backbone
    with pytest.raises(ConfigError, match="matryoshka"):
        ModelConfig(backbone=backbone, head=HeadConfig(dims=24, matryoshka=widths))


def test_a_plain_folder_is_cut_where_its_tokenizer_says(hugging_face, tmp_path):
    folder = shutil.copytree(hugging_face("bert")[0], tmp_path / "copy")
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 20}))
    assert load_checkpoint(folder).info.max_length == 20
    (folder / "tokenizer_config.json").write_text(json.dumps({"model_max_length": 1e30}))
    assert load_checkpoint(folder).info.max_length is None


def test_lower_casing_that_is_not_computed_is_refused(hugging_face, tmp_path):
    folder = shutil.copytree(hugging_face("bert")[0], tmp_path / "copy")
    (folder / "sentence_bert_config.json").write_text(json.dumps({"do_lower_case": True}))
    with pytest.raises(CheckpointError, match="do_lower_case"):
        load_checkpoint(folder)


def test_wrong_types_are_named(model_folder):
    model = Embedder.load(model_folder, device="cpu")
    with pytest.raises(InputError, match="max_compressed"):
        model.target_lengths(np.array([5]), max_compressed="x")
    with pytest.raises(InputError, match="NoneType"):
        model.encode_ids(None)
    with pytest.raises(InputError, match="cannot compare"):
        similarity(np.array("a"), np.array("b"))
