"""Runs an encoder's layers with ONNX Runtime, on the CPU."""

from typing import Any

from jaspertc.config import BackboneConfig
from jaspertc.engine.runtimes.cpu_engine import CpuEngine, CpuEngineRuntime, EngineLayers


def _layers(config: BackboneConfig, weights: Any, *, precision: str, threads: int) -> EngineLayers:
    from jaspertc.engine.runtimes.onnx_layers import OnnxLayers  # needs the extra

    return OnnxLayers(config, weights, precision=precision, threads=threads)


ONNX_RUNTIME = CpuEngine(
    name="onnxruntime",
    packages=("onnxruntime", "onnx"),
    extra="onnx",
    graph="export_graph",
    dtypes={"auto": "int8", "int8": "int8", "float32": "float32"},
    layers=_layers,
)


class OnnxRuntime(CpuEngineRuntime):
    """With int8 weights and activations unless ``dtype`` says otherwise."""

    name, engine = ONNX_RUNTIME.name, ONNX_RUNTIME
