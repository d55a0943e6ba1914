"""From host arrays to a device, without waiting for it."""

from typing import Any

import numpy.typing as npt

from jaspertc.pytorch import Tensor, torch


def to_device(array: npt.NDArray[Any], device: torch.device) -> Tensor:
    """The array on ``device``. To CUDA it goes through pinned memory, so that the host does not wait; PyTorch
    keeps that memory until the copy is done."""
    tensor = torch.from_numpy(array)
    if device.type == "cuda":
        tensor = tensor.pin_memory()
    return tensor.to(device, non_blocking=True)
