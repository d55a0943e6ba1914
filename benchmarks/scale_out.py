"""``embed --engine ray`` against the local engine on the same cores, and while workers and driver are killed.

    python benchmarks/scale_out.py --source texts.jsonl.gz --texts 20000

Four runs over the same texts: local, Ray undisturbed, Ray with workers killed at random, Ray with the driver
killed and started again. Reports speed (with and without start-up), the largest difference of a vector, and
whether the checksums of all shards agree. The last line is JSON. Linux only: it looks for processes in /proc.
"""

import argparse
import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
from importlib.metadata import version
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from jaspertc.cluster.output import verify
from jaspertc.corpus.read import read_texts
from jaspertc.samples import load_samples

WINDOW = 300  # characters of a text that is cut from the samples


def main() -> None:
    options = arguments()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        count = write_corpus(folder / "texts.jsonl", options.source, options.texts)
        local = timed(command(folder, "local.npy", options, ray=False), options.workers)
        calm = timed(command(folder, "calm", options, ray=True), 1)
        kills = killed_workers(command(folder, "workers", options, ray=True), options)
        deaths = killed_driver(command(folder, "driver", options, ray=True), folder / "driver", options)
        table = pq.read_table(folder / "calm")
        vectors = np.stack(table["embedding"].to_numpy(zero_copy_only=False))
        difference = float(np.abs(vectors - np.load(folder / "local.npy")).max())
        ids = table["id"].to_pylist() == [f"t{i}" for i in range(count)]
        sums = checksums(folder / "calm")
        sound = {run: not verify(str(folder / run)) for run in ("calm", "workers", "driver")}
        same = {run: checksums(folder / run) == sums for run in ("workers", "driver")}
    overhead = local["texts_per_second"] / calm["texts_per_second"] - 1
    result = {
        "texts": count,
        "model": options.model,
        "cores": options.workers,
        "local": local,
        "ray": calm,
        "overhead": overhead,
        "overhead with start-up": calm["seconds"] / local["seconds"] - 1,
        "largest difference": difference,
        "ids in order": ids,
        "workers killed": kills,
        "driver killed": deaths,
        "every checksum right": sound,
        "checksums of the undisturbed run": same,
        "machine": {"processor": platform.processor() or platform.machine(), "cores": os.cpu_count()},
        "torch": torch.__version__,
        "ray version": version("ray"),
        "dtype": "float32",
    }
    print(
        f"local {local['texts_per_second']:.4g} texts/s, Ray {calm['texts_per_second']:.4g}: {overhead:+.1%}"
    )
    print(f"largest difference of a vector {difference:.2g}; ids in order: {ids}")
    print(f"{kills} workers and {deaths} drivers killed; same checksums: {same}")
    print(json.dumps(result))


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--source", help="texts to embed; default: pieces of the sample passages")
    parser.add_argument("--texts", type=int, default=20_000)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--workers", type=int, default=2, help="one core each; the local engine gets as many")
    parser.add_argument("--batch-size", type=int, default=256)
    parser.add_argument("--worker-kills", type=int, default=10)
    parser.add_argument("--driver-kills", type=int, default=3)
    return parser.parse_args()


def write_corpus(path: Path, source: str | None, count: int) -> int:
    if source is not None:
        texts = [row.text for row in islice(read_texts(source), count)]
    else:
        passages = [row["text"] for row in load_samples("passages")]
        pieces = [
            text[begin : begin + WINDOW]
            for begin in range(0, 3000, 7)
            for text in passages
            if begin + WINDOW // 2 < len(text)
        ]
        texts = pieces[:count]
    rows = [
        json.dumps({"id": f"t{i}", "text": text}, ensure_ascii=False) + "\n" for i, text in enumerate(texts)
    ]
    path.write_text("".join(rows), encoding="utf-8")
    return len(rows)


def command(folder: Path, output: str, options: argparse.Namespace, *, ray: bool) -> list[str]:
    line = [sys.executable, "-m", "jaspertc", "embed", str(folder / "texts.jsonl")]
    line += ["--output", str(folder / output), "--model", options.model, "--dtype", "float32"]
    line += ["--batch-size", str(options.batch_size)]
    return [*line, "--engine", "ray", "--workers", str(options.workers)] if ray else line


def timed(line: list[str], threads: int) -> dict[str, float]:
    """Seconds of the whole command, and the texts per second that it says itself, start-up aside."""
    started = time.perf_counter()
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(line, check=True, capture_output=True, text=True, env=environment)
    seconds = time.perf_counter() - started
    speed = done.stderr.splitlines()[-1].split("(")[1].split()[0]
    return {"seconds": seconds, "texts_per_second": float(speed)}


def killed_workers(line: list[str], options: argparse.Namespace) -> int:
    dice, killed = random.Random(0), 0
    process = subprocess.Popen(line, stderr=subprocess.DEVNULL)
    while process.poll() is None and killed < options.worker_kills:
        time.sleep(dice.uniform(1, 4))
        workers = descendants(process.pid, "ray::MapWorker")
        if workers:
            os.kill(dice.choice(workers), signal.SIGKILL)
            killed += 1
    if process.wait() != 0:
        raise SystemExit("the run with killed workers failed")
    return killed


def killed_driver(line: list[str], output: Path, options: argparse.Namespace) -> int:
    killed = 0
    total = max(1, options.texts // options.batch_size)
    while killed < options.driver_kills:
        process = subprocess.Popen(line, stderr=subprocess.DEVNULL)
        due = (killed + 1) * total // (options.driver_kills + 1)
        stop = threading.Event()
        while process.poll() is None and not stop.wait(0.05):
            if len(list(output.glob("_done/*.json"))) >= due:
                process.kill()
                stop.set()
        if process.wait() != -signal.SIGKILL:
            break
        killed += 1
    subprocess.run(line, check=True, stderr=subprocess.DEVNULL)
    return killed


def descendants(ancestor: int, name: str) -> list[int]:
    """Processes of a name that ``ancestor`` or its children started."""
    parents, names = {}, {}
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rsplit(")", 1)[1].split()[1])
                names[int(entry.name)] = (entry / "cmdline").read_bytes().decode(errors="replace")
            except (OSError, ValueError):
                continue
    found = []
    for pid, command_line in names.items():
        above = pid
        while above in parents and above != ancestor:
            above = parents[above]
        if above == ancestor and command_line.startswith(name):
            found.append(pid)
    return found


def checksums(folder: Path) -> dict[str, str]:
    manifest = json.loads((folder / "_manifest.json").read_text(encoding="utf-8"))
    return {shard["name"]: shard["sha256"] for shard in manifest["shards"]}


if __name__ == "__main__":
    main()
