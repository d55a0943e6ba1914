"""What can compute an encoder. A new runtime: a class like ``TorchRuntime`` and a line in ``RUNTIMES``."""

from importlib.util import find_spec

import torch

from jaspertc.checkpoint import Checkpoint
from jaspertc.engine.openvino_runtime import OpenVINORuntime
from jaspertc.engine.torch_runtime import TorchRuntime
from jaspertc.errors import InputError

RUNTIMES: dict[str, type[TorchRuntime]] = {"torch": TorchRuntime, "openvino": OpenVINORuntime}


def build_runtime(name: str, checkpoint: Checkpoint, *, device: str, dtype: str) -> TorchRuntime:
    """A runtime for a checkpoint's encoder.

    Args:
        name: of ``RUNTIMES``; ``auto`` is ``openvino`` for int8 weights on a CPU where OpenVINO is
            installed and no dtype is asked for, else ``torch``.

    Raises:
        InputError: the runtime is unknown, or has not this device or dtype.
        MissingExtraError: the runtime's package is not installed.
    """
    if name == "auto":
        on_cpu = device == "cpu" or (device == "auto" and not torch.cuda.is_available())
        quantized = on_cpu and dtype in ("auto", "int8") and checkpoint.has_int8_weights
        name = "openvino" if quantized and find_spec("openvino") is not None else "torch"
    if not isinstance(name, str) or name not in RUNTIMES:
        raise InputError(f"runtime is {name!r}, it must be auto or one of {', '.join(RUNTIMES)}")
    return RUNTIMES[name](checkpoint.encoder, device=device, dtype=dtype)
