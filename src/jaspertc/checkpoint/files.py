"""Reading JSON and safetensors with errors that name the file and the fix; int8 weights on disk."""

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from jaspertc.errors import CheckpointError
from jaspertc.files import json_files
from jaspertc.model.int8 import quantize_rows
from jaspertc.pytorch import HAS_TORCH, Tensor, torch

WEIGHTS = "model.safetensors"
WEIGHTS_INDEX = "model.safetensors.index.json"
SCALE_SUFFIX = ".scale"


def read_json(path: Path) -> dict[str, Any]:
    """The JSON object in ``path``.

    Raises:
        CheckpointError: missing, not JSON, or not an object.
    """
    if not path.exists():
        raise CheckpointError(f"{path} is missing; is {path.parent} a complete checkpoint folder?")
    content = json_files.read_json(path, "copy the checkpoint again", CheckpointError)
    if not isinstance(content, dict):
        raise CheckpointError(f"{path} must hold a JSON object, not {type(content).__name__}")
    return content


def save_file(tensors: dict[str, Tensor], path: str, metadata: dict[str, str] | None = None) -> None:
    """``safetensors.torch.save_file``, whose errors of the disk are OSErrors as everybody's."""
    from safetensors.torch import save_file as save

    try:
        save(tensors, path, metadata=metadata)
    except SafetensorError as error:
        number = re.search(r"\(os error (\d+)\)", str(error))
        raise OSError(*((int(number[1]), os.strerror(int(number[1]))) if number else [str(error)])) from error


def weight_files(folder: Path) -> list[Path]:
    """The safetensors file of a folder, or all its shards.

    Raises:
        CheckpointError: there are none, or the index of the shards is broken.
    """
    index_path = folder / WEIGHTS_INDEX
    if (folder / WEIGHTS).is_file():
        return [folder / WEIGHTS]
    if not index_path.is_file():
        pickled = sorted(path.name for pattern in ("*.bin", "*.pt") for path in folder.glob(pattern))
        if pickled:
            raise CheckpointError(
                f"{folder} holds only pickled weights ({', '.join(pickled)}), which can run code when read; "
                "convert them once with transformers: save_pretrained(folder, safe_serialization=True)"
            )
        raise CheckpointError(f"no {WEIGHTS} or {WEIGHTS_INDEX} in {folder}; is it a checkpoint folder?")
    weight_map = read_json(index_path).get("weight_map")
    if not isinstance(weight_map, dict):
        raise CheckpointError(f"{index_path} has no 'weight_map'; copy the checkpoint again")
    shards = sorted({str(shard) for shard in weight_map.values()})
    for shard in shards:
        if Path(shard).name != shard:
            raise CheckpointError(f"{index_path} points outside its folder: {shard!r}")
    return [folder / shard for shard in shards]


def assigned_tensors(folder: Path) -> list[tuple[Path, frozenset[str] | None]]:
    """The weight files of a folder, each with the tensors that are read from it; ``None`` stands for all.

    Shards may hold stale copies of tensors that the index assigns to others.

    Raises:
        CheckpointError: as ``weight_files``.
    """
    paths = weight_files(folder)
    if paths == [folder / WEIGHTS]:
        return [(folder / WEIGHTS, None)]
    weight_map = read_json(folder / WEIGHTS_INDEX)["weight_map"]
    return [
        (path, frozenset(key for key, shard in weight_map.items() if shard == path.name)) for path in paths
    ]


def read_weights(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder, from one file or from shards; int8 weights come back as float32.

    Raises:
        CheckpointError: no safetensors, a missing shard, or a file that is cut short or corrupt.
    """
    return dequantized(read_stored(folder))


def read_stored(folder: Path) -> dict[str, Tensor]:
    """All tensors of a folder as they are stored, int8 weights and their scales too.

    Raises:
        CheckpointError: as ``read_weights``; or an int8 tensor has no scale per row.
    """
    tensors: dict[str, Tensor] = {}
    for path, assigned in assigned_tensors(folder):
        with _opened(path) as file:
            names = [name for name in file.keys() if assigned is None or name in assigned]  # noqa: SIM118
            tensors |= {name: file.get_tensor(name) for name in names}
    for name, tensor in tensors.items():
        if tensor.dtype == torch.int8:
            scale = tensors.get(name + SCALE_SUFFIX)
            if scale is None or scale.shape != (len(tensor), 1):
                raise CheckpointError(f"int8 tensor {name!r} has no per-row {name + SCALE_SUFFIX!r}")
    return tensors


def check_files(folder: Path) -> None:
    """Raise CheckpointError unless safetensors opens all weight files of a folder."""
    for path in weight_files(folder):
        with _opened(path):
            pass


def has_int8(folder: Path) -> bool:
    """Whether matrices are stored as int8, each with its scales."""
    for path in weight_files(folder):
        with _opened(path) as file:
            if any(name.endswith(SCALE_SUFFIX) for name in file.keys()):  # noqa: SIM118 (no mapping)
                return True
    return False


def read_rows(folder: Path, *names: str) -> list[int | None]:
    """The first dimension of each named tensor, without reading it; ``None`` for one that is not there."""
    rows: dict[str, int] = {}
    for path in weight_files(folder):
        with _opened(path) as file:
            rows |= {name: file.get_slice(name).get_shape()[0] for name in names if name in file.keys()}  # noqa: SIM118
    return [rows.get(name) for name in names]


@contextmanager
def _opened(path: Path) -> Iterator[Any]:
    try:
        with safe_open(str(path), framework="pt" if HAS_TORCH else "numpy") as file:
            yield file
    except FileNotFoundError:
        raise CheckpointError(f"weight file {path} is missing; copy the checkpoint again") from None
    except (SafetensorError, OSError, ValueError) as error:
        raise CheckpointError(
            f"weight file {path} is corrupt or was not written to its end ({error}); copy it again"
        ) from error


def quantized(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Matrices as int8 with one float32 scale per row, see ``quantize_rows``; others are kept."""
    result: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if tensor.ndim != 2:
            result[name] = tensor
        else:
            result[name], result[name + SCALE_SUFFIX] = quantize_rows(tensor)
    return result


def dequantized(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The inverse of ``quantized``."""
    result: dict[str, Tensor] = {}
    for name, tensor in tensors.items():
        if name.endswith(SCALE_SUFFIX) and name.removesuffix(SCALE_SUFFIX) in tensors:
            continue
        whole = tensor.dtype == torch.int8
        result[name] = tensor.float() * tensors[name + SCALE_SUFFIX] if whole else tensor
    return result


def _some(names: list[str], limit: int = 5) -> str:
    more = f" and {len(names) - limit} more" if len(names) > limit else ""
    return ", ".join(names[:limit]) + more


def check_tensors(expected: Mapping[str, Tensor], found: Mapping[str, Tensor], folder: Path) -> None:
    """Names and shapes must agree.

    Raises:
        CheckpointError: names what is missing, what is not known, or both shapes.
    """
    missing = sorted(set(expected) - set(found))
    if missing:
        raise CheckpointError(
            f"{folder} lacks {len(missing)} tensors its config.json asks for: {_some(missing)}"
        )
    unknown = sorted(set(found) - set(expected))
    if unknown:
        raise CheckpointError(
            f"{folder} holds {len(unknown)} tensors with no place in the model: {_some(unknown)}"
        )
    for name, tensor in expected.items():
        if tensor.shape != found[name].shape:
            raise CheckpointError(
                f"{folder}: tensor {name!r} has shape {tuple(found[name].shape)}, "
                f"config.json asks for {tuple(tensor.shape)}"
            )
        if found[name].is_floating_point() != tensor.is_floating_point():
            raise CheckpointError(f"{folder}: tensor {name!r} is {found[name].dtype}, not floating point")
