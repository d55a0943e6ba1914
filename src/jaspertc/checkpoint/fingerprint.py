"""What determines a model's vectors, as one hash: caches, indexes, resumed runs and results go by it.

It covers what is applied when a model is loaded (weights, also those of subfolders, their types, tokenizer,
pooling, normalisation, prompts, limits, overrides given at load) and nothing else: not the files' names,
their other content, or files that are not read.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jaspertc.checkpoint.files import assigned_tensors
from jaspertc.errors import CheckpointError

if TYPE_CHECKING:
    from jaspertc.checkpoint.layouts import CheckpointInfo

# Parts of tokenizer.json that change no token: batches are cut and filled up by arguments of each call.
_NOT_OF_TOKENS = ("truncation", "padding", "version")


def fingerprint(info: "CheckpointInfo", folders: Iterable[Path], tokenizer: Path) -> str:
    """16 hexadecimal digits: equal ones give equal vectors.

    Args:
        info: what the folder says, with overrides applied.
        folders: those that weights were read from, with the model's first.
        tokenizer: its ``tokenizer.json``; it need not be there.

    Raises:
        CheckpointError: a file cannot be read any more.
    """
    digest = hashlib.sha256(json.dumps(_settings(info), sort_keys=True, ensure_ascii=False).encode())
    main, *others = folders
    _add_weights(digest, main, info)
    for folder in others:
        _add_weights(digest, folder, None)
    if tokenizer.is_file():
        digest.update(_of_tokens(tokenizer))
    return digest.hexdigest()[:16]


def stamps(paths: Iterable[Path]) -> tuple[tuple[str, int, int, int], ...]:
    """By which files are known again: name, number, size and time of the last change of those that exist."""
    stats = [(path, path.stat()) for path in paths if path.is_file()]
    return tuple((str(path), stat.st_ino, stat.st_size, stat.st_mtime_ns) for path, stat in stats)


def _settings(info: "CheckpointInfo") -> dict[str, Any]:
    config = asdict(info.config)
    config["head"].pop("matryoshka")  # which widths may be asked for
    return {
        "config": config,
        "prompts": dict(info.prompts),
        "default prompt": info.default_prompt_name,
        "max length": info.max_length,
        "fallback": info.fallback_id,
        "piece length": info.piece_length,
    }


def _add_weights(digest: Any, folder: Path, info: "CheckpointInfo | None") -> None:
    """Names, types, shapes and bytes of the tensors that a model is made of, in the order of their names."""
    entries: dict[str, tuple[Path, int, Mapping[str, Any]]] = {}
    for path, assigned in assigned_tensors(folder):
        start, header = _header(path)
        for name, entry in header.items():
            loaded = name if info is None else info.rename(name)
            if loaded is not None and (assigned is None or name in assigned):
                entries[loaded] = (path, start, entry)
    for name, (path, start, entry) in sorted(entries.items()):
        digest.update(f"\0{name} {entry['dtype']} {entry['shape']}\0".encode())
        begin, end = entry["data_offsets"]
        with path.open("rb") as file:
            file.seek(start + begin)
            left = end - begin
            while left and (part := file.read(min(left, 1 << 22))):
                digest.update(part)
                left -= len(part)


def _header(path: Path) -> tuple[int, dict[str, Any]]:
    """Where the data of a safetensors file begin, and its entries by the tensors' names."""
    try:
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            header = json.loads(file.read(size))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"weight file {path} cannot be read any more ({error})") from error
    header.pop("__metadata__", None)
    return 8 + size, header


def _of_tokens(path: Path) -> bytes:
    """A tokenizer's file without what changes no token, in one spelling."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); copy the checkpoint again") from error
    for key in _NOT_OF_TOKENS:
        content.pop(key, None)
    return json.dumps(content, sort_keys=True, ensure_ascii=False).encode("utf-8", "surrogatepass")
