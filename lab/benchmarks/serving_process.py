"""What the serving benchmarks share: a server process, the texts, and the machine."""

import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

from jaspertc.reports.origin import processor
from jaspertc.samples import load_samples

RESULTS = Path(__file__).parent / "results"


@dataclass(frozen=True)
class Server:
    """A running server's address and process id."""

    url: str
    pid: int


@contextmanager
def running(model: str, *options: str) -> Iterator[Server]:
    """``jaspertc serve`` in a process of its own, on a free port of this machine; ended by SIGTERM."""
    command = [sys.executable, "-m", "jaspertc", "serve", model, "--port", "0", *options]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    found = None
    for line in process.stderr:
        found = re.search(r"listening on (http://\S+)", line)
        if found:
            break
        print(line, end="", file=sys.stderr)
    if found is None:
        raise SystemExit("the server did not start")
    # Nobody reads its log from here on: without this the pipe would fill up and the server would stop.
    drain = subprocess.Popen(["cat"], stdin=process.stderr, stdout=subprocess.DEVNULL)
    try:
        yield Server(found.group(1), process.pid)
    finally:
        process.terminate()
        process.wait(60)
        drain.wait(10)


def texts_by_kind() -> dict[str, list[str]]:
    """The sample passages: ``short`` (about 50 tokens), ``paragraph`` (200) and ``long`` (850)."""
    texts = [passage["text"] for passage in load_samples("passages")]
    lengths = {"short": (0, 400), "paragraph": (400, 2000), "long": (2000, 10**9)}
    # Chinese passages have fewer characters; they count by what a character weighs.
    weigh = {text: len(text.encode()) for text in texts}
    return {name: [t for t in texts if low <= weigh[t] < high] for name, (low, high) in lengths.items()}


def percentile(values: list[float], share: float) -> float:
    """The value that ``share`` of the values do not exceed; NaN of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


def machine() -> dict[str, Any]:
    """What the numbers depend on."""
    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True)
    return {
        "date": datetime.now(UTC).date().isoformat(),
        "commit": commit.stdout.strip(),
        "cpu": processor(),
        "cores": len(os.sched_getaffinity(0)),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        **{name: version(name) for name in ("torch", "fastapi", "uvicorn")},
    }


def write(report: dict[str, Any], output: Path | None, name: str) -> None:
    """Print ``report`` as one line of JSON and write it to ``output``, by default in ``results``."""
    path = output or RESULTS / f"{name}-{report['date']}.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report))
