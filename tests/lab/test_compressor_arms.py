"""Windows and compressors of the lab: a start equal to disjoint means, texts that do not touch each other."""

import json
from argparse import Namespace

import numpy as np
import pytest
import torch
from small_training import student

from jaspertc.model.compressors import COMPRESSORS
from jaspertc.model.compressors.disjoint import DisjointAverage, DisjointAverageConfig
from jaspertc.model.compressors.lookup import TokenRows
from jaspertc.text.packing import pack
from lab.compressors.arms import ARMS, CONTROLS, long
from lab.compressors.arms.after_layers import AfterLayers
from lab.compressors.content import RULES, Tokens, longest
from lab.compressors.windows import VALIDATION

WIDTH, VOCABULARY = 16, 50
LENGTHS, TARGETS = (30, 7, 100), (11, 7, 3)


def compress(compressor, texts, targets):
    table = torch.randn(VOCABULARY, WIDTH, generator=torch.Generator().manual_seed(0))
    batch = pack(texts)
    with torch.no_grad():
        return compressor(TokenRows(table, batch.ids), batch, np.array(targets))


@pytest.fixture
def texts():
    random = np.random.default_rng(0)
    return [random.integers(VOCABULARY, size=length) for length in LENGTHS]


@pytest.mark.parametrize("kind", ARMS)
def test_an_untrained_arm_takes_disjoint_means(kind, texts):
    arm = ARMS[kind](ARMS[kind].Config(), WIDTH)
    plain = compress(DisjointAverage(DisjointAverageConfig(), WIDTH), texts, TARGETS)
    torch.testing.assert_close(compress(arm, texts, TARGETS), plain)


@pytest.mark.parametrize("kind", ARMS)
def test_a_trained_arm_differs_and_computes_each_text_alone(kind, texts):
    arm = ARMS[kind](ARMS[kind].Config(), WIDTH)
    generator = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in arm.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=generator))
    together = compress(arm, texts, TARGETS)
    plain = compress(DisjointAverage(DisjointAverageConfig(), WIDTH), texts, TARGETS)
    assert not torch.allclose(together, plain, atol=0.1)
    for part, text, target in zip(together.split(list(TARGETS)), texts, TARGETS):
        torch.testing.assert_close(part, compress(arm, [text], [target]), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("rule", RULES)
@pytest.mark.parametrize(("length", "target"), [(1, 1), (5, 3), (81, 80), (100, 33), (300, 11)])
def test_rules_cut_a_text_into_as_many_windows_within_the_limit(rule, length, target):
    random = np.random.default_rng(length)
    tokens = Tokens(
        random.dirichlet(np.full(VOCABULARY, 0.1)),
        random.random(VOCABULARY) < 0.1,
        random.normal(size=(VOCABULARY, 4)),
    )
    starts = RULES[rule](tokens, random.integers(VOCABULARY, size=length), target, exponent=1, limit=2)
    assert starts[0] == 0
    assert len(starts) == target
    sizes = np.diff(np.append(starts, length))
    assert (sizes > 0).all()
    assert sizes.max() <= longest(length, target, 2)


@pytest.fixture
def encoder(monkeypatch):
    for name, arm in (ARMS | CONTROLS).items():
        monkeypatch.setitem(COMPRESSORS, name, arm)
    encoder, _ = long.with_arm(student(), long.BASE, seed=0)
    return encoder.eval().requires_grad_(False)


@pytest.mark.parametrize(
    ("arm", "kept"),
    [
        ("first-tokens", lambda ids, n: ids[:n]),
        ("every-nth-token", lambda ids, n: ids[np.arange(n) * len(ids) // n]),
    ],
)
def test_controls_leave_tokens_out(encoder, texts, arm, kept):
    other, new = long.with_arm(encoder, arm, seed=0)
    assert not new
    left = pack([kept(ids, target) for ids, target in zip(texts, TARGETS)])
    torch.testing.assert_close(other(pack(texts), np.array(TARGETS)), encoder(left, left.lengths))


def test_a_wider_mlp_starts_as_nothing(encoder, texts):
    other, new = long.with_arm(encoder, "wider-mlp", seed=0)
    assert {name.split(".")[1] for name in new} == {"down", "up"}
    torch.testing.assert_close(other(pack(texts), np.array(TARGETS)), encoder(pack(texts), np.array(TARGETS)))


@pytest.mark.parametrize("layers", [1, 2])
def test_pooling_after_layers(encoder, texts, layers):
    later = AfterLayers.of(encoder, layers)
    batch, targets = pack(texts), np.array(TARGETS)
    torch.testing.assert_close(later(batch, batch.lengths), encoder(batch, batch.lengths))
    together = later(batch, targets)
    assert not torch.allclose(together, encoder(batch, targets), atol=0.01)
    alone = [later(pack([ids]), targets[place : place + 1]) for place, ids in enumerate(texts)]
    torch.testing.assert_close(together, torch.cat(alone))


def test_training_changes_the_copy_alone(encoder):
    random = np.random.default_rng(0)
    texts = [random.integers(VOCABULARY, size=60) for _ in range(24)]
    queries = [ids[:8] for ids in texts]
    bank = torch.nn.functional.normalize(encoder(pack(texts + queries), np.array([60] * 24 + [8] * 24)))
    scores = bank @ bank.T
    data = long.Pairs(
        texts, queries, bank, scores[:24, :24].topk(4).indices[:, 1:].numpy(), scores.topk(6).indices
    )
    before = {name: each.clone() for name, each in encoder.named_parameters()}
    trained, new = long.with_arm(encoder, "weighted-average", seed=0)
    losses = long.train(trained, new, 200, data, steps=12, seed=0)
    assert losses == long.train(
        *long.with_arm(encoder, "weighted-average", seed=0), 200, data, steps=12, seed=0
    )
    assert trained.compressor.score.abs().sum() > 0
    for name, each in trained.named_parameters():
        if name in before:
            assert torch.equal(encoder.get_parameter(name), before[name])
            assert torch.equal(each, before[name]) == ("word_embeddings" in name)


def test_the_table_is_paired_by_seed(tmp_path):
    sets = [f"{name} {'+'.join(sources)}" for name, sources in VALIDATION.items()]
    for arm, shift in ((long.BASE, 0.0), ("slot-average", 0.25)):
        for seed in range(2):
            found = {f"{name}|all": np.arange(20) for name in sets}
            found |= {f"{name}|{long.LONGEST}": np.arange(10) for name in sets}
            gains = np.random.default_rng(seed).random(20) / 2 + shift
            found |= {f"{name}|{ratio:g}": gains for name in sets for ratio in long.RATIOS}
            facts = json.dumps({"arm": arm, "seed": seed})
            np.savez(tmp_path / f"{arm}-{seed}.npz", facts=facts, **found)
    long.table(Namespace(runs=tmp_path, output=tmp_path / "table.json"))
    rows = {
        (row["arm"], row["queries"]): row for row in json.loads((tmp_path / "table.json").read_text())["rows"]
    }
    row = rows["slot-average", f"validation, {long.LONGEST}"]
    assert row["count"] == 20
    assert row[f"0.1, against {long.BASE}"] == [25.0, 25.0]
    assert row["0.1"] == pytest.approx(np.mean(row["0.1, by seed"]), abs=0.01)
    assert rows[long.BASE, "validation, all"]["count"] == 40
