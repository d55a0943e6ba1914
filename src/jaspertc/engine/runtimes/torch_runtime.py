"""Runs an encoder with PyTorch, on CPU or GPU."""

import logging
import os
from collections.abc import Iterable, Iterator

from jaspertc.engine.processes import Computing, computing
from jaspertc.engine.runtimes.base import TOKEN_BUDGET, Runtime
from jaspertc.errors import InputError
from jaspertc.machine import computes_bfloat16
from jaspertc.model.encoder import Encoder
from jaspertc.pytorch import Tensor, torch
from jaspertc.text.packing import PackedBatch
from jaspertc.types import FloatArray, IntArray

logger = logging.getLogger(__name__)

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16}


def choose_device(device: str) -> torch.device:
    """``auto`` is CUDA when there is one, else the CPU.

    Raises:
        InputError: the device is unknown or not present.
    """
    if not isinstance(device, str):
        raise InputError(f"device is {device!r}, it must be a string such as 'cpu', 'cuda' or 'auto'")
    if device == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    try:
        chosen = torch.device(device)
        torch.empty(1, device=chosen)
    except (RuntimeError, AssertionError, NotImplementedError) as error:
        raise InputError(f"device {device!r} cannot be used here ({error}); try 'cpu' or 'auto'") from error
    return chosen


def choose_dtype(dtype: str, stored: torch.dtype, device: torch.device) -> torch.dtype:
    """``auto`` is bfloat16 where the weights are stored so and it is not slower than float32.

    Raises:
        InputError: not float32, bfloat16 or auto (float16 overflows in this model family).
    """
    check_dtype(dtype)
    if dtype != "auto":
        return DTYPES[dtype]
    fast = stored == torch.bfloat16 and device.type in ("cuda", "cpu") and computes_bfloat16(device.type)
    return torch.bfloat16 if fast else torch.float32


def check_dtype(dtype: str) -> None:
    """Raise InputError unless it is float32, bfloat16 or auto (float16 overflows in this model family)."""
    if dtype != "auto" and dtype not in DTYPES:
        hint = "; float16 overflows in this model family, use bfloat16" if dtype == "float16" else ""
        raise InputError(f"dtype is {dtype!r}, it must be auto, {' or '.join(DTYPES)}{hint}")


class TorchRuntime(Runtime):
    """Vectors from packed batches."""

    name = "torch"

    def __init__(self, encoder: Encoder, *, device: str = "auto", dtype: str = "auto") -> None:
        self._process = os.getpid()
        self.device = choose_device(device)
        stored = encoder.backbone.token_table.weight.dtype
        self.dtype = choose_dtype(dtype, stored, self.device)
        self.precision = str(self.dtype).removeprefix("torch.")  # what products are computed in
        self.token_budget = TOKEN_BUDGET.get(self.device.type, TOKEN_BUDGET["cpu"])
        self.encoder = encoder.to(device=self.device, dtype=self.dtype).eval().requires_grad_(False)
        self.encoder.fold()
        self._prepare_layers()
        logger.info("runtime: torch %s on %s, %s", torch.__version__, self.device, self.dtype)

    def _prepare_layers(self) -> None:
        """Put what computes in place of the trained layers."""
        self.encoder = self.encoder.with_backbone(self.encoder.backbone.prepared())

    def embed(self, batch: PackedBatch, targets: IntArray) -> FloatArray:
        """Vectors before normalisation, shape (N, E), float32, on the host."""
        return self._start(batch, targets).on_host()

    def embed_all(self, batches: Iterable[tuple[PackedBatch, IntArray]]) -> Iterator[FloatArray]:
        """``embed`` of each batch, in order.

        On a GPU, a batch is made and handed over while the one before it is computed; only then are that
        one's vectors waited for.
        """
        before: OnTheWay | None = None
        for batch, targets in batches:
            started = self._start(batch, targets)
            if before is not None:
                yield before.on_host()
            before = started
        if before is not None:
            yield before.on_host()

    def embed_rows(self, rows: Tensor, lengths: IntArray) -> FloatArray:
        """Vectors before normalisation, shape (N, E), of rows that stand for compressed tokens, shape (C, D).

        Args:
            lengths: rows of each text or picture, shape (N,).
        """
        with self._computing(), torch.inference_mode():
            return OnTheWay(self.encoder.from_rows(rows.to(self.dtype), lengths)).on_host()

    def _start(self, batch: PackedBatch, targets: IntArray) -> "OnTheWay":
        with self._computing(), torch.inference_mode():
            return OnTheWay(self.encoder(batch, targets))

    def _computing(self) -> Computing:
        """Raise InputError where a fork has cut the device off."""
        if self.device.type == "cuda" and self._process != os.getpid():
            raise InputError(
                f"this process was forked from one that uses {self.device}, which CUDA does not allow; "
                'start processes with multiprocessing.get_context("spawn")'
            )
        return computing


class OnTheWay:
    """Vectors that a device may still be computing."""

    def __init__(self, vectors: Tensor) -> None:
        self._copied: torch.cuda.Event | None = None
        self._host = vectors
        if vectors.is_cuda:
            self._host = torch.empty(vectors.shape, dtype=vectors.dtype, pin_memory=True)
            self._host.copy_(vectors, non_blocking=True)
            self._copied = torch.cuda.current_stream(vectors.device).record_event()

    def on_host(self) -> FloatArray:
        """The vectors, waited for."""
        if self._copied is not None:
            self._copied.synchronize()
        vectors: FloatArray = self._host.cpu().numpy()
        return vectors
