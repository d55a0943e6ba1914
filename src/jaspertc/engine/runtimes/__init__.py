"""What can compute an encoder. A new runtime: a class like ``TorchRuntime`` and a line in ``RUNTIMES``."""

import logging
from importlib.util import find_spec

import numpy as np

from jaspertc.checkpoint import Checkpoint
from jaspertc.engine.runtimes.base import Runtime
from jaspertc.engine.runtimes.choosing import remembered
from jaspertc.engine.runtimes.light import LightRuntime
from jaspertc.engine.runtimes.onnx_runtime import ONNX_RUNTIME, OnnxRuntime
from jaspertc.engine.runtimes.openvino.runtime import OPENVINO, OpenVINORuntime
from jaspertc.engine.runtimes.torch_runtime import TorchRuntime, check_dtype, choose_device
from jaspertc.errors import InputError, MissingExtraError
from jaspertc.model.backbones import backbone_class
from jaspertc.model.int8 import dequantize
from jaspertc.pytorch import HAS_TORCH, torch
from jaspertc.text.packing import pack

logger = logging.getLogger(__name__)

RUNTIMES: dict[str, type[TorchRuntime]] = {
    runtime.name: runtime for runtime in (TorchRuntime, OpenVINORuntime, OnnxRuntime)
}
ENGINES = {engine.name: engine for engine in (OPENVINO, ONNX_RUNTIME)}


def check_names(name: str, *, device: str, dtype: str) -> None:
    """Refuse what ``build_runtime`` would refuse for any model; this takes no memory of a GPU.

    Raises:
        InputError: the runtime is unknown, or has not this device or dtype.
    """
    if name != "auto":
        _check_known(name)
    if name in ENGINES:
        ENGINES[name].check_names(device, dtype)
    elif HAS_TORCH:
        if name == "torch" or dtype != "int8":
            check_dtype(dtype)
        if not (device.startswith("cuda") and torch.cuda.is_available()):
            choose_device(device)


def build_runtime(name: str, checkpoint: Checkpoint, *, device: str, dtype: str) -> Runtime:
    """A runtime for a checkpoint's encoder.

    Args:
        name: of ``RUNTIMES``. ``auto``, on a CPU where no dtype is asked for, is the fastest of what
            ``measure_runtimes`` has measured here for this model. Where nothing was measured, it is
            ``openvino`` for int8 weights on a CPU where OpenVINO is installed, else ``torch``.

    Raises:
        InputError: the runtime is unknown, or has not this device or dtype.
        MissingExtraError: the runtime's package is not installed.
    """
    on_cpu = device == "cpu" or (device == "auto" and not (HAS_TORCH and torch.cuda.is_available()))
    measured = remembered(checkpoint) if name == "auto" and on_cpu and dtype == "auto" else None
    if measured is not None:
        name, dtype = measured.fastest.runtime, measured.fastest.dtype
    if not HAS_TORCH:
        return _light_runtime(name, checkpoint, device=device, dtype=dtype)
    if name == "auto":
        backbone = backbone_class(checkpoint.info.config.backbone.kind)
        has_graph = backbone.openvino_graph is not None
        quantized = on_cpu and dtype in ("auto", "int8") and has_graph and checkpoint.has_int8_weights
        name = "openvino" if quantized and find_spec("openvino") is not None else "torch"
        if quantized and name == "torch":
            logger.info("int8 weights, computed in float32; for int8: pip install 'jaspertc[cpu]'")
    _check_known(name)
    encoder = checkpoint.encoder
    if name == "torch" or dtype in ("bfloat16", "float32"):
        dequantize(encoder)
    if name != "openvino" or checkpoint.mapped is None:
        return RUNTIMES[name](encoder, device=device, dtype=dtype)
    with checkpoint.mapped.releasing():
        return _laid_out(RUNTIMES[name](encoder, device=device, dtype=dtype))


def _check_known(name: str) -> None:
    if not isinstance(name, str) or name not in RUNTIMES:
        raise InputError(f"runtime is {name!r}, it must be auto or one of {', '.join(RUNTIMES)}")


def _light_runtime(name: str, checkpoint: Checkpoint, *, device: str, dtype: str) -> Runtime:
    """Where PyTorch is not installed. ``auto`` is OpenVINO, or ONNX Runtime where only that is installed."""
    if name == "auto":
        kind = checkpoint.info.config.backbone.kind
        here = [engine.name for engine in ENGINES.values() if engine.can_compute(kind)]
        name = here[0] if here else OPENVINO.name
    if not isinstance(name, str) or name not in ENGINES:
        raise MissingExtraError("torch", "torch", f"the runtime {name!r}")
    assert checkpoint.mapped is not None, "so it was loaded"
    with checkpoint.mapped.releasing():
        return _laid_out(LightRuntime(checkpoint, ENGINES[name], device=device, dtype=dtype))


def _laid_out(runtime: Runtime) -> Runtime:
    """The runtime after a first call, in which OpenVINO lays out a copy of large layers' weights."""
    if runtime.compiles_late:
        return runtime
    one = np.ones(1, dtype=np.int64)
    runtime.embed(pack([one - 1]), one)
    return runtime
