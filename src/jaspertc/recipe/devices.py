"""What devices compute, and what share of it such work reaches. Each number says where it is from."""

import time
from dataclasses import dataclass

import torch

from jaspertc.errors import InputError
from jaspertc.machine import computes_bfloat16

HERE = "here"


@dataclass(frozen=True, kw_only=True)
class Device:
    """A kind of GPU.

    Args:
        peak: FLOP/s of dense bfloat16 matrix products, as the maker states it.
        gib: its memory.
        embedding: share of ``peak`` that embedding reaches, FLOPs counted as ``model.cost`` does.
        training: likewise a training step.
        source: where these are from.
    """

    name: str
    peak: float
    gib: float
    embedding: float = 0.4
    training: float = 0.35
    source: str


_PEAK = "peak, dense bfloat16: NVIDIA's data sheet"
_AMPERE = "shares: our estimate below PaLM's 46 % (arXiv 2204.02311), for short rows and small models"
_HOPPER = "shares: our estimate below the 38 to 43 % of Llama 3 on H100 (arXiv 2407.21783)"

DEVICES: dict[str, Device] = {
    "a100": Device(name="a100", peak=312e12, gib=80, source=f"{_PEAK}; {_AMPERE}"),
    "h100": Device(
        name="h100", peak=989e12, gib=80, embedding=0.35, training=0.3, source=f"{_PEAK} (SXM); {_HOPPER}"
    ),
    "h200": Device(
        name="h200", peak=989e12, gib=141, embedding=0.35, training=0.3, source=f"{_PEAK} (SXM); {_HOPPER}"
    ),
    "l4": Device(name="l4", peak=121e12, gib=24, source=f"{_PEAK}; {_AMPERE}"),
    "l40s": Device(name="l40s", peak=362e12, gib=48, source=f"{_PEAK}; {_AMPERE}"),
    "rtx4090": Device(name="rtx4090", peak=165e12, gib=24, source=f"{_PEAK} (float32 sums); {_AMPERE}"),
}
# Of the speed of matrix products measured on the spot, not of a stated peak: hence higher than a GPU's.
HERE_EMBEDDING, HERE_TRAINING = 0.5, 0.4


def find_device(kind: str) -> Device | None:
    """The device of a kind; ``None`` for this machine, which is measured.

    Raises:
        InputError: there is none of that name.
    """
    if kind == HERE:
        return None
    if kind.lower() not in DEVICES:
        raise InputError(f"--kind is {kind!r}, it must be {HERE} or one of {', '.join(DEVICES)}")
    return DEVICES[kind.lower()]


def measured_dtype() -> torch.dtype:
    """What training and teachers compute in here where a recipe says bfloat16."""
    return torch.bfloat16 if computes_bfloat16(_first_device()) else torch.float32


def measured_speed(seconds: float = 0.5, dtype: torch.dtype | None = None) -> float:
    """FLOP/s of matrix products of a type, by default ``measured_dtype``, on this machine's first device."""
    device, dtype = _first_device(), dtype or measured_dtype()
    x = torch.randn(2048, 1024, dtype=dtype, device=device)
    w = torch.randn(1024, 1024, dtype=dtype, device=device)
    (x @ w).sum().item()
    products, started = 0, time.perf_counter()
    while time.perf_counter() - started < seconds:
        (x @ w).sum().item()
        products += 1
    return products * 2 * x.shape[0] * w.shape[0] * w.shape[1] / (time.perf_counter() - started)


def _first_device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"
