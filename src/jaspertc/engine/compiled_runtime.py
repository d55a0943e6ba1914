"""Runs an encoder with PyTorch, what lies between matrix products fused by its compiler.

Norms, rotary positions and gates are each several passes over memory in PyTorch, and one when compiled. That
takes the compiler's time at the first text, and a C++ compiler (CPU) or Triton (GPU).

Shape legend: C compressed tokens, D model width, H heads of queries and keys, W their width, I inner width.
"""

from collections.abc import Callable
from typing import cast

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from jaspertc.engine.torch_layers import ReadyQwen3, ReadyQwen3Layer, rms_norm
from jaspertc.engine.torch_runtime import TorchRuntime
from jaspertc.errors import InputError
from jaspertc.model.attention import PackedLayout, attention
from jaspertc.model.backbones.base import Backbone
from jaspertc.text.packing import pack

Stage = Callable[..., Tensor]


def norm(x: Tensor, weight: Tensor, eps: float) -> Tensor:
    """RMSNorm in float32, rounded once: (C, D) -> (C, D)."""
    return rms_norm(x, weight, eps).to(x.dtype)


def turn(qk: Tensor, weight: Tensor, eps: float, turns: Tensor, dtype: torch.dtype) -> Tensor:
    """Queries and keys, normalised and turned to their positions: (C, H, W) -> (C, H, W).

    Args:
        weight: shape (H, W).
        turns: cosines and sines, shape (C, 1, W / 2, 2); they turn neighbouring components.
    """
    low, high = rms_norm(qk, weight, eps).view(*qk.shape[:2], -1, 2).unbind(-1)
    cos, sin = turns.unbind(-1)
    return torch.stack((low * cos - high * sin, low * sin + high * cos), -1).flatten(-2).to(dtype)


def gate(x: Tensor, up: Tensor) -> Tensor:
    """SwiGLU's middle: twice (C, I) -> (C, I)."""
    return F.silu(x) * up


def compiled(stage: Stage) -> Stage:
    """``stage``, compiled once for all numbers of tokens."""
    return cast(Stage, torch.compile(stage, dynamic=True, fullgraph=True))


class CompiledQwen3(ReadyQwen3):
    """``ReadyQwen3`` with compiled stages between its products."""

    def __init__(self, backbone: Backbone) -> None:
        super().__init__(backbone)
        self._stages = [compiled(stage) for stage in (norm, turn, gate)]

    def forward(self, x: Tensor, layout: PackedLayout) -> Tensor:
        turns = torch.view_as_real(self._turns(layout.positions))
        for layer in self._layers:
            x = self._compute(layer, x, layout, turns)
        return self._stages[0](x, self._norm.weight, self._norm.eps)

    def _compute(self, layer: ReadyQwen3Layer, x: Tensor, layout: PackedLayout, turns: Tensor) -> Tensor:
        norm, turn, gate = self._stages
        qkv = layer.qkv(norm(x, layer.before_attention.weight, layer.eps))
        qk, v = (part.view(len(x), -1, layer.width) for part in qkv.tensor_split([layer.qk_split], dim=1))
        qk = turn(qk, layer.qk_weight, layer.eps, turns, torch.float32 if x.device.type == "cpu" else x.dtype)
        seen = attention(qk[:, : layer.heads], qk[:, layer.heads :], v, layout, causal=layer.causal)
        x = layer.out.plus(seen, x)
        y = norm(x, layer.before_mlp.weight, layer.eps)
        return layer.down.plus(gate(layer.gate(y), layer.up(y)), x)


class CompiledRuntime(TorchRuntime):
    """Vectors from packed batches.

    Raises:
        InputError: the layers are not Qwen3's, or PyTorch's compiler does not work here.
    """

    name = "compiled"

    def _prepare_layers(self) -> None:
        kind = self.encoder.config.backbone.kind
        if kind != "qwen3":
            raise InputError(
                f"the runtime 'compiled' has only layers of 'qwen3', not of {kind!r}; use 'torch'"
            )
        self.encoder = self.encoder.with_backbone(CompiledQwen3(self.encoder.backbone))
        try:
            for count in (2, 3):  # the second number of tokens shows the compiler that it varies
                self.embed(pack([np.zeros(count, dtype=np.int64)]), np.array([count]))
        except Exception as error:
            if not type(error).__module__.startswith(("torch._dynamo", "torch._inductor", "triton")):
                raise
            reason = str(error).strip().splitlines()[0]
            raise InputError(f"PyTorch cannot compile here ({reason}); use runtime='torch'") from error
