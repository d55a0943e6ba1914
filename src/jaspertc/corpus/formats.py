"""The kinds of file that vectors are written to, each streamed from blocks."""

import json
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, NamedTuple, Protocol

import numpy as np

from jaspertc.errors import DataFileError
from jaspertc.files.parquet import arrow as pyarrow
from jaspertc.files.texts import Id
from jaspertc.types import VectorArray

ROW_GROUP_BYTES = 1 << 24
# Digits with which a decimal number gives back the same binary one.
DIGITS = {"float32": "%.9g", "float16": "%.5g", "int8": "%d", "uint8": "%d"}


class Block(NamedTuple):
    """Vectors, shape (n, E), and the n ids of their texts, if they have any."""

    vectors: VectorArray
    ids: list[Id] | None


class ReadBlock(Protocol):
    """Gives the block of a number; with ``ids_only`` its vectors may be left out."""

    def __call__(self, index: int, ids_only: bool = False) -> Block: ...


def check_output(output: Path) -> None:
    """Raise DataFileError for an ending that is not known, MissingExtraError for parquet without pyarrow."""
    if output.suffix.lower() not in WRITERS:
        raise DataFileError(f"{output} has an unknown type, it must end in {', '.join(WRITERS)}")
    if output.suffix.lower() == ".parquet":
        pyarrow()


def write_output(
    file: IO[bytes],
    output: Path,
    read: ReadBlock,
    indices: Sequence[int],
    rows: int,
    no_vectors: VectorArray,
) -> None:
    """Write all blocks to ``file``, in the format that the ending of ``output`` stands for.

    Args:
        read: gives block ``i`` for each ``i`` of ``indices``.
        rows: number of vectors in all blocks.
        no_vectors: shape (0, E), gives width and type where there is no block.
    """
    WRITERS[output.suffix.lower()](file, read, indices, rows, no_vectors)


def _write_npy(
    file: IO[bytes], read: ReadBlock, indices: Sequence[int], rows: int, no_vectors: VectorArray
) -> None:
    header = {
        "descr": np.lib.format.dtype_to_descr(no_vectors.dtype),
        "fortran_order": False,
        "shape": (rows, no_vectors.shape[1]),
    }
    np.lib.format.write_array_header_1_0(file, header)
    for index in indices:
        file.write(read(index).vectors.tobytes())


def _write_jsonl(
    file: IO[bytes], read: ReadBlock, indices: Sequence[int], rows: int, no_vectors: VectorArray
) -> None:
    """A text without an id gets its place in the input, counted from 0."""
    vector_format = ", ".join([DIGITS[no_vectors.dtype.name]] * no_vectors.shape[1])
    done = 0
    for index in indices:
        vectors, ids = read(index)
        for name, values in zip(ids or range(done, done + len(vectors)), vectors.tolist()):
            line = f'{{"id": {json.dumps(name)}, "embedding": [{vector_format % tuple(values)}]}}\n'
            file.write(line.encode())
        done += len(vectors)


def _write_parquet(
    file: IO[bytes], read: ReadBlock, indices: Sequence[int], rows: int, no_vectors: VectorArray
) -> None:
    arrow = pyarrow()
    width, item = no_vectors.shape[1], arrow.from_numpy_dtype(no_vectors.dtype)
    fields = [arrow.field("embedding", arrow.list_(item, width))]
    id_type = _id_type(read, indices)
    if id_type is not None:
        fields.insert(0, arrow.field("id", arrow.int64() if id_type is int else arrow.string()))
    schema = arrow.schema(fields)
    group_rows = max(1, ROW_GROUP_BYTES // (width * no_vectors.dtype.itemsize))
    with arrow.parquet.ParquetWriter(file, schema, use_dictionary=False) as writer:
        for blocks in _grouped(read, indices, group_rows):
            vectors = np.concatenate([block.vectors for block in blocks])
            columns = [arrow.FixedSizeListArray.from_arrays(arrow.array(vectors.reshape(-1)), width)]
            if id_type is not None:
                ids = [id_type(name) for block in blocks for name in block.ids or ()]
                columns.insert(0, arrow.array(ids, schema.field("id").type))
            writer.write_table(arrow.Table.from_arrays(columns, schema=schema), row_group_size=group_rows)


def _id_type(read: ReadBlock, indices: Sequence[int]) -> type[int] | type[str] | None:
    """Integers stay integers where all ids are and fit a column; mixed ones become strings."""
    kind: type[int] | type[str] | None = None
    for index in indices:
        ids = read(index, ids_only=True).ids
        if ids is None:
            return None
        if not all(isinstance(name, int) and -(2**63) <= name < 2**63 for name in ids):
            return str
        kind = int
    return kind


def _grouped(read: ReadBlock, indices: Sequence[int], rows: int) -> Iterator[list[Block]]:
    """Blocks put together until there are ``rows``: small row groups make parquet files slow to read."""
    group: list[Block] = []
    for index in indices:
        group.append(read(index))
        if sum(len(block.vectors) for block in group) >= rows:
            yield group
            group = []
    if group:
        yield group


Writer = Callable[[IO[bytes], ReadBlock, Sequence[int], int, VectorArray], None]
WRITERS: dict[str, Writer] = {".npy": _write_npy, ".jsonl": _write_jsonl, ".parquet": _write_parquet}
