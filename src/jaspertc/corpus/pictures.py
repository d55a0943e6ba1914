"""Pictures from files, bytes and arrays: checked, upright, in RGB on white; a folder of them.

Only the header is read before the size is checked, so a picture that unpacks to gigabytes is refused first.
Shape legend: H, W pixels of a picture, S pixels a side of what an image encoder sees.
"""

import io
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaspertc.errors import DataFileError, MissingExtraError, PictureError
from jaspertc.files.folders import files_of
from jaspertc.files.json_lines import TEXT, read_rows
from jaspertc.files.opening import read_lines

if TYPE_CHECKING:
    from PIL.Image import Image

    from jaspertc.model.vision.base import ImageEncoder

# Readers that are plain decoders; others of Pillow's start programs or need more than one file.
FORMATS = ("PNG", "JPEG", "MPO", "WEBP", "GIF", "BMP", "TIFF", "PPM", "ICO", "AVIF")
SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff", ".ppm", ".ico", ".avif")
MOST_PIXELS = 150_000_000
WHITE = (255, 255, 255, 255)


def read_picture(source: Any, *, most_pixels: int = MOST_PIXELS, reduced_to: int | None = None) -> "Image":
    """A picture in RGB: its first frame, turned as its EXIF data says, what is transparent on white.

    Args:
        source: a path, a file's bytes, a PIL image, or an array of uint8: (H, W), (H, W, 3) or (H, W, 4).
        most_pixels: H x W above which it is refused.
        reduced_to: JPEG files may be read at an eighth to a half of their size, no smaller than this.

    Raises:
        PictureError: it cannot be read, is cut short, has too many pixels, or is of another type.
        MissingExtraError: Pillow is not installed.
    """
    try:
        from PIL import Image
    except ImportError as error:
        raise MissingExtraError("pillow", "vision", "reading pictures") from error
    if isinstance(source, Image.Image):
        return _upright_rgb(source, most_pixels, "the picture")
    if isinstance(source, np.ndarray):
        return _upright_rgb(_from_array(source), most_pixels, "the array")
    if isinstance(source, (bytes, bytearray)):
        return _decoded(io.BytesIO(source), most_pixels, reduced_to, "the picture")
    if isinstance(source, (str, Path)):
        return _decoded(Path(source).expanduser(), most_pixels, reduced_to, str(source))
    raise PictureError(
        f"a picture is of type {type(source).__name__}, it must be a path, bytes, a PIL image or an array"
    )


def _decoded(file: Any, most_pixels: int, reduced_to: int | None, name: str) -> "Image":
    from PIL import Image, UnidentifiedImageError

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # most_pixels decides
            Image.init()  # Pillow knows the names of formats only after this
            opened = Image.open(file, formats=[name for name in FORMATS if name in Image.OPEN])
        with opened:
            _check_size(opened, most_pixels, name)
            if reduced_to is not None:
                opened.draft(None, (2 * reduced_to, 2 * reduced_to))
            return _upright_rgb(opened, most_pixels, name)
    except (FileNotFoundError, IsADirectoryError):
        raise PictureError(f"{name} is no file; correct the path") from None
    except UnidentifiedImageError:
        raise PictureError(
            f"{name} is no picture that can be read here; allowed are {', '.join(FORMATS)}"
        ) from None
    except Image.DecompressionBombError as error:
        raise PictureError(f"{name} is refused: {error}; make it smaller") from None
    except PictureError:
        raise
    except (
        Exception
    ) as error:  # decoders raise many kinds on damaged files: OSError, SyntaxError, struct.error
        raise PictureError(f"{name} is damaged or cut short ({error}); copy it again") from error


def _upright_rgb(image: "Image", most_pixels: int, name: str) -> "Image":
    from PIL import Image, ImageOps

    _check_size(image, most_pixels, name)
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise PictureError(f"{name} has floating-point pixels of unknown range; convert it to 8 or 16 bits")
    if image.mode.startswith("I"):  # 16 bits a pixel; Pillow's own conversion would clip them
        values = np.asarray(image)
        wide = values.dtype.itemsize == 2 or values.max(initial=0) > 255
        image = Image.fromarray((values // 256 if wide else values).astype(np.uint8))
    if image.has_transparency_data:
        ground = Image.new("RGBA", image.size, WHITE)
        ground.alpha_composite(image.convert("RGBA"))
        image = ground
    return image.convert("RGB")


def _check_size(image: "Image", most_pixels: int, name: str) -> None:
    width, height = image.size
    if not 0 < width * height <= most_pixels:
        raise PictureError(
            f"{name} has {width:,} x {height:,} pixels, allowed are 1 to {most_pixels:,}; make it smaller"
        )


def _from_array(array: np.ndarray) -> "Image":
    from PIL import Image

    if array.dtype != np.uint8 or not (array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))):
        raise PictureError(
            f"the array has shape {array.shape} and dtype {array.dtype}, it must be (H, W), (H, W, 3) or "
            "(H, W, 4) of uint8"
        )
    if not array.size:
        raise PictureError(f"the array has shape {array.shape}, it must have at least one pixel")
    return Image.fromarray(array)


def to_pixels(images: Sequence["Image"], encoder: "ImageEncoder") -> np.ndarray:
    """RGB pictures as an image encoder wants them, shape (N, 3, S, S), float32."""
    from PIL import Image, ImageOps

    size = (encoder.image_size, encoder.image_size)
    mean, std = np.array(encoder.mean, np.float32), np.array(encoder.std, np.float32)
    pixels = np.empty((len(images), 3, *size), np.float32)
    for number, image in enumerate(images):
        if encoder.crop:
            image = ImageOps.fit(image, size, Image.Resampling.BICUBIC)
        else:
            image = image.resize(size, Image.Resampling.BICUBIC)
        pixels[number] = ((np.asarray(image, np.float32) / 255 - mean) / std).transpose(2, 0, 1)
    return pixels


def is_picture_folder(source: str | Path) -> bool:
    """Whether it is a folder with pictures and, but for pages of notes, without texts."""
    folder = Path(source)
    if not folder.is_dir():
        return False
    endings = {path.suffix.lower() for path in folder.rglob("*")}
    return not endings.isdisjoint(SUFFIXES) and endings.isdisjoint((".txt", ".jsonl", ".csv", ".parquet"))


def picture_files(folder: Path) -> list[Path]:
    """All pictures in a folder and the folders in it, by their endings, sorted by path."""
    return files_of(folder, SUFFIXES)


@dataclass(frozen=True)
class Captioned:
    """A picture's file, and what it shows in one or more texts, in any languages."""

    path: Path
    captions: tuple[str, ...]


def read_captioned(source: Path) -> list[Captioned]:
    """Pictures with captions.

    Args:
        source: a .jsonl file of ``path`` (relative to the file) and ``captions``, a list of texts; or a
            folder where each picture has a .txt file of the same name, a caption a line.

    Raises:
        DataFileError: a file is missing or malformed, or a picture has no caption.
    """
    if source.is_dir():
        return [_beside(path) for path in files_of(source, SUFFIXES)]
    pictures = []
    for number, row in enumerate(read_rows(source, {"path": TEXT}), 1):
        captions = row.get("captions")
        if not isinstance(captions, list) or not captions or not all(_is_caption(item) for item in captions):
            raise DataFileError(
                f"{source}, row {number}: captions is {captions!r:.80}, it must be a list of texts"
            )
        pictures.append(Captioned(source.parent / row["path"], tuple(captions)))
    missing = [item.path for item in pictures if not item.path.is_file()]
    if missing:
        raise DataFileError(
            f"{source} names {missing[0]}, which is no file, and {len(missing) - 1} more such"
        )
    return pictures


def _beside(path: Path) -> Captioned:
    text = path.with_suffix(".txt")
    try:
        lines = [line for _, line in read_lines(text)]
    except DataFileError as error:
        raise DataFileError(f"{path} needs {text.name} beside it, a caption a line ({error})") from error
    captions = tuple(line.strip() for line in lines if line.strip())
    if not captions:
        raise DataFileError(f"{text} is empty; write a caption a line")
    return Captioned(path, captions)


def _is_caption(value: object) -> bool:
    return isinstance(value, str) and bool(value.strip())
