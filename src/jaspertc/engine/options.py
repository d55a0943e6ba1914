"""What callers hand to an embedder: options checked, texts in bounded pieces."""

import sys
import warnings
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypedDict

import numpy as np
import numpy.typing as npt

from jaspertc.engine.precision import check_precision
from jaspertc.errors import InputError
from jaspertc.model.compressors.lookup import check_ids
from jaspertc.model.lengths import LARGEST, Ratio, check_ratio
from jaspertc.types import IntArray, is_integer

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


class LoadArguments(TypedDict, total=False):
    """The keyword arguments of ``Embedder.load``; see there."""

    device: str
    dtype: str
    runtime: str
    pooler: str | None


class EncodeArguments(TypedDict, total=False):
    """The keyword arguments of ``Embedder.encode``; see there."""

    prompt: str | None
    prompt_name: str | None
    ratio: Ratio | None
    threshold: int | None
    max_compressed: int | None
    max_length: int | None
    dims: int | None
    normalize: bool | None
    precision: str
    long_texts: str | None
    show_progress: bool


class StreamArguments(EncodeArguments, total=False):
    """The keyword arguments of ``Embedder.encode_stream``; see there."""

    block_size: int | None


@dataclass(frozen=True, kw_only=True)
class EncodeOptions:
    """``StreamArguments``, checked."""

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
        check_normalize(self.normalize)
        if self.max_length is not None and not is_integer(self.max_length):
            raise InputError(f"max_length is {self.max_length!r}, it must be an integer")
        if self.block_size is not None and not (is_integer(self.block_size) and self.block_size >= 1):
            raise InputError(f"block_size is {self.block_size!r}, it must be an integer >= 1")
        for name in ("prompt", "prompt_name"):
            value = getattr(self, name)
            if not (value is None or isinstance(value, str)):
                raise InputError(f"{name} is {value!r}, it must be a string")


def check_normalize(value: object) -> None:
    """Raise InputError unless ``value`` is True, False or None."""
    if not (value is None or isinstance(value, (bool, np.bool_))):
        raise InputError(f"normalize is {value!r}, it must be True, False, or None for the model's own")


def check_texts(texts: object, *, several: str = "") -> None:
    """Raise InputError unless ``texts`` is one string, or can be read as several, one after the other.

    Args:
        several: a function that needs several, for which one string is an error.
    """
    kind = f"texts is a {type(texts).__name__}"
    if isinstance(texts, str):
        if several:
            raise InputError(f"{kind}, {several} needs an iterable of strings, such as a list")
        return
    columns = _column_names(texts)
    if columns is not None:
        raise InputError(
            f"{kind} with columns {columns}; give the strings of one of them as a list: "
            'texts["column"].tolist() (pandas), .to_list() (polars), .to_pylist() (pyarrow)'
        )
    if isinstance(texts, Mapping):
        raise InputError(f"{kind}, it must be a string or strings in order; give list(texts.values())")
    if isinstance(texts, (set, frozenset)):
        raise InputError(f"{kind}, whose order is not defined; give a list, such as sorted(texts)")
    if not _is_row(texts):
        shape = getattr(texts, "shape", None)
        what = f"{kind} of shape {tuple(shape)}" if isinstance(shape, tuple) else kind
        raise InputError(f"{what}, it must be a string or an iterable of texts, such as a list of strings")


def check_rows(rows: object) -> None:
    """Raise InputError unless ``rows`` can be read as rows of token ids."""
    no_rows = isinstance(rows, (str, bytes, bytearray, Mapping, set, frozenset))
    if no_rows or not isinstance(rows, Iterable) or _column_names(rows) is not None:
        raise InputError(f"rows is a {type(rows).__name__}, it must be a list of lists of token ids")


def _column_names(table: object) -> str | None:
    """The first columns of a table, whose library need not be loaded; ``None`` for what is none."""
    names = getattr(table, "column_names", None)
    names = getattr(table, "columns", None) if names is None else names
    if not isinstance(names, Iterable) or not hasattr(table, "shape"):
        return None
    return ", ".join(repr(name) for name in list(names)[:5])


def _is_row(texts: object) -> bool:
    """Whether items can be read from it, and those of arrays are no arrays."""
    readable = isinstance(texts, Iterable) and not isinstance(texts, (bytes, bytearray, memoryview))
    return readable and getattr(texts, "ndim", 1) == 1


def token_ids(index: int, row: Sequence[int] | IntArray, vocabulary: int) -> IntArray:
    """Row ``index`` of a caller's token ids as an array, shape (L,).

    Raises:
        InputError: not one or more integers, or one is not below ``vocabulary``.
    """
    try:
        ids = np.asarray(row)
    except (TypeError, ValueError) as error:
        raise InputError(f"row {index} is not a sequence of token ids: {error}") from error
    if ids.ndim != 1 or not len(ids) or not np.issubdtype(ids.dtype, np.integer):
        raise InputError(
            f"row {index} has shape {ids.shape} and type {ids.dtype}, it must be one or more integers"
        )
    check_ids(ids, vocabulary, f"row {index}: ")
    return ids.astype(np.int64)


def token_counts(lengths: Sequence[int] | IntArray) -> IntArray:
    """A caller's lengths of texts as an array, shape (N,).

    Raises:
        InputError: not integers >= 1.
    """
    try:
        counts = np.asarray(lengths)
    except (TypeError, ValueError) as error:
        raise InputError(f"lengths is not a list of integers: {error}") from error
    if counts.ndim != 1 or (len(counts) and counts.dtype.kind not in "iu"):
        raise InputError(
            f"lengths is {lengths!r:.80}, it must be a list of integers: how many tokens each text has"
        )
    wrong = np.flatnonzero((counts < 1) | (counts > LARGEST))
    if len(wrong):
        raise InputError(
            f"lengths is {counts[wrong[0]]} at text {wrong[0]}, it must be an integer >= 1 (and <= {LARGEST})"
        )
    return counts.astype(np.int64)


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
    if not isinstance(texts, Sized):
        raise InputError("one ratio per text needs a list of texts, not a stream")
    return check_ratio(values, len(texts))


def check_strings(texts: Sequence[object], first_index: int) -> None:
    """Raise InputError for the first text that is no string, counted from ``first_index``."""
    for index, text in enumerate(texts, first_index):
        if not isinstance(text, str):
            what = f"text {index} is {text!r:.80} of type {type(text).__name__}"
            raise InputError(f"{what}, it must be a string; {_fix(text)}")


def _fix(text: object) -> str:
    """What to do about something that is no string."""
    if isinstance(text, (list, tuple, np.ndarray)):
        return "give one flat list of strings"
    if isinstance(text, Mapping):
        return 'give the strings of one key: [row["text"] for row in rows]'
    if isinstance(text, bytes):
        return "decode it: text.decode()"
    if (
        text is None
        or type(text).__name__ in ("NAType", "NaTType")
        or (isinstance(text, float) and text != text)
    ):
        return "leave missing texts out, or give '' for them"
    return "give str(text) if that is meant"


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
