"""SIGKILL at random moments over ``embed``, ``index`` and more: nothing lost or doubled.

    python lab/benchmarks/kills.py [--kills 1000] [--minutes 15] [--command embed ...] [--output FILE.json]

Each command runs with a tiny model, again and again, killed at a moment drawn evenly from the time that an
undisturbed run takes, until one run comes to its end; what is there then must be what the undisturbed run
left: files byte by byte, an index by its checked content. Then it starts anew. Where FILE.json has kills
already, it goes on after them. Processes are forked from one that has imported what they need, so moments
fall into the work. The exit status is 1 if any result differed.
"""

import argparse
import contextlib
import hashlib
import json
import os
import random
import re
import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib import import_module
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

import torch
from serving_process import RESULTS, machine, write

import jaspertc.cli
from jaspertc.checkpoint import load_checkpoint, save_checkpoint
from jaspertc.checkpoint.vocabulary import prune_to_texts
from jaspertc.config import BackboneConfig, HeadConfig, ModelConfig
from jaspertc.errors import JasperError
from jaspertc.model.compressors.adaptive_average import AdaptiveAverageConfig
from jaspertc.model.encoder import Encoder
from jaspertc.samples import load_samples
from jaspertc.search import upkeep

COMMANDS = ("embed", "index", "sync", "refine", "teach", "distil")
COUNTED = ("kills", "completed", "wrong")
MODULES = "modules.txt"
LONGEST = 120.0  # seconds of one run
RECIPE = """
[[texts.files]]
path = "{corpus}"

[[teachers]]
name = "tiny"
kind = "jaspertc"
model = "{model}"
device = "cpu"
runtime = "torch"

[cache]
folder = "{folder}/cache"
shard_rows = 8

[student]
model = "{model}"

[training]
folder = "{folder}/run"
held_out = 8

[[stages]]
name = "distil"
compressor = "none"
objective = {{ cosine = 10 }}
learning_rate = 1e-3
steps = 6
batch_size = 8
save_every = 2

[[stages]]
name = "compress"
compressor = "disjoint"
objective = {{ cosine = 10, similarity = 100 }}
learning_rate = 1e-3
steps = 6
batch_size = 8
threshold = 8
ratio = 0.5
save_every = 2
"""


@dataclass(frozen=True)
class Work:
    """A command for a folder: its arguments, what is compared afterwards, and what must be there before."""

    arguments: Callable[[Path], list[str]]
    digest: Callable[[Path], str]
    start: Callable[[Path], None]


def tiny_model(folder: Path, texts: list[str]) -> Path:
    """Random weights, 32 wide, with the tokens of some texts."""
    tokenizer_json, keep, _ = prune_to_texts(load_checkpoint("mini").tokenizer, texts)
    shape = BackboneConfig(
        kind="bert",
        vocab_size=len(keep),
        hidden_size=32,
        num_layers=2,
        num_heads=2,
        num_kv_heads=2,
        head_dim=16,
        intermediate_size=64,
        norm_eps=1e-12,
        max_positions=512,
        causal=False,
    )
    compressor = AdaptiveAverageConfig(mlp="swiglu", mlp_size=32, threshold=8)
    torch.manual_seed(0)
    encoder = Encoder(ModelConfig(backbone=shape, compressor=compressor, head=HeadConfig(dims=16)))
    return save_checkpoint(folder, encoder.eval(), tokenizer_json=tokenizer_json, fallback_id=0)


def digest_of(*files: Path) -> str:
    """One hash of names and bytes."""
    digest = hashlib.sha256()
    for path in sorted(files):
        digest.update(f"{path.name}\0{path.stat().st_size}\0".encode() + path.read_bytes())
    return digest.hexdigest()[:16]


def digest_of_index(folder: Path) -> str:
    """Rows of a checked index: ids, texts, vectors."""
    path = folder / "texts.db"
    upkeep.check(path)
    exported = folder / "rows.parquet"
    exported.unlink(missing_ok=True)
    upkeep.export(path, exported)
    import pyarrow.parquet

    rows = pyarrow.parquet.read_table(exported).to_pylist()
    exported.unlink()
    return hashlib.sha256(json.dumps(sorted(rows, key=repr), default=str).encode()).hexdigest()[:16]


def digest_of_cache(folder: Path) -> str:
    """All files of the teachers' vectors but locks."""
    files = [path for path in (folder / "cache").rglob("*") if path.is_file() and path.name != "lock"]
    return digest_of(*files)


def digest_of_run(folder: Path) -> str:
    """Weights of all stages and of the result, and each step once in each stage's log."""
    steps = [
        [json.loads(line)["step"] for line in path.read_text().splitlines()]
        for path in sorted((folder / "run").rglob("metrics.jsonl"))
    ]
    return digest_of(*(folder / "run").rglob("model.safetensors")) + str(steps)


def works(place: Path) -> dict[str, Work]:
    """The commands, on files under ``place``: ``sync`` is ``index`` on files that changed since."""
    sentences = [
        sentence
        for passage in load_samples("passages")
        for sentence in re.split(r"(?<=[.!?。！？])\s*", passage["text"])
        if sentence
    ]
    corpus, few = place / "texts.jsonl", place / "few.jsonl"
    lines = [json.dumps({"id": f"t{i}", "text": text}) + "\n" for i, text in enumerate(sentences)]
    corpus.write_text("".join(lines[:400]))
    few.write_text("".join(lines[:100]))
    model = tiny_model(place / "model", sentences)
    options = ["--model", str(model)]

    def notes(folder: Path, texts: list[str]) -> None:
        (folder / "notes").mkdir(exist_ok=True)
        for old in (folder / "notes").iterdir():
            old.unlink()
        for number, text in enumerate(texts):
            (folder / "notes" / f"{number}.txt").write_text(text)
        (folder / "lines.txt").write_text("\n".join(texts))

    def indexed(folder: Path, ratio: str) -> list[str]:
        files = [str(folder / "notes"), str(folder / "lines.txt")]
        return ["index", *files, "--output", f"{folder}/texts.db", "--ratio", ratio, *options]

    def filled(folder: Path) -> None:
        """An index at ratio .1 beside its files."""
        first = place / "filled"
        if not first.exists():
            first.mkdir()
            notes(first, sentences[:300])
            finish(run(indexed(first, "0.1"), first))
        shutil.copytree(first, folder, dirs_exist_ok=True)

    def changed(folder: Path) -> None:
        """A third of the files and lines is gone, a third has moved, as many are new."""
        filled(folder)
        notes(folder, [*sentences[100:200], *sentences[300:400], *sentences[200:300]])

    def recipe(folder: Path) -> None:
        content = RECIPE.format(corpus=few, model=model, folder=folder)
        (folder / "recipe.toml").write_text(content)

    def recipe_with_vectors(folder: Path) -> None:
        recipe(folder)
        if not (place / "vectors").exists():
            finish(run(["teach", str(folder / "recipe.toml")], folder))
            shutil.copytree(folder / "cache", place / "vectors")
        shutil.copytree(place / "vectors", folder / "cache", dirs_exist_ok=True)

    return {
        "embed": Work(
            lambda f: ["embed", str(corpus), "--output", f"{f}/out.jsonl", "--batch-size", "16", *options],
            lambda f: digest_of(f / "out.jsonl"),
            lambda f: None,
        ),
        "index": Work(
            lambda f: ["index", str(corpus), "--output", f"{f}/texts.db", *options],
            digest_of_index,
            lambda f: None,
        ),
        "sync": Work(lambda f: indexed(f, "0.1"), digest_of_index, changed),
        "refine": Work(
            lambda f: ["index", "--output", f"{f}/texts.db", "--refine", "0.5", *options],
            digest_of_index,
            filled,
        ),
        "teach": Work(lambda f: ["teach", f"{f}/recipe.toml"], digest_of_cache, recipe),
        "distil": Work(lambda f: ["distil", f"{f}/recipe.toml"], digest_of_run, recipe_with_vectors),
    }


def run(arguments: list[str], folder: Path) -> int:
    """A forked process with the command, its output in the folder's log."""
    process = os.fork()
    if process:
        return process
    status = 70
    try:
        log = os.open(folder / "log", os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        os.dup2(log, 1)
        os.dup2(log, 2)
        sys.argv = ["jaspertc", *arguments]
        jaspertc.cli.main()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1 if end.code else 0
    finally:
        (folder / MODULES).write_text("\n".join(sys.modules))
        os._exit(status)


def finish(process: int, seconds: float = LONGEST) -> int | None:
    """Wait for a process; its status, or ``None`` after so many seconds (it runs on)."""
    end = time.monotonic() + seconds
    while True:
        done, status = os.waitpid(process, os.WNOHANG)
        if done:
            return os.waitstatus_to_exitcode(status)
        if time.monotonic() >= end:
            return None
        time.sleep(min(0.002, max(0.0, end - time.monotonic())))


def cycle(
    work: Work, folder: Path, expected: str, seconds: float, dice: random.Random, counts: dict[str, int]
) -> float:
    """Kill one piece of work until a run comes to its end, and compare.

    Returns:
        Seconds of the work where its first run came to its end, else ``seconds``.
    """
    work.start(folder)
    killed = 0
    while True:
        process, began = run(work.arguments(folder), folder), time.monotonic()
        status = finish(process, dice.uniform(0, seconds))
        if status is None:
            os.kill(process, signal.SIGKILL)
            status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
        if status == -signal.SIGKILL:
            counts["kills"] += 1
            killed += 1
            continue
        took = time.monotonic() - began
        # A run that finds its work done, killed between the last rename and its end, may refuse: status 1.
        try:
            right = work.digest(folder) == expected
        except (OSError, JasperError):
            right = False
        counts["completed"] += 1
        counts["wrong"] += not right
        return seconds if killed else took


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--kills", type=int, default=1000, help="in all, those of earlier runs included")
    parser.add_argument("--minutes", type=float, default=15)
    parser.add_argument("--command", action="append", choices=COMMANDS)
    parser.add_argument("--output", type=Path)
    arguments = parser.parse_args()

    torch.set_num_threads(1)
    output = arguments.output or RESULTS / f"kills-{datetime.now(UTC).date()}.json"
    found: dict[str, Any] = json.loads(output.read_text())["commands"] if output.exists() else {}
    place = Path(tempfile.mkdtemp(prefix="jaspertc-kills-"))
    chosen = works(place)
    chosen = {name: chosen[name] for name in arguments.command or chosen}
    references: dict[str, tuple[str, float]] = {}
    for name, work in chosen.items():
        folder = place / f"{name}-whole"
        folder.mkdir()
        work.start(folder)
        if finish(run(work.arguments(folder), folder)) == 0:
            for module in (folder / MODULES).read_text().split():
                with contextlib.suppress(Exception):
                    import_module(module)  # so that moments fall into the work
        shutil.rmtree(folder)
        folder.mkdir()
        work.start(folder)
        began = time.monotonic()
        if status := finish(run(work.arguments(folder), folder)):
            raise SystemExit(f"{name} failed undisturbed ({status}): {(folder / 'log').read_text()[-800:]}")
        references[name] = work.digest(folder), time.monotonic() - began
        print(f"{name}: {references[name][1]:.2f} s undisturbed", flush=True)
        found.setdefault(name, dict.fromkeys(COUNTED, 0))
    begun, number = time.monotonic(), sum(row["completed"] for row in found.values())

    def total() -> int:
        return sum(row["kills"] for row in found.values())

    while total() < arguments.kills and time.monotonic() - begun < 60 * arguments.minutes:
        name = min(chosen, key=lambda name: found[name]["kills"])
        number += 1
        folder = place / f"{name}-{number}"
        folder.mkdir()
        bad = found[name]["wrong"]
        expected, seconds = references[name]
        seconds = cycle(chosen[name], folder, expected, seconds, random.Random(number), found[name])
        references[name] = expected, seconds  # how busy the machine is may change
        if found[name]["wrong"] > bad:
            print(f"{name} differs: see {folder}", file=sys.stderr)
        else:
            shutil.rmtree(folder)
        output.write_text(json.dumps({"commands": found}))  # so that this, too, may be killed
    report = {**machine(), "kills": total(), "commands": found}
    write(report, output, "kills")
    bad = sum(row["wrong"] for row in found.values())
    if not bad:
        shutil.rmtree(place)
    sys.exit(bool(bad))


if __name__ == "__main__":
    main()
