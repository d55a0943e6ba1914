"""What this machine's processor can do, and with how many threads."""

import math
import os
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import cache
from pathlib import Path

from jaspertc.pytorch import HAS_TORCH, torch

_SHAPE = (128, 512, 512)  # of the product that two types are compared by
_ROUNDS = 40
_SLOWER = 1.25  # how many times as long bfloat16 may take as float32: its matrices are half as large


def cpu_has_bfloat16() -> bool:
    """Whether this CPU multiplies bfloat16 natively."""
    if not HAS_TORCH:
        return "avx512_bf16" in _flags()
    return bool(getattr(torch.cpu, "_is_avx512_bf16_supported", lambda: False)())


def computes_bfloat16(device_type: str) -> bool:
    """Whether a kind of device (``cuda``, ``cpu`` ...) is better off with bfloat16 than with float32.

    GPUs are taken to be. A CPU must multiply it natively and not more slowly than float32: Intel's Xeons have
    fast bfloat16 in AMX, and where that is switched off, products take twice the time of float32 ones. So it
    is timed, once in a process, in a twentieth of a second.
    """
    return device_type != "cpu" or (cpu_has_bfloat16() and _bfloat16_is_fast())


@cache
def _bfloat16_is_fast() -> bool:
    """By PyTorch's products of matrices, in rounds that take turns; the shortest time counts.

    One thread computes: two beside other work wait for each other, by chance for one type or the other.
    """
    if not HAS_TORCH:
        return True
    rows, inner, columns = _SHAPE
    shortest = {torch.float32: math.inf, torch.bfloat16: math.inf}
    with torch_threads(1), torch.inference_mode():
        operands = {
            dtype: (torch.ones(rows, inner, dtype=dtype), torch.ones(columns, inner, dtype=dtype))
            for dtype in shortest
        }
        for _ in range(_ROUNDS):
            for dtype, (x, w) in operands.items():
                started = time.perf_counter()
                torch.nn.functional.linear(x, w)
                shortest[dtype] = min(shortest[dtype], time.perf_counter() - started)
    return shortest[torch.bfloat16] < _SLOWER * shortest[torch.float32]


def cpu_has_amx() -> bool:
    """Whether this CPU multiplies tiles of matrices (Intel's AMX)."""
    if not HAS_TORCH:
        return "amx_tile" in _flags()
    return bool(getattr(torch.cpu, "_is_amx_tile_supported", lambda: False)())


def cpu_has_vnni() -> bool:
    """Whether this CPU adds four products of int8 in 32 bits, where none overflows."""
    return bool(_flags() & {"avx512_vnni", "avx_vnni", "asimddp"})


class _Threads:
    """PyTorch's number of threads.

    It is set thread by thread, but a new thread begins with what any set last; so what one sets for a while
    can be what another begins with.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0  # of ``only``
        self._usual = 0  # what the first of them found

    @property
    def usual(self) -> int:
        with self._lock:
            return self._usual if self._inside else torch.get_num_threads()

    def set(self, count: int) -> None:
        with self._lock:
            self._usual = count
            torch.set_num_threads(count)

    @contextmanager
    def only(self, count: int) -> Iterator[None]:
        with self._lock:
            if not self._inside:
                self._usual = torch.get_num_threads()
            self._inside += 1
            torch.set_num_threads(count)
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                torch.set_num_threads(self._usual)


_threads = _Threads()


def torch_threads(count: int) -> AbstractContextManager[None]:
    """PyTorch on so many threads: idle ones spin for milliseconds, on cores that others need by then."""
    return _threads.only(count)


def thread_count() -> int:
    """Threads to compute with: PyTorch's setting, or ``OMP_NUM_THREADS``, or as many as there are cores."""
    if HAS_TORCH:
        return _threads.usual
    with suppress(KeyError, ValueError):
        return max(1, int(os.environ["OMP_NUM_THREADS"]))
    return core_count()


def core_count() -> int:
    """Cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def set_threads(count: int) -> None:
    """Compute with so many threads: what is loaded and compiled from now on, and PyTorch in this thread."""
    if HAS_TORCH:
        _threads.set(count)
    os.environ["OMP_NUM_THREADS"] = str(count)


@cache
def _flags() -> frozenset[str]:
    """What Linux says that the processor has; nothing on other systems."""
    with suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith(("flags", "Features")):
                return frozenset(line.split(":", 1)[1].split())
    return frozenset()
