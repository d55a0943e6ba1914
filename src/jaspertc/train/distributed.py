"""Several training processes, over ``torch.distributed``."""

from collections.abc import Sequence

import torch
import torch.distributed as dist
from torch import Tensor


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
