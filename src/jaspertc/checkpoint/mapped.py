"""Int8 matrices as they lie in their file: mapped, not read; their memory can be given back."""

import json
import mmap
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor

HEADER_LENGTH = 8  # bytes that hold the length of a safetensors file's header
RELEASE_SECONDS = 0.1


class MappedWeights:
    """The int8 matrices of safetensors files, each an array in the file's pages.

    A page takes memory from when it is touched until ``release``; touched again, it is read again.

    Args:
        files: those that safetensors has opened without complaint, each with the tensors to take from it;
            ``None`` stands for all.
    """

    def __init__(self, files: Iterable[tuple[Path, frozenset[str] | None]]) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._maps: list[mmap.mmap] = []
        for path, assigned in files:
            with path.open("rb") as file:
                size = int.from_bytes(file.read(HEADER_LENGTH), "little")
                header = json.loads(file.read(size))
                # A private mapping: writable, as PyTorch wants it, and never written.
                pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
            self._maps.append(pages)
            for name, entry in header.items():
                if assigned is not None and name not in assigned:
                    continue
                if entry.get("dtype") == "I8" and len(entry["shape"]) == 2:
                    begin, end = entry["data_offsets"]
                    flat = torch.frombuffer(
                        pages, dtype=torch.int8, count=end - begin, offset=HEADER_LENGTH + size + begin
                    )
                    self.tensors[name] = flat.view(entry["shape"])

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
