"""Windows and their means against AdaptiveAvgPool1d, and what every compressor of the registry keeps to."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest
import torch

from jaspertc.config import CompressorConfig
from jaspertc.errors import ConfigError
from jaspertc.model.compressors import (
    COMPRESSORS,
    TokenRows,
    Windows,
    build_compressor,
    start_config,
    start_names,
)
from jaspertc.model.compressors.adaptive_average import AdaptiveAverage, AdaptiveAverageConfig
from jaspertc.model.compressors.windows import packed_windows
from jaspertc.text.packing import pack

COMPRESSOR = AdaptiveAverage(AdaptiveAverageConfig(), 8)

LONG_PAIRS = [(1030, 555), (2100, 1), (32768, 16424), (40_001, 39_999), (100_000, 7), (65_537, 65_537)]


def windows(lengths: np.ndarray, targets: np.ndarray) -> Windows:
    return packed_windows(AdaptiveAverage.window_edges, lengths, targets)


def pooled(x: torch.Tensor, lengths: list[int], targets: list[int]) -> torch.Tensor:
    """Rows of ``x`` (all texts end to end) pooled by our windows."""
    return TokenRows(x).pooled(windows(np.array(lengths, dtype=np.int64), np.array(targets, dtype=np.int64)))


def adaptive(x: torch.Tensor, target: int) -> torch.Tensor:
    return torch.nn.AdaptiveAvgPool1d(target)(x.T[None])[0].T


def noise(rows: int, width: int = 3) -> torch.Tensor:
    return torch.randn(rows, width, generator=torch.Generator().manual_seed(rows), dtype=torch.float64)


def random_pairs(count: int, longest: int, seed: int) -> list[tuple[int, int]]:
    random = np.random.default_rng(seed)
    lengths = random.integers(1, longest, size=count)
    return [(int(length), int(random.integers(1, length + 1))) for length in lengths]


@pytest.mark.parametrize(
    "pairs",
    [
        [(length, target) for length in range(1, 61) for target in range(1, length + 1)],
        random_pairs(600, 3000, seed=0),
        LONG_PAIRS,
    ],
    ids=["all up to 60", "600 up to 3000", "long"],
)
def test_pooling_equals_adaptive_average_pooling(pairs):
    for length, target in pairs:
        x = noise(length)
        found = pooled(x, [length], [target])
        torch.testing.assert_close(found, adaptive(x, target), rtol=0, atol=1e-12)
        if target == length:
            assert torch.equal(found, x)


@pytest.mark.parametrize("seed", range(5))
def test_a_whole_batch_equals_its_texts_alone(seed):
    pairs = [*random_pairs(40, 400, seed), (1, 1), (9, 9), (300, 1)]
    lengths, targets = (list(part) for part in zip(*pairs))
    x = noise(sum(lengths))
    alone = [adaptive(part, target) for part, target in zip(x.split(lengths), targets)]
    torch.testing.assert_close(pooled(x, lengths, targets), torch.cat(alone), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("length", "target"), [*random_pairs(200, 500, seed=3), (1, 1), (500, 500)])
def test_window_bounds_are_the_report_s(length, target):
    bounds = COMPRESSOR.window_bounds(np.arange(length), target)
    edges = [Fraction(i * length, target) for i in range(target + 1)]
    exact = [(math.floor(begin), math.ceil(end)) for begin, end in itertools.pairwise(edges)]
    assert bounds == exact
    plan = windows(np.array([length]), np.array([target]))
    parts = np.split(plan.gather, plan.starts[1:])
    assert [(int(part[0]), int(part[-1]) + 1) for part in parts] == bounds
    assert all((np.diff(part) == 1).all() for part in parts)
    sizes = {end - first for first, end in bounds}
    assert sizes <= {math.ceil(length / target), math.ceil(length / target) + 1}
    assert set(range(length)) == set(plan.gather.tolist())  # no token is lost


@pytest.mark.parametrize(("length", "target"), [(3, 4), (3, 0)])
def test_impossible_targets_are_our_bug(length, target):
    with pytest.raises(AssertionError):
        windows(np.array([length]), np.array([target]))


def test_weighted_windows_are_weighted_sums():
    x = noise(9, width=4)
    index = np.array([3, 1, 1, 8, 0])
    weights = np.array([0.25, 0.75, 1.0, 0.5, 0.1, 0.4], dtype=np.float32)
    plan = Windows(
        gather=np.array([0, 1, 1, 2, 3, 4]),
        starts=np.array([0, 2, 3]),
        lengths=np.array([3]),
        weights=weights,
    )
    tokens, share = x[index], torch.from_numpy(weights).double()
    expected = torch.stack(
        [
            share[0] * tokens[0] + share[1] * tokens[1],
            share[2] * tokens[1],
            share[3] * tokens[2] + share[4] * tokens[3] + share[5] * tokens[4],
        ]
    )
    for rows in (TokenRows(x, index), TokenRows(tokens)):
        torch.testing.assert_close(rows.pooled(plan), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("name", start_names())
def test_what_an_encoder_asks_of_a_compressor(name):
    """Rows of one text do not depend on others; as many targets as tokens change no number of rows."""
    config = start_config(name, {}, width=8, before=CompressorConfig())
    compressor = build_compressor(config, 8).eval()
    assert COMPRESSORS[config.kind] is type(compressor)
    assert type(compressor).read_config(vars(config)) == config
    x = torch.randn(12, 8, generator=torch.Generator().manual_seed(0))
    batch = pack([np.arange(7), np.arange(5)])
    targets = np.array([3, 2]) if compressor.can_compress else batch.lengths
    whole = compressor(TokenRows(compressor.transform(x)), batch, targets)
    assert whole.shape == (targets.sum(), 8)
    first = compressor(TokenRows(compressor.transform(x[:7])), pack([np.arange(7)]), targets[:1])
    torch.testing.assert_close(whole[: targets[0]], first, rtol=1e-6, atol=1e-6)
    bounds = compressor.window_bounds(np.arange(7), int(targets[0]))
    assert len(bounds) == targets[0]
    assert {token for begin, end in bounds for token in range(begin, end)} == set(range(7))


def test_a_config_of_another_kind_is_refused():
    with pytest.raises(ConfigError, match="needs a AdaptiveAverageConfig, not a CompressorConfig"):
        build_compressor(CompressorConfig(kind="adaptive-average"), 8)
