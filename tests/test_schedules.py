"""Algorithm 2's frequencies, its wider variant, and the learning rate."""

import random

import pytest

from jaspertc.errors import ConfigError
from jaspertc.schedules import RATIO_SCHEDULES, dynamic_ratio, fixed_ratio, warmup_cosine

DRAWS = 100_000


def share(values: list[float], low: float, high: float) -> float:
    return sum(low <= value < high for value in values) / len(values)


def test_algorithm_2_frequencies() -> None:
    rng = random.Random(0)
    values = [dynamic_ratio(rng) for _ in range(DRAWS)]
    assert values.count(0.33333) / DRAWS == pytest.approx(0.4, abs=0.006)
    others = [value for value in values if value != 0.33333]
    assert share(others, 0.1, 0.33) * len(others) / DRAWS == pytest.approx(0.1, abs=0.006)
    assert share(others, 0.33, 0.66) * len(others) / DRAWS == pytest.approx(0.3, abs=0.006)
    assert share(others, 0.66, 1.01) * len(others) / DRAWS == pytest.approx(0.2, abs=0.006)
    assert min(values) >= 0.1
    assert max(values) <= 1.0
    low = [value for value in others if value < 0.33]
    assert sum(low) / len(low) == pytest.approx((0.1 + 0.33) / 2, abs=0.01)  # uniform within a range


def test_wide_variant_also_draws_one_and_below_a_tenth() -> None:
    rng = random.Random(0)
    values = [RATIO_SCHEDULES["wide"](rng) for _ in range(DRAWS)]
    assert values.count(1.0) / DRAWS == pytest.approx(0.05, abs=0.004)
    assert share(values, 0.03, 0.1) == pytest.approx(0.05, abs=0.004)
    assert values.count(0.33333) / DRAWS == pytest.approx(0.36, abs=0.006)


def test_log_uniform_draws_as_often_from_every_octave() -> None:
    rng = random.Random(0)
    values = [RATIO_SCHEDULES["log-uniform"](rng) for _ in range(DRAWS)]
    assert 0.03 <= min(values) < 0.031
    assert 0.99 < max(values) <= 1.0
    for low in (0.0625, 0.125, 0.25, 0.5):
        assert share(values, low, 2 * low) == pytest.approx(0.1977, abs=0.006)  # log 2 / log (1 / .03)


def test_fixed_ratio() -> None:
    assert {fixed_ratio(0.33)(random.Random(seed)) for seed in range(5)} == {0.33}
    with pytest.raises(ConfigError, match=r"ratio is 1\.5"):
        fixed_ratio(1.5)


def test_warmup_cosine_shape() -> None:
    factors = [warmup_cosine(step, total=2000, warmup_ratio=0.005) for step in range(2000)]
    assert factors[:10] == pytest.approx([(i + 1) / 10 for i in range(10)])
    assert factors[10] == 1.0
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert factors[1005] == pytest.approx(0.5, abs=1e-3)
    assert 0 < factors[-1] < 1e-5
    assert warmup_cosine(0, total=1, warmup_ratio=0) == 1.0


@pytest.mark.parametrize("options", [{"total": 0, "warmup_ratio": 0.1}, {"total": 5, "warmup_ratio": 1.0}])
def test_wrong_arguments_are_named(options: dict) -> None:
    with pytest.raises(ConfigError, match="total is"):
        warmup_cosine(0, **options)
