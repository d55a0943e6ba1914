"""What callers hand to an embedder: options checked, texts in bounded pieces."""

import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from jaspertc.engine.precision import check_precision
from jaspertc.errors import InputError
from jaspertc.model.lengths import Ratio, check_ratio
from jaspertc.types import IntArray

# Texts are batched by length within a chunk. 1024 short texts fill a CPU's batches, 4096 a GPU's; more only
# delay the first block.
CHUNK_TEXTS = 4096
CHUNK_CHARACTERS = 2_000_000
LONG_TEXTS = ("pieces", "compress", "truncate")


Advance = Callable[[int], None]


def ignore(count: int) -> None:
    """Told of texts that are done, does nothing."""


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
    """The keyword arguments of ``Embedder.encode`` and ``Embedder.encode_stream``; see there."""

    prompt: str | None = None
    prompt_name: str | None = None
    ratio: Ratio | None = None
    threshold: int | None = None
    max_compressed: int | None = None
    max_length: int | None = None
    dims: int | None = None
    normalize: bool | None = None
    precision: str = "float32"
    long_texts: str | None = None
    show_progress: bool = False
    block_size: int | None = None

    def __post_init__(self) -> None:
        check_precision(self.precision)
        if self.long_texts is not None and self.long_texts not in LONG_TEXTS:
            raise InputError(f"long_texts is {self.long_texts!r}, it must be one of {', '.join(LONG_TEXTS)}")
        if self.max_length is not None and not is_integer(self.max_length):
            raise InputError(f"max_length is {self.max_length!r}, it must be an integer")
        if self.block_size is not None and not (is_integer(self.block_size) and self.block_size >= 1):
            raise InputError(f"block_size is {self.block_size!r}, it must be an integer >= 1")
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


def check_dims(dims: object, trained: Iterable[int]) -> None:
    """Raise InputError unless ``dims`` is ``None`` or a width that the model was trained for."""
    widths = sorted(set(trained))
    if dims is not None and not (is_integer(dims) and dims in widths):
        raise InputError(
            f"dims is {dims!r}, this model was trained for {', '.join(map(str, widths))}; "
            "other widths lose quality unpredictably (slice the vectors yourself if you accept that)"
        )


def checked_ratios(ratio: Ratio, texts: object) -> npt.NDArray[np.float64]:
    """A ratio, shape (), or one per text, shape (N,).

    Raises:
        InputError: there is one per text, and the texts are a stream or of another number.
        RatioError: one is out of range.
    """
    values = check_ratio(ratio)
    if not values.ndim:
        return values
    if not isinstance(texts, Sequence):
        raise InputError("one ratio per text needs a list of texts, not a stream")
    return check_ratio(values, len(texts))


def check_strings(texts: Sequence[object], first_index: int) -> None:
    """Raise InputError for the first text that is no string, counted from ``first_index``."""
    for index, text in enumerate(texts, first_index):
        if not isinstance(text, str):
            raise InputError(
                f"text {index} is {text!r:.80} of type {type(text).__name__}, it must be a string"
            )


def chunks(texts: Iterable[str], size: int | None = None) -> Iterator[tuple[int, list[str]]]:
    """Lists of texts, bounded in number (``CHUNK_TEXTS`` or ``size``) and characters, each with the place of
    its first text."""
    most = CHUNK_TEXTS if size is None else size
    chunk: list[str] = []
    begin = characters = 0
    for text in texts:
        chunk.append(text)
        characters += len(text) if isinstance(text, str) else 0
        if len(chunk) >= most or characters >= CHUNK_CHARACTERS:
            yield begin, chunk
            begin, chunk, characters = begin + len(chunk), [], 0
    if chunk:
        yield begin, chunk


@contextmanager
def progress(texts: Iterable[str], show: bool) -> Iterator[Advance]:
    """What to tell of texts that are done; draws a progress bar of them on standard error if ``show``."""
    if not show:
        yield ignore
        return
    from rich.console import Console
    from rich.progress import Progress

    with Progress(console=Console(stderr=True)) as bar:
        task = bar.add_task("embedding", total=len(texts) if isinstance(texts, Sized) else None)
        yield lambda count: bar.advance(task, count)
