"""Tiny pictures drawn by code, and a tiny model that knows texts and pictures."""

import io
import shutil
from pathlib import Path

import numpy as np
import torch
from PIL import Image, ImageDraw

from jaspertc.checkpoint.vision import save_vision
from jaspertc.model.vision import ImageEncoder, VisionConfig, VisionTower
from jaspertc.model.vision.vit import VisionTransformer


def drawn(shape: str = "circle", color: str = "red", size: int = 48) -> Image.Image:
    """A shape on white."""
    image = Image.new("RGB", (size, size), "white")
    getattr(ImageDraw.Draw(image), "ellipse" if shape == "circle" else "rectangle")(
        (size // 6, size // 6, size * 5 // 6, size * 5 // 6), fill=color
    )
    return image


def encoded(image: Image.Image, kind: str = "PNG", **options: object) -> bytes:
    """A picture as a file's bytes."""
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def quarters() -> Image.Image:
    """Red, green, blue and black quarters, 4 x 4 pixels: no turn or flip leaves it as it is."""
    colors = np.zeros((4, 4, 3), np.uint8)
    colors[:2, :2, 0] = colors[:2, 2:, 1] = colors[2:, :2, 2] = 255
    return Image.fromarray(colors)


def write_folder(folder: Path, names: dict[str, bytes]) -> Path:
    """Files of these names and contents."""
    for name, content in names.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def at_random(module: torch.nn.Module, seed: int = 0) -> None:
    """Random values everywhere, so that an ignored weight shows."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for _, weight in sorted(module.named_parameters()):
            weight.copy_(torch.randn(weight.shape, generator=generator) * 0.3)


def tiny_vit(family: str = "siglip") -> ImageEncoder:
    return VisionTransformer(
        family=family,
        image_size=16,
        patch_size=4,
        width=16,
        layers=1,
        heads=2,
        mlp_size=24,
        activation="gelu",
        norm_eps=1e-6,
    )


def with_vision(folder: Path, source: Path, *, width: int = 32, **config: int) -> Path:
    """A copy of a model with a random picture side."""
    shutil.copytree(source, folder)
    tower = VisionTower(VisionConfig(**{"tokens": 4, "before": 2, "after": 1} | config), tiny_vit(), width)
    at_random(tower)
    save_vision(folder, tower)
    return folder
