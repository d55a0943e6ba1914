"""Runs an encoder's layers with ONNX Runtime, on the CPU."""

import os

from jaspertc.engine.processes import Computing
from jaspertc.engine.runtimes.cpu_engine import CpuEngine, CpuEngineRuntime, EngineLayers
from jaspertc.errors import InputError
from jaspertc.model.backbones import Backbone
from jaspertc.model.encoder import Encoder
from jaspertc.pytorch import torch

ONNX_RUNTIME = CpuEngine(
    name="onnxruntime",
    packages=("onnxruntime", "onnx"),
    extra="export",
    graph="export_graph",
    dtypes={"auto": "int8", "int8": "int8", "float32": "float32"},
)


class OnnxRuntime(CpuEngineRuntime):
    """With int8 weights and activations unless ``dtype`` says otherwise."""

    name, engine = ONNX_RUNTIME.name, ONNX_RUNTIME

    def __init__(self, encoder: Encoder, *, device: str = "auto", dtype: str = "auto") -> None:
        self._threads = torch.get_num_threads()
        super().__init__(encoder, device=device, dtype=dtype)

    @staticmethod
    def layers(backbone: Backbone, precision: str) -> EngineLayers:
        from jaspertc.engine.runtimes.onnx_layers import OnnxLayers  # needs the extra

        return OnnxLayers(backbone, precision=precision, threads=torch.get_num_threads())

    def _computing(self) -> Computing:
        """Raise InputError where a fork has cut off the session's threads."""
        if self._threads > 1 and self._process != os.getpid():
            raise InputError(
                "this process was forked from one that uses ONNX Runtime, whose threads it lacks; start "
                "processes with multiprocessing.get_context(\"spawn\"), or load with runtime='openvino'"
            )
        return super()._computing()
