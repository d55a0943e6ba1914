"""Reading pictures: strange ones are right, or a clear error."""

import contextlib
import json
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
from drawn import drawn, encoded, quarters
from PIL import Image

from jaspertc.corpus.pictures import read_captioned, read_picture, to_pixels
from jaspertc.errors import DataFileError, PictureError
from jaspertc.model.vision.efficientnet_lite import EfficientNetLite

RED = (255, 0, 0)


def corner(image: Image.Image) -> tuple[int, ...]:
    pixel = image.getpixel((0, 0))
    assert isinstance(pixel, tuple)
    return pixel


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "GIF", "BMP", "TIFF", "PPM"])
def test_formats_without_loss(kind: str, tmp_path: Path) -> None:
    options: dict[str, object] = {"lossless": True} if kind == "WEBP" else {}
    content = encoded(quarters(), kind, **options)
    (tmp_path / "picture").write_bytes(content)
    for source in (content, tmp_path / "picture", str(tmp_path / "picture")):
        assert np.array_equal(read_picture(source), np.asarray(quarters()))


@pytest.mark.parametrize("mode", ["P", "L", "1", "LA", "RGBA", "CMYK", "YCbCr"])
def test_modes(mode: str) -> None:
    white = Image.new("RGB", (3, 2), "white")
    converted = white.convert(mode)
    expected = (255, 255, 255)
    assert corner(read_picture(converted)) == expected
    if mode not in ("YCbCr",):
        content = encoded(converted, "TIFF" if mode == "CMYK" else "PNG")
        assert corner(read_picture(content)) == expected


def test_cmyk_jpeg() -> None:
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    assert np.abs(np.array(corner(read_picture(encoded(image, "JPEG", quality=100)))) - RED).max() <= 8


def test_what_is_transparent_is_white() -> None:
    clear = Image.new("RGBA", (2, 2), (255, 0, 0, 0))
    assert corner(read_picture(encoded(clear))) == (255, 255, 255)
    palette = Image.new("P", (2, 2))
    palette.putpalette([255, 0, 0, 0, 255, 0])
    assert corner(read_picture(encoded(palette, "PNG", transparency=0))) == (255, 255, 255)
    assert corner(read_picture(encoded(palette, "PNG", transparency=1))) == RED


@pytest.mark.parametrize("value", [0, 128, 255])
def test_sixteen_bits_keep_their_brightness(value: int) -> None:
    wide = Image.fromarray(np.full((2, 2), value * 257, np.uint16))
    for kind in ("PNG", "TIFF"):
        assert corner(read_picture(encoded(wide, kind))) == (value,) * 3


def test_floating_point_is_refused() -> None:
    with pytest.raises(PictureError, match="floating-point"):
        read_picture(encoded(Image.fromarray(np.zeros((2, 2), np.float32)), "TIFF"))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_undone(orientation: int) -> None:
    turns = {
        2: Image.Transpose.FLIP_LEFT_RIGHT,
        3: Image.Transpose.ROTATE_180,
        4: Image.Transpose.FLIP_TOP_BOTTOM,
        5: Image.Transpose.TRANSPOSE,
        6: Image.Transpose.ROTATE_90,
        7: Image.Transpose.TRANSVERSE,
        8: Image.Transpose.ROTATE_270,
    }
    stored = quarters().transpose(turns[orientation]) if orientation > 1 else quarters()
    exif = Image.Exif()
    exif[0x0112] = orientation
    assert np.array_equal(read_picture(encoded(stored, "PNG", exif=exif)), np.asarray(quarters()))


def test_first_frame_of_an_animation() -> None:
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "blue", "green")]
    for kind in ("GIF", "PNG", "WEBP"):
        options: dict[str, object] = {"lossless": True} if kind == "WEBP" else {}
        content = encoded(frames[0], kind, save_all=True, append_images=frames[1:], duration=50, **options)
        assert corner(read_picture(content)) == RED


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1)])
def test_one_pixel_and_thin_pictures(size: tuple[int, int]) -> None:
    encoder = EfficientNetLite(0)
    pixels = to_pixels([read_picture(encoded(Image.new("RGB", size, "red")))], encoder)
    assert pixels.shape == (1, 3, 224, 224)
    expected = (np.array([1, 0, 0]) - np.array(encoder.mean)) / np.array(encoder.std)
    assert np.abs(pixels - expected[:, None, None].astype(np.float32)).max() < 1e-5


def test_crop_keeps_the_middle_and_stretching_keeps_all() -> None:
    wide = Image.new("RGB", (90, 30), "white")
    wide.paste("red", (0, 0, 30, 30))
    encoder = EfficientNetLite(0)
    stretched = to_pixels([wide], encoder)[0, 1]
    encoder.crop = True
    cropped = to_pixels([wide], encoder)[0, 1]
    assert (stretched < 0).mean() == pytest.approx(1 / 3, abs=0.02)
    assert cropped[:, 8:].min() > 0.9


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "GIF"])
def test_truncated_files_are_named(kind: str, tmp_path: Path) -> None:
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64, 3), dtype=np.uint8))
    path = tmp_path / "half.file"
    content = encoded(noise, kind)
    path.write_bytes(content[: len(content) // 2])
    with pytest.raises(PictureError, match=r"half\.file is"):
        read_picture(path)


@pytest.mark.parametrize(
    "content", [b"", b"not a picture", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"<svg/>", b"\x89PNG\r\n\x1a\n"]
)
def test_no_pictures_are_refused(content: bytes) -> None:
    with pytest.raises(PictureError, match=r"no picture that can be read here|damaged"):
        read_picture(content)


def test_every_cut_and_flipped_byte_is_an_error_or_a_picture() -> None:
    rng = np.random.default_rng(0)
    for kind in ("PNG", "JPEG", "WEBP", "GIF", "BMP", "TIFF", "ICO"):
        content = bytearray(encoded(drawn(size=24), kind))
        for _ in range(60):
            damaged = bytearray(content)
            damaged[int(rng.integers(len(content)))] = int(rng.integers(256))
            with contextlib.suppress(PictureError):
                assert read_picture(bytes(damaged), most_pixels=10**6).mode == "RGB"


def png_of_size(width: int, height: int) -> bytes:
    """A tiny file whose header promises so many pixels."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(bytes(100)))
        + chunk(b"IEND", b"")
    )


@pytest.mark.parametrize("size", [(60_000, 60_000), (20_000, 8_000), (2**31 - 1, 1)])
def test_bombs_are_refused_by_their_header(size: tuple[int, int]) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with pytest.raises(PictureError, match=r"pixels|refused"):
            read_picture(png_of_size(*size))


@pytest.mark.slow
def test_a_hundred_megapixels_are_read_without_a_warning() -> None:
    content = encoded(Image.new("L", (10_000, 10_000), 200), "JPEG")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        reduced = read_picture(content, reduced_to=260)
    assert reduced.size == (1250, 1250)
    assert corner(reduced) == (200, 200, 200)
    with pytest.raises(PictureError, match=r"10,000 x 10,000 pixels, allowed are 1 to 25,000,000"):
        read_picture(content, most_pixels=25_000_000)


def test_arrays() -> None:
    assert np.array_equal(read_picture(np.asarray(quarters())), np.asarray(quarters()))
    assert corner(read_picture(np.full((2, 3), 7, np.uint8))) == (7, 7, 7)
    assert corner(read_picture(np.zeros((2, 3, 4), np.uint8))) == (255, 255, 255)
    for wrong in (
        np.zeros((2, 2)),
        np.zeros((2, 2, 5), np.uint8),
        np.zeros((0, 2), np.uint8),
        np.zeros(4, np.uint8),
    ):
        with pytest.raises(PictureError, match="the array has shape"):
            read_picture(wrong)
    for other in (None, 3, ["a"]):
        with pytest.raises(PictureError, match="of type"):
            read_picture(other)
    with pytest.raises(PictureError, match="is no file"):
        read_picture("/no/such/file.png")


def test_captions_of_a_file_and_of_a_folder(tmp_path: Path) -> None:
    (tmp_path / "a.png").write_bytes(encoded(drawn()))
    (tmp_path / "a.txt").write_text("a red circle\n\n红色的圆\n", encoding="utf-8")
    rows = [{"path": "a.png", "captions": ["a red circle", "红色的圆"]}]
    (tmp_path / "all.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert read_captioned(tmp_path) == read_captioned(tmp_path / "all.jsonl")
    for wrong in ({"path": "a.png"}, {"path": "a.png", "captions": []}, {"path": "a.png", "captions": [" "]}):
        (tmp_path / "wrong.jsonl").write_text(json.dumps(wrong) + "\n")
        with pytest.raises(DataFileError, match=r"wrong.jsonl, row 1: captions"):
            read_captioned(tmp_path / "wrong.jsonl")
    (tmp_path / "wrong.jsonl").write_text(json.dumps({"path": "b.png", "captions": ["b"]}) + "\n")
    with pytest.raises(DataFileError, match=r"b.png, which is no file"):
        read_captioned(tmp_path / "wrong.jsonl")
    (tmp_path / "c.png").write_bytes(encoded(drawn()))
    with pytest.raises(DataFileError, match=r"needs c.txt beside it"):
        read_captioned(tmp_path)
