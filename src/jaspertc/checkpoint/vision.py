"""The picture side of a checkpoint: a folder ``vision`` in it; and image encoders as others wrote them.

folder/vision/config.json         which image encoder, and the projection
folder/vision/model.safetensors   the weights of both
"""

import hashlib
import json
import pickle
from dataclasses import asdict
from pathlib import Path
from typing import Any

from safetensors import SafetensorError

from jaspertc.checkpoint.files import WEIGHTS, check_tensors, read_json, read_weights, save_file
from jaspertc.config import from_mapping
from jaspertc.errors import CheckpointError, ConfigError
from jaspertc.files.aside import folder_aside, writing
from jaspertc.model.vision import IMAGE_ENCODERS, ImageEncoder, VisionConfig, VisionTower
from jaspertc.pytorch import HAS_TORCH, Tensor, torch

if HAS_TORCH:
    from safetensors.torch import load_file

VISION, CONFIG = "vision", "config.json"
FORMAT = 1
PICKLED = (".pth", ".pt", ".bin")


def read_image_encoder(path: str | Path) -> ImageEncoder:
    """An image encoder with its weights.

    Args:
        path: a folder of Transformers' CLIP or SigLIP (the whole model or its vision half), or a file of
            PyTorch or safetensors weights of an EfficientNet-Lite. Pickled files are read as tensors only.

    Raises:
        CheckpointError: it is not there, is damaged, or is of no kind that is known here.
    """
    path = Path(path).expanduser()
    config: dict[str, Any] = {}
    if path.is_dir():
        config, weights = read_json(path / CONFIG), read_weights(path)
    elif path.is_file():
        weights = _read_file(path)
    else:
        raise CheckpointError(
            f"no image encoder {path}: give a folder with config.json, or a file of weights"
        )
    for kind in IMAGE_ENCODERS.values():
        try:
            encoder = kind.from_folder(config, weights)
        except (ConfigError, RuntimeError, TypeError) as error:  # RuntimeError: names or shapes do not fit
            raise CheckpointError(f"{path} is no {kind.kind} that can be read here: {error}") from error
        if encoder is not None:
            return encoder.eval()
    raise CheckpointError(
        f"{path} is of another kind than the known image encoders: {', '.join(IMAGE_ENCODERS)}"
    )


def _read_file(path: Path) -> dict[str, Tensor]:
    try:
        if path.suffix in PICKLED:
            weights: dict[str, Tensor] = torch.load(path, map_location="cpu", weights_only=True)
        else:
            weights = load_file(str(path))
    except (OSError, RuntimeError, ValueError, pickle.UnpicklingError, SafetensorError) as error:
        raise CheckpointError(f"{path} cannot be read as weights ({error}); copy it again") from error
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise CheckpointError(f"{path} holds something else than tensors by name; give a state dict")
    return weights


def has_vision(folder: Path) -> bool:
    """Whether a checkpoint has a picture side."""
    return (folder / VISION / CONFIG).is_file()


def read_vision(folder: Path, width: int) -> VisionTower:
    """The picture side of a checkpoint.

    Args:
        width: D, the width of its text backbone.

    Raises:
        CheckpointError: there is none, or it is damaged or made for another model.
    """
    side = folder / VISION
    if not has_vision(folder):
        raise CheckpointError(
            f"{folder} has no folder {VISION!r}, so it knows texts only; train one with a stage of kind "
            '"vision", see docs/pictures.md'
        )
    content = read_json(side / CONFIG)
    try:
        keys = dict(content["encoder"])
        encoder = IMAGE_ENCODERS[keys.pop("kind")](**keys)
        tower = VisionTower(from_mapping(VisionConfig, content["tower"], str(side / CONFIG)), encoder, width)
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{side / CONFIG} describes no picture side known here: {error!r}") from error
    weights = read_weights(side)
    check_tensors(tower.state_dict(), weights, side)
    tower.load_state_dict(weights)
    return tower.eval()


def save_vision(folder: Path, tower: VisionTower, *, dtype: str = "float32") -> None:
    """Write the picture side into a checkpoint's folder: all of it or, if interrupted, nothing.

    Args:
        dtype: how weights are stored: ``float32`` or ``bfloat16``; batch norm's are always float32.
    """
    encoder = {"kind": tower.encoder.kind, **tower.encoder.keys}
    content = {"format": FORMAT, "encoder": encoder, "tower": asdict(tower.config)}
    kind = getattr(torch, dtype)
    tensors = {
        name: (value.to(kind) if value.ndim > 1 else value).detach().cpu().contiguous()
        for name, value in tower.state_dict().items()
    }
    with writing(folder / VISION, error=CheckpointError), folder_aside(folder / VISION) as aside:
        save_file(tensors, str(aside / WEIGHTS), metadata={"format": "pt"})
        (aside / WEIGHTS).chmod(0o644)
        (aside / CONFIG).write_text(json.dumps(content, indent=2) + "\n", encoding="utf-8")


def vision_fingerprint(folder: Path) -> str:
    """A hash of the picture side alone."""
    digest = hashlib.sha256()
    for name in (CONFIG, WEIGHTS):
        with (folder / VISION / name).open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]
