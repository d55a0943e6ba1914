"""What runtimes have in common whose layers another engine computes, on the CPU.

Shape legend: N texts, L tokens of one text, C compressed tokens, D model width.
"""

import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import ClassVar, Protocol

import numpy as np

from jaspertc.engine.runtimes.torch_runtime import OnTheWay, TorchRuntime
from jaspertc.errors import InputError, MissingExtraError
from jaspertc.machine import thread_count, torch_threads
from jaspertc.model.attention import PackedLayout
from jaspertc.model.backbones import BACKBONES, Backbone, backbone_class
from jaspertc.model.backbones.base import PreparedBackbone
from jaspertc.model.encoder import Encoder
from jaspertc.pytorch import Tensor, torch
from jaspertc.text.packing import PackedBatch
from jaspertc.types import FloatArray, IntArray

logger = logging.getLogger(__name__)

ALONE = 16_384  # tokens x threads up to which one thread does PyTorch's part


def means(rows: FloatArray, starts: IntArray) -> FloatArray:
    """The mean of the rows from each start to the next, shape (C, D) -> (starts, D)."""
    sizes = np.diff(np.append(starts, len(rows)))
    out: FloatArray = np.add.reduceat(rows, starts)
    out /= sizes[:, None]
    return out


POOLERS: dict[str, Callable[[FloatArray, IntArray], FloatArray]] = {
    "mean": lambda states, offsets: means(states, offsets[:-1]),
    "last": lambda states, offsets: states[offsets[1:] - 1],
    "first": lambda states, offsets: states[offsets[:-1]],
}


class EngineLayers(Protocol):
    """Layers in an engine.

    Attributes:
        threads: what they are computed with; an engine that has threads of its own does not read it.
        compiles_late: whether nothing is compiled before it is needed.
    """

    threads: int
    compiles_late: bool

    def __call__(self, x: FloatArray, lengths: IntArray) -> FloatArray:
        """Token embeddings after compression, shape (C, D) -> last hidden states, shape (C, D).

        Args:
            lengths: compressed tokens of each text, shape (N,), which add up to C.
        """


@dataclass(frozen=True, kw_only=True)
class CpuEngine:
    """An engine beside PyTorch.

    Attributes:
        name: the runtime's.
        packages: what is imported.
        extra: of this package, which brings them.
        graph: the attribute of ``Backbone`` that names the module with its layers.
        dtypes: those to choose from, and what each computes in.
        layers: from a backbone's config, its weights (``model.weights``), ``precision`` and ``threads``.
    """

    name: str
    packages: tuple[str, ...]
    extra: str
    graph: str
    dtypes: Mapping[str, str]
    layers: Callable[..., EngineLayers]

    def can_compute(self, kind: str) -> bool:
        """Whether it is installed and has this kind of backbone."""
        has_graph = getattr(backbone_class(kind), self.graph) is not None
        return has_graph and all(find_spec(package) is not None for package in self.packages)

    def check_names(self, device: str, dtype: str) -> None:
        """Raise InputError for another device than the CPU, or an unknown dtype."""
        if device not in ("auto", "cpu"):
            raise InputError(f"device is {device!r}, the runtime {self.name!r} has 'cpu' only; use 'torch'")
        if dtype not in self.dtypes:
            raise InputError(f"dtype is {dtype!r}, the runtime {self.name!r} has {', '.join(self.dtypes)}")

    def check(self, kind: str, device: str, dtype: str) -> str:
        """What it computes this kind of backbone in.

        Raises:
            MissingExtraError: the engine is not installed.
            InputError: another device than the CPU, an unknown dtype, or a backbone that has no graph.
        """
        self.check_names(device, dtype)
        if getattr(backbone_class(kind), self.graph) is None:
            known = ", ".join(name for name, cls in BACKBONES.items() if getattr(cls, self.graph))
            raise InputError(f"the runtime {self.name!r} has layers of {known}, not of {kind!r}; use 'torch'")
        for package in self.packages:
            try:
                found = import_module(package)
            except ImportError as error:
                raise MissingExtraError(package, self.extra, f"the runtime {self.name!r}") from error
            logger.info("runtime: %s %s on the CPU", package, found.__version__)
        return self.dtypes[dtype]


class EngineBackbone(PreparedBackbone):
    """Another backbone's layers in an engine."""

    def __init__(self, backbone: Backbone, layers: EngineLayers) -> None:
        super().__init__(backbone)
        self.layers = layers

    def forward(self, x: Tensor, layout: PackedLayout) -> Tensor:
        """Token embeddings after compression, shape (C, D) -> last hidden states, shape (C, D)."""
        return torch.from_numpy(self.layers(x.numpy(), layout.lengths))


class CpuEngineRuntime(TorchRuntime):
    """Vectors from packed batches: an engine has the layers, PyTorch lookup, compression and pooling.

    Raises:
        MissingExtraError, InputError: as ``CpuEngine.check``.
    """

    engine: ClassVar[CpuEngine]

    def __init__(self, encoder: Encoder, *, device: str = "auto", dtype: str = "auto") -> None:
        self._layers_in = self.engine.check(encoder.config.backbone.kind, device, dtype)
        super().__init__(encoder, device="cpu", dtype="float32")
        self.precision = self._layers_in

    def _prepare_layers(self) -> None:
        """The encoder itself gets other layers, so that the memory of its own can be freed."""
        backbone, threads = self.encoder.backbone, thread_count()
        layers = self.engine.layers(backbone.config, backbone, precision=self._layers_in, threads=threads)
        self.encoder.backbone = EngineBackbone(backbone, layers)

    @property
    def compiles_late(self) -> bool:
        backbone = self.encoder.backbone
        return isinstance(backbone, EngineBackbone) and backbone.layers.compiles_late

    def _start(self, batch: PackedBatch, targets: IntArray) -> OnTheWay:
        with self._computing():
            threads = thread_count()  # one in a forked process, from here on
            few = len(batch.ids) * threads <= ALONE
            if isinstance(self.encoder.backbone, EngineBackbone):
                self.encoder.backbone.layers.threads = threads  # and not one, which PyTorch has below
            with torch_threads(1 if few else threads):
                return super()._start(batch, targets)

    def embed_one(self, ids: IntArray) -> FloatArray:
        """Without what only many texts need: for a query, that takes as long as two layers."""
        encoder = self.encoder
        if not (isinstance(encoder.backbone, EngineBackbone) and encoder.compressor.averages_windows()):
            return super().embed_one(ids)
        with self._computing(), torch.inference_mode():
            layers = encoder.backbone.layers
            layers.threads = thread_count()
            states = layers(encoder.rows(ids), np.array([len(ids)], dtype=np.int64))
            pooled = POOLERS[encoder.config.pooler](states, np.array([0, len(ids)]))
            if encoder.head.is_small:
                return encoder.head.of_array(pooled)
            with torch_threads(1):
                vectors: FloatArray = encoder.head(torch.from_numpy(pooled)).numpy()
        return vectors
