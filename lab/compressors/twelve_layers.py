"""The twelve layers that ``twelve_layers.toml`` trained, as a checkpoint to go on with.

    python -m lab.compressors.twelve_layers FOLDER

Their weights are kept beside this without the token table, which is the built-in model's: it was not trained.
"""

import argparse
import shutil
from pathlib import Path

from safetensors.numpy import load_file, save_file

from jaspertc.checkpoint import resolve
from jaspertc.checkpoint.files import WEIGHTS

KEPT = Path(__file__).parent / "results" / "twelve_layers.safetensors"
TABLE = "model.embeddings.word_embeddings."


def write(folder: Path) -> None:
    """A checkpoint, in a folder that is not there yet."""
    mini = resolve("mini")
    shutil.copytree(mini, folder, ignore=shutil.ignore_patterns("README.md", WEIGHTS, "__pycache__"))
    shutil.copy(KEPT.with_suffix(".json"), folder / "config.json")
    table = {name: array for name, array in load_file(mini / WEIGHTS).items() if name.startswith(TABLE)}
    save_file(load_file(KEPT) | table, folder / WEIGHTS, metadata={"format": "pt"})


if __name__ == "__main__":
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    write(parser.parse_args().folder)
