"""``jaspertc distil``: the plan, and what it refuses."""

import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jaspertc.cli import app
from jaspertc.errors import ConfigError, InputError
from jaspertc.recipe.recipe import read_recipe

RECIPES = Path(__file__).parents[2] / "recipes"
runner = CliRunner()


def test_the_reports_recipe_has_the_reports_settings() -> None:
    recipe = read_recipe(RECIPES / "paper-600m.toml")
    distil, compress, dynamic, contrastive = recipe.stages
    assert [stage.learning_rate for stage in recipe.stages] == [1e-4, 7e-5, 7e-5, 2e-5]
    assert [stage.warmup_ratio for stage in recipe.stages] == [0.005] * 4
    assert (distil.epochs, compress.epochs, dynamic.steps, contrastive.steps) == (2, 2, 800, 5000)
    assert [stage.batch_size for stage in recipe.stages] == [256, 256, 512, 16]
    assert (distil.compressor, compress.compressor, dynamic.compressor) == ("none", "swiglu", None)
    assert (distil.ratio, compress.ratio, dynamic.ratio) == (1.0, 0.33, "algorithm-2")
    assert {stage.threshold for stage in recipe.stages} == {80}
    losses = [stage.objective for stage in recipe.stages]
    assert [loss.cosine for loss in losses] == [10] * 4
    assert (losses[2].similarity, losses[3].contrastive, losses[3].soft) == (100, 1, 16)
    assert (losses[3].temperature, losses[3].soft_temperature) == (0.3, 0.1)
    assert (contrastive.negatives, contrastive.checkpointing) == (3, True)
    assert recipe.student is not None
    assert recipe.student.max_length == 1030
    first, second = recipe.teachers
    assert [*first.reducers] == [{"kind": "first", "n": 1024}]
    assert [*second.reducers] == [{"kind": "fold-sum", "n": 3072, "m": 1024}]


def test_a_dry_run_prints_the_plan_and_what_is_missing() -> None:
    result = runner.invoke(app, ["distil", str(RECIPES / "paper-600m.toml"), "--dry-run"])
    assert isinstance(result.exception, ConfigError)
    assert "paragraphs_en.jsonl.gz is missing" in str(result.exception)
    assert "Qwen3-0.6B" in str(result.exception)


def test_a_dry_run_with_a_model_there_has_a_row_a_stage() -> None:
    result = runner.invoke(app, ["distil", str(RECIPES / "quickstart.toml"), "--dry-run"])
    for name in ("distil", "compress", "dynamic", "contrastive"):
        assert re.search(rf"{name}\b.*\b40\b", result.output), result.output
    assert "GFLOP/s" in result.output


def test_a_dry_run_names_only_what_the_command_has(tmp_path: Path) -> None:
    content = (RECIPES / "quickstart.toml").read_text(encoding="utf-8")
    lines = [line for line in content.splitlines() if not line.startswith("expected_texts")]
    (tmp_path / "recipe.toml").write_text("\n".join(lines), encoding="utf-8")
    result = runner.invoke(app, ["distil", str(tmp_path / "recipe.toml"), "--dry-run"])
    assert isinstance(result.exception, ConfigError)
    assert "expected_texts" in str(result.exception)
    assert "--texts" not in str(result.exception)


@pytest.mark.parametrize("stage", ["0", "5", "warm-up"])
def test_unknown_stage(stage: str) -> None:
    result = runner.invoke(app, ["distil", str(RECIPES / "quickstart.toml"), "--stage", stage])
    assert isinstance(result.exception, InputError)
    assert "distil, compress, dynamic, contrastive" in str(result.exception)


def test_a_recipe_that_only_teaches() -> None:
    result = runner.invoke(app, ["distil", str(RECIPES / "quickstart-teach.toml")])
    assert isinstance(result.exception, ConfigError)
    assert "[student]" in str(result.exception)
