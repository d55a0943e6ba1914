"""Reducers and fusion against the report's formulas."""

import numpy as np
import pytest

from jaspertc.errors import ConfigError, InputError
from jaspertc.teachers.fusion import Fusion, build_reducer, fuse, unit

RNG = np.random.default_rng(0)
QWEN = RNG.normal(size=(6, 4096)).astype(np.float32)
QZHOU = RNG.normal(size=(6, 3584)).astype(np.float32)
PAPER = (
    Fusion((build_reducer({"kind": "first", "n": 1024}),)),
    Fusion((build_reducer({"kind": "fold-sum", "n": 3072, "m": 1024}),)),
)


def test_the_reports_fusion() -> None:
    target = fuse(PAPER, (QWEN, QZHOU))
    left = QWEN[0, :1024] / np.linalg.norm(QWEN[0, :1024])
    right = QZHOU[0, :1024] + QZHOU[0, 1024:2048] + QZHOU[0, 2048:3072]
    right = right / np.linalg.norm(right)
    assert target.shape == (6, 2048)
    assert np.abs(target[0] - np.concatenate([left, right]) / np.sqrt(2)).max() < 1e-6


def test_cosine_of_targets_is_the_weighted_mean_of_cosines() -> None:
    for weight in (1.0, 2.0):
        parts = (Fusion(), Fusion(weight=weight))
        target = fuse(parts, (QWEN, QZHOU))
        a, b = unit(QWEN), unit(QZHOU)
        expected = (a @ a.T + weight**2 * (b @ b.T)) / (1 + weight**2)
        assert np.abs(target @ target.T - expected).max() < 1e-5


def test_centre_and_pca_are_fitted_in_order() -> None:
    shifted = unit(RNG.normal(size=(500, 16)).astype(np.float32) + 5)
    fusion = Fusion((build_reducer({"kind": "centre"}), build_reducer({"kind": "pca", "m": 4}))).fit(shifted)
    assert fusion(shifted).shape == (500, 4)
    centred = Fusion((build_reducer({"kind": "centre"}),)).fit(shifted)(shifted)
    assert (shifted @ shifted.T).mean() > 0.9
    assert abs((centred @ centred.T).mean()) < 0.01
    values, directions = np.linalg.eigh(np.cov(shifted.T, bias=True))
    best = directions[:, ::-1][:, :4]
    ours = fusion.reducers[1].directions  # type: ignore[attr-defined]
    assert np.abs(np.abs(best.T @ ours) - np.eye(4)).max() < 0.05
    assert values[-1] > 0


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda: build_reducer({"kind": "frist", "n": 2}), "frist"),
        (lambda: build_reducer({"kind": "first"}), "cannot take"),
        (lambda: fuse((Fusion((build_reducer({"kind": "first", "n": 5000}),)),), (QWEN,)), "4096 dimensions"),
        (
            lambda: fuse((Fusion((build_reducer({"kind": "fold-sum", "n": 3000, "m": 1024}),)),), (QZHOU,)),
            "multiple of m",
        ),
        (lambda: Fusion(weight=0.0), "weight is 0"),
        (lambda: build_reducer({"kind": "pca", "m": 99}).fit(QWEN), "1 to 6"),
    ],
)
def test_wrong_recipes_are_named(make: object, words: str) -> None:
    with pytest.raises(ConfigError, match=words):
        make()  # type: ignore[operator]


def test_misaligned_or_unfitted_input_is_refused() -> None:
    with pytest.raises(InputError, match="same texts"):
        fuse(PAPER, (QWEN, QZHOU[:5]))
    with pytest.raises(InputError, match="fit it"):
        build_reducer({"kind": "centre"})(QWEN)
