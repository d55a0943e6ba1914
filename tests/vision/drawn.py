"""Tiny pictures drawn by code, and a tiny model that knows texts and pictures."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw


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
