"""Writing our checkpoint folder; it also loads in sentence-transformers."""

import json
import shutil
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from jaspertc.checkpoint.files import (
    SCALE_SUFFIX,
    WEIGHTS,
    WEIGHTS_INDEX,
    dequantized,
    quantized,
    save_file,
)
from jaspertc.checkpoint.layouts import FORMAT, stored_prefixes
from jaspertc.checkpoint.load import BUILT_IN, TOKENIZER, Checkpoint
from jaspertc.checkpoint.vision import VISION, has_vision
from jaspertc.errors import CheckpointError
from jaspertc.files.aside import folder_aside, writing
from jaspertc.model.encoder import Encoder
from jaspertc.model.int8 import Int8Matrix
from jaspertc.pytorch import torch

MODULE_FILE = "jaspertc_st.py"
STORED = (WEIGHTS, WEIGHTS_INDEX)  # one of them is in every checkpoint
WEIGHT_KINDS = ("keep", "float32", "bfloat16", "int8")


def save_checkpoint(
    folder: str | Path,
    encoder: Encoder,
    *,
    tokenizer_json: str | None,
    prompts: Mapping[str, str] | None = None,
    default_prompt_name: str | None = None,
    max_length: int | None = None,
    fallback_id: int | None = None,
    piece_length: int | None = None,
    weights: str = "keep",
    notes: Mapping[str, Any] | None = None,
    vision: Path | None = None,
    overwrite: bool = False,
) -> Path:
    """Write ``encoder`` as a checkpoint folder: all of it or, if interrupted, nothing.

    Args:
        folder: where to write; its parent is made if needed.
        tokenizer_json: content of ``tokenizer.json``; ``None`` for a model used by token ids only.
        weights: ``keep`` (bit-equal when loaded back), ``float32``, ``bfloat16``, or ``int8`` (matrices with
            one scale per row; about a quarter of the size).
        notes: further entries of the section ``jaspertc`` in ``config.json``; see ``CheckpointInfo.notes``.
        vision: a folder with a picture side to copy.
        overwrite: replace a checkpoint that is already there.

    Raises:
        CheckpointError: the folder exists (with ``overwrite``: and is no checkpoint) or cannot be written, or
            ``weights`` is unknown.
    """
    folder = Path(folder)
    if weights not in WEIGHT_KINDS:
        raise CheckpointError(f"weights is {weights!r}, it must be one of {', '.join(WEIGHT_KINDS)}")
    check_folder(folder, overwrite=overwrite)
    config = encoder.config
    section = {
        "format": FORMAT,
        "model": asdict(config),
        "max_length": max_length,
        "fallback_id": fallback_id,
        "piece_length": piece_length,
        **({"notes": dict(notes)} if notes else {}),
    }
    ratio_keywords = ["compression_ratio", "length_threshold", "max_compressed"]
    modules = [
        {
            "idx": 0,
            "name": "0",
            "path": "",
            "type": f"{MODULE_FILE.removesuffix('.py')}.JasperEncoder",
            "kwargs": ratio_keywords,
        }
    ]
    files = {
        "config.json": {
            "architectures": ["JasperEncoder"],
            "hidden_size": config.embedding_dims,
            "jaspertc": section,
        },
        "modules.json": modules,
        "config_sentence_transformers.json": {
            "prompts": dict(prompts or {}),
            "default_prompt_name": default_prompt_name,
            "similarity_fn_name": "cosine",
        },
    }
    with writing(folder, error=CheckpointError), folder_aside(folder) as aside:
        for name, content in files.items():
            (aside / name).write_text(
                json.dumps(content, indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
            )
        if tokenizer_json is not None:
            (aside / TOKENIZER).write_text(tokenizer_json, encoding="utf-8")
        shutil.copyfile(BUILT_IN["mini"] / MODULE_FILE, aside / MODULE_FILE)
        save_file(_tensors(encoder, weights), str(aside / WEIGHTS), metadata={"format": "pt"})
        (aside / WEIGHTS).chmod(0o644)
        if vision is not None:
            shutil.copytree(vision, aside / VISION)
    return folder


def save_changed(
    folder: str | Path,
    checkpoint: Checkpoint,
    encoder: Encoder,
    *,
    weights: str = "keep",
    notes: Mapping[str, Any] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write an encoder that was made from a checkpoint, with all else that the checkpoint has.

    Its picture side is copied as it is: pictures pass through the layers and the head that texts do.

    Args:
        weights, notes, overwrite: as ``save_checkpoint``'s; notes are added to the checkpoint's.

    Raises:
        CheckpointError: as ``save_checkpoint``.
    """
    info = checkpoint.info
    return save_checkpoint(
        folder,
        encoder,
        tokenizer_json=checkpoint.tokenizer.to_json(),
        prompts=info.prompts,
        default_prompt_name=info.default_prompt_name,
        max_length=info.max_length,
        fallback_id=info.fallback_id,
        piece_length=info.piece_length,
        weights=weights,
        notes={**info.notes, **(notes or {})},
        vision=checkpoint.folder / VISION if has_vision(checkpoint.folder) else None,
        overwrite=overwrite,
    )


def check_folder(folder: Path, *, overwrite: bool) -> None:
    """Raise CheckpointError if ``folder`` is there, is not an empty folder, and must not be replaced.

    Only a checkpoint is ever replaced. The error is also raised where a file is in the way.
    """
    with writing(folder, error=CheckpointError), suppress(FileNotFoundError):
        folder.stat()
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    if not folder.is_dir():
        raise CheckpointError(f"{folder} already exists and is a file; choose another folder")
    if not overwrite:
        raise CheckpointError(
            f"{folder} already exists; choose another folder, or overwrite=True to replace it"
        )
    if not (folder / "config.json").is_file() or not any((folder / name).is_file() for name in STORED):
        raise CheckpointError(
            f"{folder} holds other files than a checkpoint's (no config.json with {WEIGHTS}), so it is not "
            "overwritten; choose another folder"
        )


def _tensors(encoder: Encoder, weights: str) -> dict[str, torch.Tensor]:
    scales = {f"{name}.scale" for name, part in encoder.named_modules() if isinstance(part, Int8Matrix)}
    tensors, prefixes = {}, stored_prefixes(encoder.config)
    for name, tensor in encoder.state_dict().items():
        if name in scales:
            name = f"{name.removesuffix('.scale')}.weight{SCALE_SUFFIX}"
        theirs = next(
            their + name.removeprefix(our) for their, our in prefixes.items() if name.startswith(our)
        )
        tensors[theirs] = tensor.detach().cpu().contiguous()
    if weights == "keep":
        return tensors
    tensors = dequantized(tensors)
    if weights == "int8":
        return quantized({name: tensor.float() for name, tensor in tensors.items()})
    return {name: tensor.to(getattr(torch, weights)) for name, tensor in tensors.items()}
