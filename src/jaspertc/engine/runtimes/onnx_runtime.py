"""Runs an encoder's layers with ONNX Runtime, on the CPU; lookup, compression and pooling stay in PyTorch.

Shape legend: C compressed tokens, D model width.
"""

import logging
import os
from importlib.util import find_spec

from jaspertc.engine.processes import Computing
from jaspertc.engine.runtimes.openvino.runtime import ALONE, torch_threads
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

DTYPES = ("auto", "int8", "float32")


class OnnxBackbone(PreparedBackbone):
    """Another backbone's layers in ONNX Runtime; see ``OnnxLayers``."""

    def __init__(self, backbone: Backbone, precision: str) -> None:
        from jaspertc.engine.runtimes.onnx_layers import OnnxLayers

        super().__init__(backbone)
        self.layers = OnnxLayers(backbone, precision=precision, threads=torch.get_num_threads())

    def forward(self, x: Tensor, layout: PackedLayout) -> Tensor:
        """Token embeddings after compression, shape (C, D) -> last hidden states, shape (C, D)."""
        return torch.from_numpy(self.layers(x.numpy(), layout.lengths))


class OnnxRuntime(TorchRuntime):
    """Vectors from packed batches, with int8 weights and activations unless ``dtype`` says otherwise.

    Raises:
        MissingExtraError: ONNX Runtime or onnx is not installed.
        InputError: another device than the CPU, an unknown dtype, or a backbone that has no graph.
    """

    name = "onnxruntime"

    def __init__(self, encoder: Encoder, *, device: str = "auto", dtype: str = "auto") -> None:
        kind = encoder.config.backbone.kind
        if device not in ("auto", "cpu"):
            raise InputError(f"device is {device!r}, the runtime {self.name!r} has 'cpu' only; use 'torch'")
        if dtype not in DTYPES:
            raise InputError(f"dtype is {dtype!r}, the runtime {self.name!r} has {', '.join(DTYPES)}")
        if backbone_class(kind).export_graph is None:
            known = ", ".join(name for name, cls in BACKBONES.items() if cls.export_graph)
            raise InputError(f"the runtime {self.name!r} has layers of {known}, not of {kind!r}; use 'torch'")
        for package in ("onnxruntime", "onnx"):
            if find_spec(package) is None:
                raise MissingExtraError(package, "export", f"the runtime {self.name!r}")
        self._threads = torch.get_num_threads()
        self._layers_in = "int8" if dtype == "auto" else dtype
        super().__init__(encoder, device="cpu", dtype="float32")
        self.precision = self._layers_in
        logger.info("runtime: onnxruntime on the CPU, %s", self.precision)

    def _prepare_layers(self) -> None:
        """The encoder itself gets other layers, so that the memory of its own can be freed."""
        self.encoder.backbone = OnnxBackbone(self.encoder.backbone, self._layers_in)

    def _computing(self) -> Computing:
        """Raise InputError where a fork has cut off the session's threads."""
        if self._threads > 1 and self._process != os.getpid():
            raise InputError(
                "this process was forked from one that uses ONNX Runtime, whose threads it lacks; start "
                "processes with multiprocessing.get_context(\"spawn\"), or load with runtime='openvino'"
            )
        return super()._computing()

    def _start(self, batch: PackedBatch, targets: IntArray) -> OnTheWay:
        with self._computing():
            threads = torch.get_num_threads()
            with torch_threads(1 if len(batch.ids) * threads <= ALONE else threads):
                return super()._start(batch, targets)
