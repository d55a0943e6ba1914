"""Runs an encoder's layers with OpenVINO, on the CPU; lookup, compression and pooling stay in PyTorch.

Shape legend: C compressed tokens, D model width.
"""

import logging
from collections.abc import Iterator
from contextlib import contextmanager

from jaspertc.engine.runtimes.openvino.layers import OpenVINOLayers
from jaspertc.engine.runtimes.torch_runtime import OnTheWay, TorchRuntime
from jaspertc.errors import InputError, MissingExtraError
from jaspertc.model.attention import PackedLayout
from jaspertc.model.backbones import BACKBONES, Backbone, backbone_class
from jaspertc.model.backbones.base import PreparedBackbone
from jaspertc.model.encoder import Encoder
from jaspertc.pytorch import Tensor, torch
from jaspertc.text.packing import PackedBatch
from jaspertc.types import IntArray

logger = logging.getLogger(__name__)

DTYPES = {"auto": "int8", "int8": "int8", "bfloat16": "bfloat16", "float32": "float32"}
ALONE = 16_384  # tokens x threads up to which one thread does PyTorch's part


class OpenVINOBackbone(PreparedBackbone):
    """Another backbone's layers, compiled; see ``OpenVINOLayers``."""

    def __init__(self, backbone: Backbone, precision: str) -> None:
        super().__init__(backbone)
        threads = torch.get_num_threads()
        self.layers = OpenVINOLayers(self.config, backbone, precision=precision, threads=threads)

    def forward(self, x: Tensor, layout: PackedLayout) -> Tensor:
        """Token embeddings after compression, shape (C, D) -> last hidden states, shape (C, D)."""
        return torch.from_numpy(self.layers(x.numpy(), layout.lengths))


class OpenVINORuntime(TorchRuntime):
    """Vectors from packed batches, with int8 weights and activations unless ``dtype`` says otherwise.

    Raises:
        MissingExtraError: OpenVINO is not installed.
        InputError: another device than the CPU, an unknown dtype, or a backbone that has no graph.
    """

    name = "openvino"

    def __init__(self, encoder: Encoder, *, device: str = "auto", dtype: str = "auto") -> None:
        check_openvino(encoder.config.backbone.kind, device, dtype)
        self._layers_in = DTYPES[dtype]
        super().__init__(encoder, device="cpu", dtype="float32")
        self.precision = self._layers_in

    def _prepare_layers(self) -> None:
        """The encoder itself gets other layers, so that the memory of its own can be freed."""
        self.encoder.backbone = OpenVINOBackbone(self.encoder.backbone, self._layers_in)

    def _start(self, batch: PackedBatch, targets: IntArray) -> OnTheWay:
        with self._computing():
            threads = torch.get_num_threads()  # one in a forked process, from here on
            few = len(batch.ids) * threads <= ALONE
            if isinstance(self.encoder.backbone, OpenVINOBackbone):
                self.encoder.backbone.layers.threads = threads  # and not one, which PyTorch has below
            with torch_threads(1 if few else threads):
                return super()._start(batch, targets)


def check_openvino(kind: str, device: str, dtype: str) -> None:
    """Whether OpenVINO is here and has this kind of backbone, device and dtype.

    Raises:
        MissingExtraError: OpenVINO is not installed.
        InputError: one of the three is not had.
    """
    if device not in ("auto", "cpu"):
        raise InputError(f"device is {device!r}, the runtime 'openvino' has 'cpu' only; use runtime='torch'")
    if dtype not in DTYPES:
        raise InputError(f"dtype is {dtype!r}, the runtime 'openvino' has {', '.join(DTYPES)}")
    if backbone_class(kind).openvino_graph is None:
        known = ", ".join(name for name, cls in BACKBONES.items() if cls.openvino_graph)
        raise InputError(f"the runtime 'openvino' has layers of {known}, not of {kind!r}; use 'torch'")
    try:
        import openvino
    except ImportError as error:
        raise MissingExtraError("openvino", "cpu", "the runtime 'openvino'") from error
    logger.info("runtime: openvino %s on the CPU, %s", openvino.__version__, DTYPES[dtype])


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """PyTorch on so many threads: idle ones spin for milliseconds, on cores that OpenVINO needs by then."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
