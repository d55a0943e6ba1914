"""Windows and compressors of the lab: a start equal to disjoint means, texts that do not touch each other."""

import numpy as np
import pytest
import torch

from jaspertc.model.compressors.disjoint import DisjointAverage, DisjointAverageConfig
from jaspertc.model.compressors.lookup import TokenRows
from jaspertc.text.packing import pack
from lab.compressors.arms import ARMS
from lab.compressors.content import RULES, Tokens, longest

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
