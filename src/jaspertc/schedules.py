"""Compression ratios and learning rates over training steps, as pure functions."""

import math
import random
from collections.abc import Callable

from jaspertc.errors import ConfigError

RatioSampler = Callable[[random.Random], float]


def fixed_ratio(ratio: float) -> RatioSampler:
    """Always ``ratio``, in (0, 1] (stage 2 of the report: 0.33).

    Raises:
        ConfigError: out of range.
    """
    if not 0 < ratio <= 1:
        raise ConfigError(f"ratio is {ratio}, it must lie in (0, 1]")
    return lambda _: ratio


def dynamic_ratio(rng: random.Random) -> float:
    """One draw of the report's Algorithm 2; every value lies in [0.1, 1]."""
    r = rng.random()
    if r < 0.1:
        return rng.uniform(0.1, 0.33)
    if r < 0.5:
        return 0.33333
    if r < 0.8:
        return rng.uniform(0.33, 0.66)
    return rng.uniform(0.66, 1.0)


def wide_dynamic_ratio(rng: random.Random) -> float:
    """Algorithm 2 for 90 % of draws; 5 % are exactly 1 and 5 % lie in [0.03, 0.1].

    Algorithm 2 never draws 1 nor less than 0.1, so a model trained by it has never seen either.
    """
    r = rng.random()
    if r < 0.05:
        return 1.0
    if r < 0.1:
        return rng.uniform(0.03, 0.1)
    return dynamic_ratio(rng)


def log_uniform_ratio(rng: random.Random) -> float:
    """One draw whose logarithm is uniform in [log 0.03, 0].

    Half of all draws are below 0.18 and a third below 0.1, where Algorithm 2 has none and ``wide`` 5 %.
    """
    return math.exp(rng.uniform(math.log(0.03), 0.0))


def warmup_cosine(step: int, *, total: int, warmup_ratio: float) -> float:
    """Factor on the learning rate at ``step`` = 0 ... total - 1: linear warm-up, then half a cosine to 0.

    The first step has a rate above 0, and the full rate is reached as warm-up ends.

    Args:
        total: optimiser steps of the stage, >= 1.
        warmup_ratio: share of them that warms up, in [0, 1); 0.005 in the report.

    Raises:
        ConfigError: an argument is out of range.

    >>> [round(warmup_cosine(step, total=5, warmup_ratio=0.4), 3) for step in range(5)]
    [0.5, 1.0, 1.0, 0.75, 0.25]
    """
    if total < 1 or not 0 <= warmup_ratio < 1:
        raise ConfigError(
            f"total is {total} and warmup_ratio {warmup_ratio}; they must be >= 1 and in [0, 1)"
        )
    warmup = math.ceil(total * warmup_ratio)
    if step < warmup:
        return (step + 1) / warmup
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, total - warmup)))


RATIO_SCHEDULES: dict[str, RatioSampler] = {
    "algorithm-2": dynamic_ratio,
    "wide": wide_dynamic_ratio,
    "log-uniform": log_uniform_ratio,
}
