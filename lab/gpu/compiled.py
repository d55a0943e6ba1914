"""Runs an encoder with PyTorch, what lies between matrix products fused by its compiler.

Norms, rotary positions and gates are each several passes over memory in PyTorch, and one when compiled. That
takes the compiler's time at the first text, and a C++ compiler (CPU) or Triton (GPU).

Shape legend: C compressed tokens, W width of a head.
"""

from collections.abc import Callable
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from jaspertc.engine.runtimes.torch_runtime import TorchRuntime
from jaspertc.errors import InputError
from jaspertc.model.backbones.qwen3 import PreparedLayer, PreparedQwen3, Qwen3Backbone, norm, rms_norm
from jaspertc.model.products import Product
from jaspertc.text.packing import pack

Stage = Callable[..., Tensor]


def compiled(stage: Stage) -> Stage:
    """``stage``, compiled once for all numbers of tokens."""
    return cast(Stage, torch.compile(stage, dynamic=True, fullgraph=True))


def compiled_layers() -> type[PreparedQwen3]:
    """``PreparedQwen3`` with what lies between its products in forms that PyTorch compiles."""
    one_norm, one_turn, one_gate = (compiled(stage) for stage in (norm, _turn, _gate))

    def turn(qk: Tensor, weight: Tensor, eps: float, turns: Tensor, dtype: torch.dtype) -> Tensor:
        return one_turn(qk, weight, eps, torch.view_as_real(turns), dtype)

    def gate(y: Tensor, gate: Product, up: Product) -> Tensor:
        return one_gate(gate(y), up(y))

    layer = type(
        "CompiledLayer",
        (PreparedLayer,),
        {"norm": staticmethod(one_norm), "turn": staticmethod(turn), "gate": staticmethod(gate)},
    )
    return cast(type[PreparedQwen3], type("CompiledQwen3", (PreparedQwen3,), {"layer_class": layer}))


def _turn(qk: Tensor, weight: Tensor, eps: float, turns: Tensor, dtype: torch.dtype) -> Tensor:
    """``qwen3.turn`` without complex numbers, which are not compiled; turns: (C, 1, W / 2, 2)."""
    low, high = rms_norm(qk, weight, eps).view(*qk.shape[:2], -1, 2).unbind(-1)
    cos, sin = turns.unbind(-1)
    return torch.stack((low * cos - high * sin, low * sin + high * cos), -1).flatten(-2).to(dtype)


def _gate(x: Tensor, up: Tensor) -> Tensor:
    return F.silu(x) * up


class CompiledRuntime(TorchRuntime):
    """Vectors from packed batches.

    Raises:
        InputError: the layers are not Qwen3's, or PyTorch's compiler does not work here.
    """

    name = "compiled"

    def _prepare_layers(self) -> None:
        backbone = self.encoder.backbone
        if not isinstance(backbone, Qwen3Backbone):
            raise InputError(
                f"the runtime 'compiled' has only layers of 'qwen3', not of "
                f"{backbone.config.kind!r}; use 'torch'"
            )
        self.encoder = self.encoder.with_backbone(compiled_layers()(backbone))
        try:
            for count in (2, 3):  # the second number of tokens shows the compiler that it varies
                self.embed(pack([np.zeros(count, dtype=np.int64)]), np.array([count]))
        except Exception as error:
            if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor", "triton")):
                raise
            reason = str(error).strip().splitlines()[0]
            raise InputError(f"PyTorch cannot compile here ({reason}); use runtime='torch'") from error
