"""Sums over windows that share no token.

Shape legend: T tokens, C compressed tokens.
"""

import numpy as np
import torch
from torch import Tensor

from jaspertc.model.compressors.windows import Windows


def window_of(windows: Windows, device: torch.device) -> Tensor:
    """The window of each token of a partition, shape (T,)."""
    sizes = np.diff(np.append(windows.starts, len(windows.gather)))
    return torch.from_numpy(np.repeat(np.arange(len(sizes)), sizes)).to(device)


def summed(x: Tensor, window: Tensor) -> Tensor:
    """(T, n) -> (C, n)."""
    out = x.new_zeros(int(window[-1]) + 1, x.shape[1])
    return out.index_add(0, window, x)


def averaged(x: Tensor, window: Tensor) -> Tensor:
    """(T, n) -> (C, n)."""
    return summed(x, window) / summed(torch.ones_like(x[:, :1]), window)
