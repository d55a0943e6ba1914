"""Several training processes, over ``torch.distributed``."""

import os
from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor

from jaspertc.errors import ConfigError, MissingExtraError
from jaspertc.train.step import Alone, Processes


class TorchProcesses:
    """The processes of the group that ``torch.distributed.init_process_group`` has made."""

    def __init__(self) -> None:
        self.rank = dist.get_rank()
        self.count = dist.get_world_size()

    def gather(self, rows: Tensor) -> Tensor:
        """Rows of all processes in order of rank; numbers of rows may differ."""
        sizes = torch.zeros(self.count, dtype=torch.int64, device=rows.device)
        sizes[self.rank] = len(rows)
        dist.all_reduce(sizes)
        most = int(sizes.max())
        padded = torch.zeros(most, rows.shape[1], dtype=rows.dtype, device=rows.device)
        padded[: len(rows)] = rows
        everyone = [torch.empty_like(padded) for _ in range(self.count)]
        dist.all_gather(everyone, padded)
        return torch.cat([part[: int(size)] for part, size in zip(everyone, sizes)])

    def add(self, tensors: Sequence[Tensor]) -> None:
        """Sum over processes, in place, in one message."""
        flat = torch.cat([tensor.reshape(-1) for tensor in tensors])
        dist.all_reduce(flat)
        for tensor, part in zip(tensors, torch.split(flat, [tensor.numel() for tensor in tensors])):
            tensor.copy_(part.view_as(tensor))

    def wait(self) -> None:
        """Return when every process has come here."""
        dist.barrier()


def start_processes(device: str) -> tuple[Processes, str]:
    """Join the processes that ``accelerate launch`` or ``torchrun`` started; or be alone.

    Args:
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Returns:
        The processes, and this one's device.

    Raises:
        MissingExtraError: there are several and accelerate is not installed.
        ConfigError: the device is not there.
    """
    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ConfigError(f"[training] device is {device!r} but CUDA is not available; use auto or cpu")
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        try:
            from accelerate import PartialState
        except ImportError as error:
            raise MissingExtraError("accelerate", "train", "training in several processes") from error
        state = PartialState(cpu=device == "cpu")
        return TorchProcesses(), str(state.device)
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "cpu"
    return Alone(), device
