"""Tensors as they lie in their file: mapped, not read; their memory can be given back."""

import json
import mmap
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from jaspertc.errors import CheckpointError
from jaspertc.pytorch import Tensor, torch

METADATA = "__metadata__"
HEADER_LENGTH = 8  # bytes that hold the length of a safetensors file's header
RELEASE_SECONDS = 0.1


# Types of safetensors files; bfloat16, which numpy lacks, is widened.
TYPES = {
    "F64": np.float64, "F32": np.float32, "F16": np.float16, "BF16": np.uint16, "I8": np.int8, "U8": np.uint8,
    "I16": np.int16, "I32": np.int32, "I64": np.int64, "BOOL": np.bool_,
}  # fmt: skip


class MappedWeights:
    """The tensors of safetensors files, each an array in the file's pages.

    A page takes memory from when it is touched until ``release``; touched again, it is read again.

    Args:
        files: those that safetensors has opened without complaint, each with the tensors to take from it;
            ``None`` stands for all.
        all_types: take every tensor and not only the int8 matrices.

    Attributes:
        arrays: by name.

    Raises:
        CheckpointError: a tensor is of a type that numpy cannot have.
    """

    def __init__(
        self, files: Iterable[tuple[Path, frozenset[str] | None]], *, all_types: bool = False
    ) -> None:
        self.arrays: dict[str, np.ndarray] = {}
        self._maps: list[mmap.mmap] = []
        for path, assigned in files:
            with path.open("rb") as file:
                size = int.from_bytes(file.read(HEADER_LENGTH), "little")
                header = json.loads(file.read(size))
                # A private mapping: writable, as PyTorch wants it, and never written.
                pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            self._maps.append(pages)
            for name, entry in header.items():
                if name == METADATA or (assigned is not None and name not in assigned):
                    continue
                if all_types or (entry["dtype"] == "I8" and len(entry["shape"]) == 2):
                    self.arrays[name] = _array(pages, entry, HEADER_LENGTH + size)

    @property
    def tensors(self) -> dict[str, Tensor]:
        """The arrays as PyTorch's."""
        return {name: torch.from_numpy(array) for name, array in self.arrays.items()}

    def release(self) -> None:
        """Give the pages back to the system, where it can be told to (not on Windows)."""
        for pages in self._maps:
            if hasattr(pages, "madvise"):
                pages.madvise(mmap.MADV_DONTNEED)

    @contextmanager
    def releasing(self) -> Iterator[None]:
        """Give pages back again and again while something reads all of them once, so that few are held."""
        done = threading.Event()

        def run() -> None:
            while not done.wait(RELEASE_SECONDS):
                self.release()

        thread = threading.Thread(target=run, name="jaspertc-release", daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()
            self.release()


def _array(pages: mmap.mmap, entry: dict[str, Any], start: int) -> np.ndarray:
    begin, end = entry["data_offsets"]
    if entry["dtype"] not in TYPES:
        raise CheckpointError(f"tensors of type {entry['dtype']} need PyTorch: pip install 'jaspertc[torch]'")
    kind = np.dtype(TYPES[entry["dtype"]])
    flat = np.frombuffer(pages, kind, (end - begin) // kind.itemsize, start + begin)
    if entry["dtype"] == "BF16":
        flat = (flat.astype(np.uint32) << 16).view(np.float32)
    return flat.reshape(entry["shape"])
