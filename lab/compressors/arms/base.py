"""What these compressors share: texts that keep all tokens are left alone, sums over windows without overlap.

Shape legend: T tokens, C compressed tokens, N texts, D width.
"""

import numpy as np
import torch
from torch import Tensor

from jaspertc.model.compressors.disjoint import DisjointAverage
from jaspertc.model.compressors.lookup import TokenRows
from jaspertc.model.compressors.windows import Windows
from jaspertc.text.packing import PackedBatch
from jaspertc.types import IntArray


class Arm(DisjointAverage):
    """Disjoint windows; what becomes of their tokens is ``combined``."""

    def combined(self, x: Tensor, batch: PackedBatch, windows: Windows) -> Tensor:
        """Tokens (T, D) to one row a window, (C, D)."""
        raise NotImplementedError

    def forward(self, rows: TokenRows, batch: PackedBatch, targets: IntArray) -> Tensor:
        x = rows.each()
        whole = targets == batch.lengths
        if whole.all():
            return x
        out = self.combined(x, batch, self.windows(batch, targets))
        if not whole.any():
            return out
        of_window, of_token = (torch.from_numpy(np.repeat(whole, each)) for each in (targets, batch.lengths))
        out = out.clone()
        out[of_window.to(x.device)] = x[of_token.to(x.device)]
        return out


def window_of(windows: Windows, device: torch.device) -> Tensor:
    """The window of each token, shape (T,)."""
    sizes = np.diff(np.append(windows.starts, len(windows.gather)))
    return torch.from_numpy(np.repeat(np.arange(len(sizes)), sizes)).to(device)


def summed(x: Tensor, window: Tensor) -> Tensor:
    """(T, n) -> (C, n)."""
    out = x.new_zeros(int(window[-1]) + 1, x.shape[1])
    return out.index_add(0, window, x)


def averaged(x: Tensor, window: Tensor) -> Tensor:
    """(T, n) -> (C, n)."""
    return summed(x, window) / summed(torch.ones_like(x[:, :1]), window)
