"""The report's recipe at its true shape, a few steps of every stage: does it run here, in how much memory?

    python -m lab.benchmarks.paper_stages SCRATCH --steps 2

Stages, losses and learning rates are those of recipes/paper-600m.toml; the student has the released shape,
random weights and the built-in model's tokenizer. What no such machine holds is made small: few texts a step
(the package's samples), graphs kept for few tokens, activations recomputed, one saved state; targets are
twice the built-in model's vectors (768 values; the report's have 2,048). SCRATCH takes some 20 GB, and can go
then.
"""

import argparse
import json
import re
import shutil
import subprocess
import sys
import threading
import time
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jaspertc.checkpoint import load_checkpoint
from jaspertc.recipe.plan import plan
from jaspertc.recipe.recipe import read_recipe
from jaspertc.reports.origin import processor, versions
from lab.compare.random_model import released_shape, write_random_model

ROOT = Path(__file__).parents[2]
PAPER = ROOT / "recipes" / "paper-600m.toml"
SMALL = {"token_budget": 1024, "graph_tokens": 1024, "checkpointing": True, "save_every": 1000, "keep": 1}
BATCH = {False: 8, True: 2}  # texts a step; queries of the stage with negatives, each with four documents

RECIPE = """
[[texts.files]]
path = "samples:passages"

[[texts.pairs]]
path = "samples:pairs"

[[teachers]]
name = "first"
kind = "jaspertc"
model = "mini"
max_length = 64
ratio = 1.0

[[teachers]]
name = "second"
kind = "jaspertc"
model = "mini"
prompts = { query = "query: ", document = "passage: " }
max_length = 64
ratio = 1.0

[cache]
folder = "vectors"

[mining]
output = "negatives.jsonl.gz"
negatives = 3

[student]
model = "./student"
max_length = 1030

[training]
folder = "run"
device = "cpu"
weights = "bfloat16"
held_out = 4
expected_texts = 384
expected_tokens = 50
"""


def toml(values: Mapping[str, Any]) -> str:
    """The lines of a table."""
    return "\n".join(f"{key} = {_value(value)}" for key, value in values.items())


def _value(value: Any) -> str:
    if isinstance(value, Mapping):
        return "{ " + ", ".join(f"{key} = {_value(part)}" for key, part in value.items()) + " }"
    return json.dumps(value)  # numbers, strings and booleans are written alike


def write_recipe(folder: Path, steps: int) -> Path:
    parts = [RECIPE]
    for stage in tomllib.loads(PAPER.read_text(encoding="utf-8"))["stages"]:
        kept = {key: value for key, value in stage.items() if key not in ("epochs", *SMALL)}
        sizes = {"steps": steps, "batch_size": BATCH["negatives" in stage]}
        parts.append(f"[[stages]]\n{toml({**kept, **sizes, **SMALL})}\n")
    path = folder / "recipe.toml"
    path.write_text("\n".join(parts), encoding="utf-8")
    return path


def memory(process: int) -> float:
    """GiB that a process holds now, mapped files not counted; 0 once it has ended."""
    try:
        lines = Path(f"/proc/{process}/status").read_text(encoding="utf-8").splitlines()
    except OSError:
        return 0.0
    return next((int(line.split()[1]) / 2**20 for line in lines if line.startswith("RssAnon:")), 0.0)


def run(command: str, recipe: Path) -> list[dict[str, Any]]:
    """Run a command; of each stage (or the whole command) seconds, largest memory and what it said."""
    process = subprocess.Popen(
        [sys.executable, "-m", "jaspertc", command, str(recipe)],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        bufsize=1,
    )
    parts: list[dict[str, Any]] = [{"part": command, "begun": time.time(), "GiB": 0.0, "said": []}]

    def watch() -> None:
        while process.poll() is None:
            parts[-1]["GiB"] = max(parts[-1]["GiB"], memory(process.pid))
            time.sleep(0.1)

    watcher = threading.Thread(target=watch, daemon=True)
    watcher.start()
    assert process.stdout is not None
    for line in process.stdout:
        print(line, end="", flush=True)
        if re.match(r"stage \d+, ", line):
            parts.append({"part": line.split(":")[0], "begun": time.time(), "GiB": 0.0, "said": []})
        parts[-1]["said"].append(line.strip())
    watcher.join()
    if process.wait():
        raise SystemExit(f"jaspertc {command} failed")
    ends = [part["begun"] for part in parts[1:]] + [time.time()]
    return [
        {
            "part": part["part"],
            "seconds": round(end - part["begun"], 1),
            "GiB": round(part["GiB"], 2),
            "said": [line for line in part["said"] if "loss" in line],
        }
        for part, end in zip(parts, ends)
    ]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("scratch", type=Path, help="a new folder")
    parser.add_argument("--steps", type=int, default=2, help="of each stage")
    parser.add_argument("--layers", type=int, default=0, help="keep so many of the 28; default: all")
    parser.add_argument("--output", type=Path, help="JSON file for the result")
    options = parser.parse_args()
    options.scratch.mkdir(parents=True)
    student = write_random_model(options.scratch / "student", released_shape("600m", options.layers))
    shutil.copy(load_checkpoint("mini").folder / "tokenizer.json", student / "tokenizer.json")
    recipe = write_recipe(options.scratch, options.steps)
    planned = {
        cost.name: round(cost.gib, 2) for cost in plan(read_recipe(recipe), flops_per_second=1e11).distil
    }
    found = [part for command in ("teach", "mine", "distil") for part in run(command, recipe)]
    report = {
        "processor": processor(),
        "versions": versions("torch"),
        "layers": options.layers or 28,
        "planned, GiB": planned,
        "parts": found,
    }
    print(json.dumps(report, indent=1))
    if options.output:
        options.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
