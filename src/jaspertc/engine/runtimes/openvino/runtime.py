"""Runs an encoder's layers with OpenVINO, on the CPU."""

from jaspertc.engine.runtimes.cpu_engine import CpuEngine, CpuEngineRuntime
from jaspertc.engine.runtimes.openvino.layers import OpenVINOLayers

OPENVINO = CpuEngine(
    name="openvino",
    packages=("openvino",),
    extra="cpu",
    graph="openvino_graph",
    dtypes={"auto": "int8", "int8": "int8", "bfloat16": "bfloat16", "float32": "float32"},
    layers=OpenVINOLayers,
)


class OpenVINORuntime(CpuEngineRuntime):
    """With int8 weights and activations unless ``dtype`` says otherwise."""

    name, engine = OPENVINO.name, OPENVINO
