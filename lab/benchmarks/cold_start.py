"""From the start of a process to its first vector, and the memory that takes: mini and a 600M shape.

The 600M model has random weights and mini's tokenizer; it is made in a temporary folder (3 GB), optimised
there by `jaspertc optimize`, and removed. Files are in the page cache when the rounds begin. On a busy
machine look at the processor's seconds, of all threads together.

    python lab/benchmarks/cold_start.py --rounds 5
    python lab/benchmarks/cold_start.py --rounds 5 --model FOLDER

Also runs where PyTorch is not installed (`pip install '.[cpu]'` in a fresh virtual environment); it says the
size of what is installed.
"""

import argparse
import json
import os
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

MIB = 1 << 20
TEXT = "Bread rises because yeast turns sugar into carbon dioxide."
CALIBRATION = (
    "The ferry leaves at noon.",
    "图书馆每天早上九点开门。",
    "How long does concrete take to cure?",
    TEXT,
)


def first_vector(model: str, runtime: str, started: float) -> dict[str, float]:
    """Run in a fresh process: embeds one text and tells what it took; MiB where not said."""
    from jaspertc import Embedder

    imported = time.time()
    embedder = Embedder.load(model, device="cpu", runtime=runtime)
    loaded = time.time()
    embedder.encode(TEXT)
    ended, processor = time.time(), time.process_time()
    memory = _memory()
    return {
        "first vector, s": ended - started,
        "import, s": imported - started,
        "load, s": loaded - imported,
        "encode, s": ended - loaded,
        "processor, s": processor,
        "resident": memory["Rss"],
        "anonymous": memory["Anonymous"],
        "peak": memory["VmHWM"],
    }


def _memory() -> dict[str, float]:
    """MiB resident, of these those that belong to no file, and the most there were."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
    lines += [line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")]
    return {key: int(rest.split()[0]) / 1024 for key, rest in (line.split(":") for line in lines)}


def fresh(model: str, runtime: str) -> dict[str, float]:
    """``first_vector`` in a process of its own."""
    command = [sys.executable, __file__, "--child", model, runtime, repr(time.time())]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stderr)
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def make_600m(folder: Path) -> Path:
    """Random weights in the released model's shape, in bfloat16, as a checkpoint."""
    import torch

    from jaspertc.checkpoint import load_checkpoint, save_checkpoint
    from jaspertc.config import HeadConfig, ModelConfig
    from jaspertc.model.compressors.adaptive_average import AdaptiveAverageConfig
    from jaspertc.model.encoder import Encoder
    from jaspertc.model.shapes import SHAPES
    from jaspertc.model.shapes_only import shapes_only

    config = ModelConfig(
        backbone=replace(SHAPES["Qwen3-0.6B"], vocab_size=151_936),
        compressor=AdaptiveAverageConfig(mlp="swiglu", mlp_size=3072),
        head=HeadConfig(dims=2048),
    )
    with shapes_only():
        encoder = Encoder(config).to(torch.bfloat16)
    encoder = encoder.to_empty(device="cpu")
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, weight in encoder.named_parameters():
            if name.endswith("norm.weight"):
                weight.fill_(1.0)
            else:
                scale = 1.0 if name.endswith("embed_tokens.weight") else 0.02
                weight.copy_(torch.randn(weight.shape, generator=generator, dtype=torch.bfloat16) * scale)
    tokenizer = load_checkpoint("mini").tokenizer.to_json()
    return save_checkpoint(folder, encoder, tokenizer_json=tokenizer)


def optimise(source: Path, out: Path) -> None:
    """By the command, on a few short texts: accuracy of random weights says nothing."""
    texts = out.with_suffix(".txt")
    texts.write_text("\n".join(CALIBRATION) + "\n", encoding="utf-8")
    arguments = ["optimize", str(source), str(out), "--calibration", str(texts), "--least", "0.5"]
    subprocess.run([sys.executable, "-m", "jaspertc", *arguments], check=True)


def measure(name: str, model: str, runtime: str, rounds: int) -> dict[str, Any]:
    """Medians and ranges over fresh processes; the first is not counted, it fills the page cache."""
    fresh(model, runtime)
    found = [fresh(model, runtime) for _ in range(rounds)]
    row: dict[str, Any] = {"model": name, "runtime": runtime}
    for key in found[0]:
        values = [each[key] for each in found]
        row[key] = [round(f(values), 2) for f in (statistics.median, min, max)]
    print(name, runtime, "(medians, lowest to highest)")
    for key, (middle, low, high) in ((key, row[key]) for key in found[0]):
        print(f"  {key + ('' if key.endswith('s') else ', MiB'):>18} {middle:8.2f} ({low:.2f}-{high:.2f})")
    sys.stdout.flush()
    return row


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--model", action="append", help="instead of mini and the 600M shape")
    parser.add_argument("--runtime", default="auto")
    parser.add_argument("--make", type=Path, help="only make the optimised 600M shape, in this new folder")
    parser.add_argument("--output", type=Path, help="JSON file for the result")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        model, runtime, started = options.child
        print(json.dumps(first_vector(model, runtime, float(started))))
        return
    with tempfile.TemporaryDirectory(prefix="jaspertc-cold-start-") as scratch:
        models = {Path(name).name: name for name in options.model or ["mini"]}
        if options.model is None or options.make:
            place = options.make or Path(scratch) / "600M shape, int8"
            optimise(make_600m(Path(scratch) / "600m"), place)
            models[place.name] = str(place)
        if options.make:
            return
        results = [measure(name, model, options.runtime, options.rounds) for name, model in models.items()]
    from jaspertc.reports.origin import processor, versions

    report = {
        "cpu": processor(),
        "threads": os.environ.get("OMP_NUM_THREADS", os.cpu_count()),
        "python": platform.python_version(),
        **versions("torch", "openvino", "numpy"),
        "installed, MB": installed(),
        "rounds": options.rounds,
        "results": results,
    }
    if options.output:
        options.output.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    print(json.dumps(report))


def installed() -> int:
    """MB of all that is installed for this interpreter but pip and setuptools, `mini` included."""
    from sysconfig import get_path

    files = (path for path in Path(get_path("purelib")).rglob("*") if path.is_file())
    kept = (path for path in files if not {"pip", "setuptools"} & set(path.parts))
    return round(sum(path.stat().st_size for path in kept) / 1e6)


if __name__ == "__main__":
    main()
