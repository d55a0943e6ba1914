"""Our backbones against Transformers' modules with the same random weights, in float32."""

import dataclasses

import numpy as np
import pytest
import torch

from jaspertc.checkpoint import load_checkpoint
from jaspertc.config import ModelConfig
from jaspertc.model.attention import PackedLayout
from jaspertc.model.encoder import Encoder
from jaspertc.text.packing import pack

LENGTHS = (5, 1, 130, 2, 129, 5, 64)
KINDS = ("qwen3", "bert", "bert-tanh", "roberta", "xlm-roberta")


def rows_of(lengths, vocabulary=200, seed=0):
    random = np.random.default_rng(seed)
    return [random.integers(5, vocabulary, size=length) for length in lengths]  # 5: no special ids


def hidden_states(encoder, rows):
    """Last hidden states of each row, all rows packed in one batch."""
    batch = pack(rows)
    with torch.no_grad():
        x = encoder.compress(batch, batch.lengths)
        x = encoder.backbone(x, PackedLayout.of(batch.lengths, x.device))
    return torch.split(x, batch.lengths.tolist())


def theirs_alone(module, row, **options):
    with torch.no_grad():
        return module(input_ids=torch.from_numpy(row)[None], **options).last_hidden_state[0]


@pytest.mark.parametrize("kind", KINDS)
def test_hidden_states_equal_transformers(hugging_face, kind):
    folder, theirs = hugging_face(kind)
    rows = rows_of(LENGTHS)
    for row, found in zip(rows, hidden_states(load_checkpoint(folder).encoder, rows)):
        torch.testing.assert_close(found, theirs_alone(theirs, row), rtol=0, atol=2e-5)


@pytest.mark.parametrize("kind", KINDS)
def test_longest_row(hugging_face, kind):
    """All 512 positions can be used; the offset of RoBERTa's tables is not lost at the end."""
    folder, theirs = hugging_face(kind)
    checkpoint = load_checkpoint(folder)
    assert checkpoint.info.config.backbone.max_positions == 512
    (row,) = rows_of([512])
    (found,) = hidden_states(checkpoint.encoder, [row])
    torch.testing.assert_close(found, theirs_alone(theirs, row), rtol=0, atol=2e-5)


def with_causal(encoder: Encoder, causal: bool) -> Encoder:
    config: ModelConfig = encoder.config
    other = Encoder(dataclasses.replace(config, backbone=dataclasses.replace(config.backbone, causal=causal)))
    other.load_state_dict(encoder.state_dict())
    return other


def test_bidirectional_qwen3(hugging_face):
    folder, theirs = hugging_face("qwen3")
    causal = load_checkpoint(folder).encoder
    rows = rows_of(LENGTHS)
    both_ways = hidden_states(with_causal(causal, False), rows)
    for row, found, one_way in zip(rows, both_ways, hidden_states(causal, rows)):
        see_all = {"full_attention": torch.zeros(1, 1, len(row), len(row))}
        expected = theirs_alone(theirs, row, attention_mask=see_all)
        torch.testing.assert_close(found, expected, rtol=0, atol=2e-5)
        assert (len(row) == 1) == torch.allclose(found, one_way, atol=1e-2)


def test_a_causal_token_ignores_later_ones(hugging_face):
    encoder = load_checkpoint(hugging_face("qwen3")[0]).encoder
    (row,) = rows_of([140])
    changed = np.concatenate([row[:-1], [(row[-1] + 1) % 200]])
    first, second = (hidden_states(encoder, [ids])[0] for ids in (row, changed))
    assert torch.equal(first[:-1], second[:-1])
    assert not torch.allclose(first[-1], second[-1], atol=1e-2)


@pytest.mark.parametrize("kind", ["qwen3", "xlm-roberta"])
def test_a_text_does_not_see_its_neighbours(hugging_face, kind):
    encoder = load_checkpoint(hugging_face(kind)[0]).encoder
    row, *others = rows_of([40, 40, 7, 131])
    (alone,) = hidden_states(encoder, [row])
    for mates in ([row, *others], [*others, row], [others[0], row, others[0]]):
        place = next(i for i, mate in enumerate(mates) if mate is row)
        torch.testing.assert_close(hidden_states(encoder, mates)[place], alone, rtol=0, atol=1e-5)


def test_rms_norm_and_rotary_accumulate_in_float32():
    """In bfloat16 the statistic of large values and the angle of late positions would be wrong."""
    from jaspertc.model.backbones.qwen3 import RMSNorm, rotary_tables

    x = torch.full((1, 4096), 3.0, dtype=torch.bfloat16)
    norm = RMSNorm(4096, 1e-6).to(torch.bfloat16)
    torch.testing.assert_close(norm(x), torch.ones_like(x), rtol=0, atol=0)
    positions = torch.tensor([1001])  # bfloat16 rounds it to 1000
    cos, sin = rotary_tables(positions, 8, 1e6, torch.bfloat16)
    assert abs(float(cos[0, 0, 0]) - np.cos(1001)) < 0.01
    assert abs(float(sin[0, 0, 0]) - np.sin(1001)) < 0.01
