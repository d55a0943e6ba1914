"""``embed --engine ray`` against the local engine on the same cores, and while workers and driver are killed.

    python lab/benchmarks/scale_out.py --source texts.jsonl.gz --texts 20000

Four runs over the same texts: local, Ray undisturbed, Ray with workers killed (dice say which), Ray with the
driver killed and started again. Kills are spread over a run by the shards that are done, so that they do not
depend on the machine's speed; there must be more shards than kills. Reports speed (with and without
start-up), the largest difference of a vector, and whether the checksums of all shards agree. The last line
is JSON. Linux only: it looks for processes in /proc.
"""

import argparse
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from itertools import islice
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import torch

from jaspertc.cluster.output import verify
from jaspertc.files.texts import read_texts
from jaspertc.reports.origin import processor
from jaspertc.samples import load_samples

WINDOW = 300  # characters of a text that is cut from the samples
KILLED_BY = -signal.SIGKILL


def main() -> None:
    options = arguments()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        count = write_corpus(folder / "texts.jsonl", options.source, options.texts)
        tell(f"{count} texts; local engine, {options.workers} threads")
        local = timed(command(folder, "local.npy", options, ray=False), options.workers)
        tell(f"{local['texts_per_second']:.4g} texts/s; Ray, {options.workers} workers")
        calm = timed(command(folder, "calm", options, ray=True), 1)
        sums = checksums(folder / "calm")
        most = max(options.worker_kills, options.driver_kills)
        if len(sums) <= most:
            raise SystemExit(f"{len(sums)} shards are too few for {most} kills; lower --batch-size")
        tell(f"{calm['texts_per_second']:.4g} texts/s; killing workers")
        kills = killed_workers(
            command(folder, "workers", options, ray=True), folder / "workers", sums, options
        )
        tell(f"{kills} killed; killing the driver")
        deaths = killed_driver(command(folder, "driver", options, ray=True), folder / "driver", sums, options)
        table = pq.read_table(folder / "calm")
        vectors = np.stack(table["embedding"].to_numpy(zero_copy_only=False))
        difference = float(np.abs(vectors - np.load(folder / "local.npy")).max())
        ids = table["id"].to_pylist() == [f"t{i}" for i in range(count)]
        sound = {run: not verify(str(folder / run)) for run in ("calm", "workers", "driver")}
        same = {run: checksums(folder / run) == sums for run in ("workers", "driver")}
    overhead = local["texts_per_second"] / calm["texts_per_second"] - 1
    result = {
        "texts": count,
        "model": options.model,
        "cores": options.workers,
        "shards": len(sums),
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
        "machine": {"processor": processor(), "cores": os.cpu_count()},
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


def tell(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def environment(threads: int) -> dict[str, str]:
    """Without this, Ray's workers run at a lower priority (15) than the local engine."""
    return {**os.environ, "OMP_NUM_THREADS": str(threads), "RAY_worker_niceness": "0"}


def timed(line: list[str], threads: int) -> dict[str, float]:
    """Seconds of the whole command, and the texts per second that it says itself, start-up aside."""
    started = time.perf_counter()
    done = subprocess.run(line, capture_output=True, text=True, env=environment(threads))
    seconds = time.perf_counter() - started
    if done.returncode:
        raise SystemExit(f"{' '.join(line)} failed:\n{done.stderr}")
    speeds = re.findall(r"([\d.]+(?:e[+-]?\d+)?) texts/s", done.stderr)
    return {"seconds": seconds, "texts_per_second": float(speeds[-1])}


def started(line: list[str], log: Path) -> "subprocess.Popen[bytes]":
    with log.open("wb") as file:
        return subprocess.Popen(line, stderr=file, stdout=file, env=environment(1))


def finished_shards(output: Path) -> int:
    return len(list(output.glob("_done/*.json")))


def killed_workers(line: list[str], output: Path, sums: dict[str, str], options: argparse.Namespace) -> int:
    """Run the command once; kill the k-th worker when k of so many equal parts are done."""
    dice, killed = random.Random(0), 0
    log = output.with_suffix(".log")
    process = started(line, log)
    while process.poll() is None:
        due = (killed + 1) * len(sums) // (options.worker_kills + 1)
        workers = descendants(process.pid, "ray::MapWorker")
        if killed < options.worker_kills and workers and finished_shards(output) >= due:
            os.kill(dice.choice(workers), signal.SIGKILL)
            killed += 1
        time.sleep(0.05)
    if process.returncode:
        raise SystemExit(f"the run with killed workers failed:\n{log.read_text(errors='replace')}")
    return killed


def killed_driver(line: list[str], output: Path, sums: dict[str, str], options: argparse.Namespace) -> int:
    """Run the command again and again, each time killed a part further on, and then to its end."""
    killed = 0
    log = output.with_suffix(".log")
    while True:
        process = started(line, log)
        due = (killed + 1) * len(sums) // (options.driver_kills + 1)
        while process.poll() is None:
            if killed < options.driver_kills and finished_shards(output) >= due:
                process.kill()
            time.sleep(0.05)
        if process.returncode == 0:
            return killed
        if process.returncode != KILLED_BY:
            raise SystemExit(f"the run with a killed driver failed:\n{log.read_text(errors='replace')}")
        killed += 1


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
