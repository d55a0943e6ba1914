"""Runs an encoder's layers with OpenVINO, on the CPU."""

from jaspertc.engine.runtimes.cpu_engine import CpuEngine, CpuEngineRuntime, EngineBackbone, EngineLayers
from jaspertc.engine.runtimes.openvino.layers import OpenVINOLayers
from jaspertc.model.backbones import Backbone
from jaspertc.pytorch import torch

OPENVINO = CpuEngine(
    name="openvino",
    packages=("openvino",),
    extra="cpu",
    graph="openvino_graph",
    dtypes={"auto": "int8", "int8": "int8", "bfloat16": "bfloat16", "float32": "float32"},
)


class OpenVINORuntime(CpuEngineRuntime):
    """With int8 weights and activations unless ``dtype`` says otherwise."""

    name, engine = OPENVINO.name, OPENVINO

    @property
    def compiles_late(self) -> bool:
        backbone = self.encoder.backbone
        return isinstance(backbone, EngineBackbone) and getattr(backbone.layers, "is_small", False)

    @staticmethod
    def layers(backbone: Backbone, precision: str) -> EngineLayers:
        threads = torch.get_num_threads()
        return OpenVINOLayers(backbone.config, backbone, precision=precision, threads=threads)
