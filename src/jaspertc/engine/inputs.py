"""What callers hand to an embedder: options checked, texts in bounded pieces."""

import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass

import numpy as np

from jaspertc.engine.precision import check_precision
from jaspertc.errors import InputError
from jaspertc.model.compression import Ratio
from jaspertc.text.packing import IntArray

CHUNK_TEXTS = 4096
CHUNK_CHARACTERS = 4_000_000
LONG_TEXTS = ("compress", "truncate")


class LongTextWarning(UserWarning):
    """Some texts were longer than the model's positions allow."""


def warn_of_long_texts(count: int, total: int, what: str) -> None:
    """Issue a ``LongTextWarning`` at the line that called into this package, if ``count`` is not 0."""
    if not count:
        return
    frame, level = sys._getframe(), 1
    while frame.f_back is not None and str(frame.f_globals.get("__name__")).startswith("jaspertc."):
        frame, level = frame.f_back, level + 1
    warnings.warn(f"{count} of {total} texts did not fit this model's {what}", LongTextWarning, level)


@dataclass(frozen=True, kw_only=True)
class EncodeOptions:
    """The keyword arguments of ``Embedder.encode``; see there."""

    prompt: str | None = None
    prompt_name: str | None = None
    ratio: Ratio | None = None
    threshold: int | None = None
    max_compressed: int | None = None
    max_length: int | None = None
    dims: int | None = None
    normalize: bool | None = None
    precision: str = "float32"
    long_texts: str = "compress"
    show_progress: bool = False

    def __post_init__(self) -> None:
        check_precision(self.precision)
        if self.long_texts not in LONG_TEXTS:
            raise InputError(f"long_texts is {self.long_texts!r}, it must be {' or '.join(LONG_TEXTS)}")
        if self.max_length is not None and not is_integer(self.max_length):
            raise InputError(f"max_length is {self.max_length!r}, it must be an integer")
        for name in ("prompt", "prompt_name"):
            value = getattr(self, name)
            if not (value is None or isinstance(value, str)):
                raise InputError(f"{name} is {value!r}, it must be a string")


def is_integer(value: object) -> bool:
    """Whether ``value`` is an integer, Python's or NumPy's, and not a boolean."""
    return isinstance(value, (int, np.integer)) and not isinstance(value, bool)


def check_iterable(texts: object) -> None:
    """Raise InputError unless ``texts`` can be read as several strings."""
    if not isinstance(texts, Iterable) or isinstance(texts, (bytes, Mapping)):
        raise InputError(f"texts is a {type(texts).__name__}, it must be a string or an iterable of texts")


def token_ids(index: int, row: Sequence[int] | IntArray) -> IntArray:
    """Row ``index`` of a caller's token ids as an array, shape (L,).

    Raises:
        InputError: not one or more integers.
    """
    try:
        ids = np.asarray(row)
    except (TypeError, ValueError) as error:
        raise InputError(f"row {index} is not a sequence of token ids: {error}") from error
    if ids.ndim != 1 or not len(ids) or not np.issubdtype(ids.dtype, np.integer):
        raise InputError(
            f"row {index} has shape {ids.shape} and type {ids.dtype}, it must be one or more integers"
        )
    return ids.astype(np.int64)


def chunks(texts: Iterable[str]) -> Iterator[list[str]]:
    """Lists of texts, bounded in number and characters."""
    chunk: list[str] = []
    size = 0
    for text in texts:
        chunk.append(text)
        size += len(text) if isinstance(text, str) else 0
        if len(chunk) >= CHUNK_TEXTS or size >= CHUNK_CHARACTERS:
            yield chunk
            chunk, size = [], 0
    if chunk:
        yield chunk


def progress(texts: Iterable[str]) -> Iterator[str]:
    """The same texts, drawing a progress bar on standard error."""
    from rich.console import Console
    from rich.progress import track

    total = len(texts) if isinstance(texts, Sized) else None
    yield from track(texts, "embedding", total=total, console=Console(stderr=True))
