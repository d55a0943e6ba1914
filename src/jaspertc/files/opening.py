"""Reading bytes and lines of files that may be compressed; all that can be wrong with one is named."""

import gzip
import io
import sys
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path, PurePath
from typing import IO, Any, Protocol, cast

from jaspertc.errors import DataFileError, MissingExtraError

STDIN = "-"
GZIP, ZSTD = ".gz", ".zst"
COMPRESSED = (GZIP, ZSTD)
LONGEST = 64 << 20  # bytes of a line, or of a file that is one text
BOM = "\ufeff"
PACKED_BYTES = 1 << 13  # at once; a frame may unpack to ten thousand times as many


class Openable(Protocol):
    """A file that is on no path of this machine; ``str`` gives what messages call it."""

    @property
    def name(self) -> str:
        """Its last part, whose endings tell its kind."""

    def open(self, mode: str) -> Any:
        """A binary file."""


Input = str | Path | Openable


def name_of(path: Input) -> str:
    """What messages call an input."""
    return "standard input" if str(path) == STDIN else str(path)


@contextmanager
def reading(path: Input) -> Iterator[None]:
    """What is wrong with a file becomes a DataFileError that names it."""
    name = name_of(path)
    try:
        yield
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        kind = "zst" if name.lower().endswith(ZSTD) else "gzip"
        raise DataFileError(
            f"{name} cannot be read: no {kind} file or was cut short ({error}); copy it again"
        ) from error
    except FileNotFoundError:
        raise DataFileError(f"{name} does not exist; correct the path") from None
    except OSError as error:
        raise DataFileError(f"{name} cannot be read: {error.strerror or error}; give another path") from error


@contextmanager
def opened(path: Input) -> Iterator[IO[bytes]]:
    """A file's bytes, unpacked where its name ends in .gz or .zst; ``-`` is standard input.

    Raises:
        MissingExtraError: it is .zst, and neither Python nor an installed package reads that.
    """
    if str(path) == STDIN:
        if sys.stdin is None:
            raise DataFileError("standard input is closed; pipe texts to it, or give a file")
        yield sys.stdin.buffer
        return
    local = Path(path) if isinstance(path, str) else path
    suffix = PurePath(local.name).suffix.lower()
    with local.open("rb") as file:
        if suffix == GZIP:
            with gzip.GzipFile(fileobj=file) as unpacked:
                yield cast(IO[bytes], unpacked)
        elif suffix == ZSTD:
            yield cast(IO[bytes], io.BufferedReader(_Unzst(file)))
        else:
            yield file


def read_lines(path: Input) -> Iterator[tuple[int, str]]:
    """Lines, numbered from 1, without their ends; a BOM before any of them is left out: files are joined.

    Bytes are split, at newlines only: text would be at U+2028 and others too.

    Raises:
        DataFileError: the file cannot be read, or a line is not UTF-8, holds a NUL byte or is over 64 MiB.
    """
    with reading(path), opened(path) as file:
        for number, raw in enumerate(iter(lambda: file.readline(LONGEST + 1), b""), 1):
            yield (
                number,
                decoded(raw, f"{name_of(path)}, line {number}").removesuffix("\n").removesuffix("\r"),
            )


def read_whole(path: Input) -> str:
    """A file as one text, its ends of lines as ``\\n``.

    Raises:
        DataFileError: as ``read_lines``.
    """
    with reading(path), opened(path) as file:
        text = decoded(file.read(LONGEST + 1), name_of(path))
    return text.replace("\r\n", "\n").replace("\r", "\n")


def decoded(raw: bytes, where: str) -> str:
    """A line or text of at most 64 MiB of UTF-8.

    Raises:
        DataFileError: it is none; ``where`` and the place in it are named.
    """
    if len(raw) > LONGEST:
        raise DataFileError(
            f"{where}: over {LONGEST >> 20} MiB in one text; split it into texts of their own"
        )
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        raise DataFileError(f"{where}: not UTF-8 at byte {error.start}; convert the file to UTF-8") from error
    if "\0" in text:
        column = text.index("\0") + 1
        raise DataFileError(
            f"{where}: a NUL character at column {column}, so this is no text, or UTF-16; convert it to UTF-8"
        )
    return text.removeprefix(BOM)


class _Unzst(io.RawIOBase):
    """Unpacks the frames of a .zst file; one that was cut short is an error, as it is with gzip."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._new_frame, self._error = _zstd()
        self._frame: Any = None
        self._packed = b""
        self._unpacked = memoryview(b"")

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        while not self._unpacked:
            packed = self._packed or self._file.read(PACKED_BYTES)
            if not packed:
                if self._frame is not None:
                    raise EOFError("its last frame has no end")
                return 0
            frame = self._frame or self._new_frame()
            try:
                self._unpacked = memoryview(frame.decompress(packed))
            except self._error as error:
                raise EOFError(str(error)) from error
            self._frame, self._packed = (None, frame.unused_data) if frame.eof else (frame, b"")
        count = min(len(buffer), len(self._unpacked))
        buffer[:count] = self._unpacked[:count]
        self._unpacked = self._unpacked[count:]
        return count


def _zstd() -> tuple[Callable[[], Any], type[Exception]]:
    """What makes the decompressor of a frame, and what that raises."""
    try:
        library = import_module("compression.zstd")  # from Python 3.14 on
    except ImportError:
        pass
    else:
        return library.ZstdDecompressor, library.ZstdError
    try:
        library = import_module("zstandard")
    except ImportError as error:
        raise MissingExtraError("zstandard", "zst", "reading .zst files") from error
    return library.ZstdDecompressor().decompressobj, library.ZstdError
