"""Vectors without PyTorch: an engine computes the layers, numpy what is around them.

Shape legend: N texts, T tokens, C compressed tokens, V vocabulary, D model width, E width of the vectors.
"""

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from jaspertc.checkpoint import Checkpoint
from jaspertc.engine.processes import computing
from jaspertc.engine.runtimes.base import TOKEN_BUDGET, Runtime
from jaspertc.engine.runtimes.cpu_engine import POOLERS, CpuEngine, means
from jaspertc.errors import CheckpointError, MissingExtraError
from jaspertc.machine import thread_count
from jaspertc.model.backbones import backbone_class
from jaspertc.model.compressors.lookup import FOLDED_ROWS, check_ids, fixed_places
from jaspertc.model.compressors.windows import Windows, packed_windows
from jaspertc.model.weights import Weights
from jaspertc.text.packing import PackedBatch, offsets_of
from jaspertc.types import FloatArray, IntArray

Arrays = Mapping[str, np.ndarray]


@dataclass(frozen=True)
class Cpu:
    """The only device there is."""

    type: str = "cpu"

    def __str__(self) -> str:
        return self.type


class TokenTable:
    """``FoldedTable`` in numpy: lookup and a compressor's transform, computed as tokens first occur.

    Args:
        table: shape (V, D).
        scale: of int8 rows, shape (V, 1).
        transform: (T, D) -> (T, D), row by row.
    """

    def __init__(
        self, table: np.ndarray, scale: np.ndarray | None, transform: Callable[[FloatArray], FloatArray]
    ) -> None:
        self._stored, self._scale, self._transform = table, scale, transform
        self._lock = threading.Lock()
        self._rows = np.empty(table.shape, np.float32)
        self._ready = np.zeros(len(table), dtype=bool)

    def rows(self, ids: IntArray) -> FloatArray:
        """The tokens with these ids, shape (T, D).

        Raises:
            InputError: a token id is outside the vocabulary.
        """
        check_ids(ids, len(self._rows))
        if not self._ready[ids].all():
            self._fill(ids)
        out: FloatArray = self._rows[ids]
        return out

    def _fill(self, ids: IntArray) -> None:
        with self._lock:
            missing = np.unique(ids[~self._ready[ids]])
            for rows, slots in fixed_places(missing, FOLDED_ROWS):
                values = self._stored[rows].astype(np.float32)
                if self._scale is not None:
                    values *= self._scale[rows]
                self._rows[rows[slots]] = self._transform(values)[slots]
            self._ready[missing] = True


class LightRuntime(Runtime):
    """A checkpoint computed without PyTorch. ``dtype="auto"`` is int8 where weights are, else float32.

    Args:
        engine: what has the layers.

    Raises:
        MissingExtraError: the engine is not installed, or the compressor can be computed by PyTorch only.
        InputError: another device than the CPU, an unknown dtype, or a backbone that has no graph.
        CheckpointError: a tensor is missing or has not the shape that ``config.json`` says.
    """

    device = Cpu()
    token_budget = TOKEN_BUDGET["cpu"]

    def __init__(
        self, checkpoint: Checkpoint, engine: CpuEngine, *, device: str = "auto", dtype: str = "auto"
    ) -> None:
        config = checkpoint.info.config
        self.name = engine.name
        precision = engine.check(config.backbone.kind, device, dtype)
        try:
            from threadpoolctl import ThreadpoolController
        except ImportError as error:
            raise MissingExtraError("threadpoolctl", engine.extra, "embedding without PyTorch") from error
        self.precision = precision if dtype != "auto" or checkpoint.has_int8_weights else "float32"
        self._compressor = checkpoint.compressor
        if not self._compressor.computes_in_numpy():
            raise MissingExtraError("torch", "torch", f"the compressor {config.compressor.kind!r}")
        width = config.backbone.hidden_size
        arrays = {part: _within(checkpoint.arrays, f"{part}.") for part in ("backbone", "compressor", "head")}
        table = backbone_class(config.backbone.kind).table_name
        self._compressor_weights = arrays["compressor"]
        try:
            # Products here are small: numpy's threads, which spin, would take milliseconds for microseconds.
            self._blas = ThreadpoolController().select(user_api="blas")
            self._table = TokenTable(
                _matrix(arrays["backbone"], f"{table}.weight", (config.backbone.vocab_size, width)),
                arrays["backbone"].get(f"{table}.scale"),
                self._transformed,
            )
            self._layers = engine.layers(
                config.backbone,
                Weights(arrays["backbone"]),
                precision=self.precision,
                threads=thread_count(),
            )
            self._head: FloatArray | None = None
            if config.head.dims:
                shape = (config.head.dims, width)
                self._head = np.asarray(_matrix(arrays["head"], "linear.weight", shape), np.float32)
            self._bias = np.asarray(arrays["head"].get("linear.bias", 0), np.float32)
        except (CheckpointError, KeyError, RuntimeError, ValueError) as error:
            raise CheckpointError(
                f"{checkpoint.folder} lacks a tensor, or has one of another shape than its config.json asks "
                f"for ({error})"
            ) from error
        self._pool = POOLERS[config.pooler]

    @property
    def compiles_late(self) -> bool:
        return self._layers.compiles_late

    def _transformed(self, rows: FloatArray) -> FloatArray:
        with self._blas.limit(limits=1):
            return self._compressor.transform_rows(self._compressor_weights, rows)

    def embed(self, batch: PackedBatch, targets: IntArray) -> FloatArray:
        with computing:
            rows = self._table.rows(batch.ids)
            if (targets != batch.lengths).any():
                compressor = self._compressor
                rows = _pooled(
                    rows,
                    packed_windows(
                        compressor.window_edges, batch.lengths, targets, shares=compressor.shares()
                    ),
                )
            return self._finished(rows, targets)

    def embed_rows(self, rows: Any, lengths: IntArray) -> FloatArray:
        with computing:
            return self._finished(np.asarray(rows, dtype=np.float32), lengths)

    def _finished(self, rows: FloatArray, lengths: IntArray) -> FloatArray:
        pooled = self._pool(self._layers(rows, lengths), offsets_of(lengths))
        if self._head is None:
            return pooled
        with self._blas.limit(limits=1):
            return pooled @ self._head.T + self._bias


def _pooled(rows: FloatArray, windows: Windows) -> FloatArray:
    """The (weighted) mean of each window, (T, D) -> (C, D)."""
    gathered = rows[windows.gather]
    if windows.weights is None:
        return means(gathered, windows.starts)
    out: FloatArray = np.add.reduceat(gathered * windows.weights[:, None], windows.starts)
    return out


def _within(arrays: Arrays, prefix: str) -> dict[str, np.ndarray]:
    """Those whose names begin so, without that beginning."""
    return {name.removeprefix(prefix): array for name, array in arrays.items() if name.startswith(prefix)}


def _matrix(arrays: Arrays, name: str, shape: tuple[int, int]) -> np.ndarray:
    if arrays[name].shape != shape:
        raise ValueError(f"{name} is {arrays[name].shape}, not {shape}")
    return arrays[name]
