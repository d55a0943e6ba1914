"""From the start of a process to its first vector, and what that takes of memory.

Run as ``python -m lab.compare.starting`` with a contender, settings, model and input as JSON on standard
input; prints JSON.
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jaspertc.errors import JasperError
from lab.compare.inputs import Inputs
from lab.compare.settings import Settings, Spec

ROOT = Path(__file__).parents[2]


class StartError(JasperError):
    """A contender could not be started in a process of its own."""


def start_fresh(spec: Spec, settings: Settings, model: Path, text: Any) -> dict[str, float]:
    """Start a contender in a new process.

    Returns:
        ``load`` seconds from the start of the process to a loaded model, ``first`` seconds from there to the
        first vector, ``resident_mb`` and ``peak_mb`` of memory after it (the peak only where the system
        tells).

    Raises:
        StartError: the process failed; the message has its last words.
    """
    job = {
        "spec": asdict(spec),
        "settings": asdict(settings) | {"contenders": [asdict(spec)]},
        "model": str(model),
        "text": text if isinstance(text, str) else [int(item) for item in text],
    }
    paths = (str(ROOT), os.environ.get("PYTHONPATH"))  # wherever this was started from
    done = subprocess.run(
        [sys.executable, "-m", "lab.compare.starting"],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, paths))},
        input=json.dumps(job),
        capture_output=True,
        text=True,
    )
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise StartError(f"{spec.name} could not be started in a new process: {last}")
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def _main() -> None:
    import numpy as np
    import psutil
    import torch

    from lab.compare.contenders import load_contender

    process = psutil.Process()
    job = json.load(sys.stdin)
    settings = Settings(**job["settings"] | {"contenders": (Spec(**job["spec"]),)})
    torch.set_num_threads(settings.threads)
    text = job["text"]
    inputs: Inputs = [text] if isinstance(text, str) else [np.array(text, dtype=np.int64)]
    with tempfile.TemporaryDirectory(prefix="lab-compare-") as scratch:
        copy = Path(scratch) / "model"
        contender = load_contender(settings.contenders[0], Path(job["model"]), settings, copy)
        loaded = time.time()
        contender.vectors(inputs, None)
        ended = time.time()
    print(
        json.dumps(
            {
                "load": loaded - process.create_time(),
                "first": ended - loaded,
                "resident_mb": process.memory_info().rss / 1e6,
                "peak_mb": _peak(process),
            }
        )
    )


def _peak(process: Any) -> float | None:
    memory = process.memory_info()
    if hasattr(memory, "peak_wset"):  # Windows
        return float(memory.peak_wset) / 1e6
    if sys.platform == "linux":  # there, ru_maxrss begins with the parent's
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) * 1024 / 1e6 for line in lines if line.startswith("VmHWM"))
    try:
        import resource
    except ImportError:
        return None
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e6


if __name__ == "__main__":
    _main()
