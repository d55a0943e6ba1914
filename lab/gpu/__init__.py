"""Runtimes for GPUs that have never run on one: kept here until they prove their worth."""

from jaspertc.engine.runtimes import RUNTIMES
from jaspertc.engine.runtimes.torch_runtime import TorchRuntime
from lab.gpu.compiled import CompiledRuntime
from lab.gpu.graphs import GraphsRuntime

GPU_RUNTIMES: dict[str, type[TorchRuntime]] = {"compiled": CompiledRuntime, "graphs": GraphsRuntime}


def register() -> None:
    """Let ``Embedder.load(runtime=...)`` find them."""
    RUNTIMES.update(GPU_RUNTIMES)
