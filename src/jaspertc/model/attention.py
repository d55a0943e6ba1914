"""One attention function over packed rows, for training and inference, CPU and GPU.

Shape legend: C compressed tokens of all texts, N texts, L tokens of one text, B texts of equal length,
H query heads, K key/value heads, G = H / K query heads per key/value head, D width of a head.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from inspect import signature
from typing import Any

import numpy as np

from jaspertc.model.transfer import to_device
from jaspertc.pytorch import Tensor, torch
from jaspertc.pytorch import functional as F
from jaspertc.text.packing import offsets_of
from jaspertc.types import IntArray

logger = logging.getLogger(__name__)

QUERY_BLOCK = 128
CAUSAL_QUERY_BLOCK = 64  # less is computed only to be masked
CAUSAL_TRAINING_BLOCK = 256  # each block's backward pass writes whole gradients of keys and values
PADDING_SHARE, PADDING_TOKENS = 0.15, 16


@dataclass(frozen=True, kw_only=True)
class PackedLayout:
    """Where each text lies in a packed row, for the host and for the device.

    Attributes:
        lengths: tokens per text on the host, shape (N,).
        offsets: starts on the host with the end last, shape (N + 1,).
        cu_seqlens: the same on the device, shape (N + 1,), int32.
        positions: 0 ... L - 1 within each text on the device, shape (C,).
        runs: (first text, number of texts, their length) for consecutive texts of equal length.
    """

    lengths: IntArray
    offsets: IntArray
    cu_seqlens: Tensor
    positions: Tensor
    runs: tuple[tuple[int, int, int], ...]

    @classmethod
    def of(cls, lengths: IntArray, device: torch.device) -> "PackedLayout":
        """The layout of texts with these lengths, shape (N,)."""
        offsets = offsets_of(lengths)
        positions = np.arange(offsets[-1]) - np.repeat(offsets[:-1], lengths)
        breaks = np.flatnonzero(np.diff(lengths, prepend=-1))
        counts = np.diff(breaks, append=len(lengths))
        return cls(
            lengths=lengths,
            offsets=offsets,
            cu_seqlens=to_device(offsets.astype(np.int32), device),
            positions=to_device(positions, device),
            runs=tuple((int(b), int(c), int(lengths[b])) for b, c in zip(breaks, counts)),
        )

    @cached_property
    def rectangles(self) -> "Rectangles":
        """The texts padded to a few rectangles."""
        return Rectangles.of(self.lengths, self.offsets, self.positions.device)

    @property
    def max_length(self) -> int:
        """Tokens of the longest text."""
        return int(self.lengths.max())


@dataclass(frozen=True, kw_only=True)
class Rectangles:
    """Texts of similar length side by side, padded, so that few large products serve many texts.

    Attributes:
        shapes: (texts, tokens) of each rectangle; P tokens of all together, padding included.
        rows: the packed token of each padded one, shape (P,); the first of its text where there is none.
        places: where each packed token stands among the padded ones, shape (C,).
        hidden: of each rectangle what hides padding among keys: -inf there and 0 elsewhere, shape
            (texts, 1, 1, tokens), or ``None`` where there is none.
    """

    shapes: tuple[tuple[int, int], ...]
    rows: Tensor
    places: Tensor
    hidden: tuple[Tensor | None, ...]

    @classmethod
    def of(cls, lengths: IntArray, offsets: IntArray, device: torch.device) -> "Rectangles":
        """Rectangles of texts of these lengths, shape (N,); a new one where padding would be too much."""
        shapes, rows, real = [], [], []
        order = np.argsort(lengths, kind="stable")
        begin = 0
        while begin < len(order):
            tokens = np.cumsum(lengths[order[begin:]])
            padded = lengths[order[begin:]] * np.arange(1, len(tokens) + 1)
            too_many = padded > (1 + PADDING_SHARE) * tokens + PADDING_TOKENS
            end = begin + (int(np.argmax(too_many)) if too_many.any() else len(tokens))
            texts = order[begin:end]
            positions = np.arange(lengths[texts[-1]])
            inside = positions < lengths[texts][:, None]
            rows.append(offsets[texts][:, None] + np.where(inside, positions, 0))
            real.append(inside)
            shapes.append(inside.shape)
            begin = end
        flat = np.concatenate([part.ravel() for part in rows])
        used = np.flatnonzero(np.concatenate([part.ravel() for part in real]))
        where = np.empty(offsets[-1], np.int64)
        where[flat[used]] = used
        return cls(
            shapes=tuple(shapes),
            rows=to_device(flat, device),
            places=to_device(where, device),
            hidden=tuple(
                None if part.all() else to_device(np.where(part, 0, -np.inf)[:, None, None], device)
                for part in real
            ),
        )


class _Pad(torch.autograd.Function):
    """(C, ...) -> (P, ...); gradients of padding, which nothing reads, are dropped."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, rows: Tensor, cells: Tensor) -> Tensor:
        ctx.save_for_backward(cells)
        return x.index_select(0, rows)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        (cells,) = ctx.saved_tensors
        return gradient.index_select(0, cells), None, None


def _padded(x: Tensor, boxes: Rectangles) -> Tensor:
    out: Tensor = _Pad.apply(x, boxes.rows, boxes.places)  # type: ignore[no-untyped-call]
    return out


def attention(q: Tensor, k: Tensor, v: Tensor, layout: PackedLayout, *, causal: bool) -> Tensor:
    """Softmax attention of each text over itself, scaled by D ** -0.5.

    Args:
        q: queries, shape (C, H, D).
        k: keys, shape (C, K, D); H is a multiple of K (grouped-query attention).
        v: values, shape (C, K, D).
        layout: where the texts lie.
        causal: a token attends only to itself and earlier tokens of its text.

    Returns:
        Shape (C, H * D).
    """
    if q.is_cuda and q.dtype in (torch.bfloat16, torch.float16) and (kernel := _cuda_kernel()) is not None:
        return kernel(q, k, v, layout, causal).flatten(1)
    if q.device.type == "cpu":
        function = padded_attention if torch.is_grad_enabled() else blocked_attention
        return function(q, k, v, layout, causal=causal)
    return grouped_attention(q, k, v, layout, causal=causal)


def grouped_attention(q: Tensor, k: Tensor, v: Tensor, layout: PackedLayout, *, causal: bool) -> Tensor:
    """``scaled_dot_product_attention`` once for all consecutive texts of equal length."""
    outputs = []
    for text, count, length in layout.runs:
        rows = slice(int(layout.offsets[text]), int(layout.offsets[text + count]))
        q_run, k_run, v_run = (
            part[rows].view(count, length, -1, part.shape[2]).transpose(1, 2) for part in (q, k, v)
        )
        out = F.scaled_dot_product_attention(q_run, k_run, v_run, is_causal=causal, enable_gqa=True)
        outputs.append(out.transpose(1, 2).reshape(count * length, -1))
    return torch.cat(outputs)


def blocked_attention(q: Tensor, k: Tensor, v: Tensor, layout: PackedLayout, *, causal: bool) -> Tensor:
    """Batched matrix products over blocks of queries: on a CPU several times faster than the reference.

    Consecutive texts of equal length share each product, so sort a batch by length. Causal blocks read
    only the keys before their end. The G query heads of a group are folded into rows. Scores are float32
    (autocast has its own rules); queries and keys may be float32 beside bfloat16 values.
    """
    if q.dtype == torch.bfloat16 and not torch.is_autocast_enabled(q.device.type):
        q, k = q.float(), k.float()
    heads, width = q.shape[1:]
    groups = k.shape[1]
    q = q * width**-0.5
    outputs = []
    for text, count, length in layout.runs:
        rows = slice(int(layout.offsets[text]), int(layout.offsets[text + count]))
        q_run = q[rows].view(count, length, groups, heads // groups, width).permute(0, 2, 3, 1, 4)
        k_run, v_run = (
            part[rows].view(count, length, groups, width).transpose(1, 2).contiguous() for part in (k, v)
        )
        block = CAUSAL_QUERY_BLOCK if causal else QUERY_BLOCK
        out = _attend_equal_lengths(q_run, k_run.mT, v_run, causal, block)  # (B, K, G, L, D)
        outputs.append(out.permute(0, 3, 1, 2, 4).reshape(count * length, heads * width))
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs)


def padded_attention(q: Tensor, k: Tensor, v: Tensor, layout: PackedLayout, *, causal: bool) -> Tensor:
    """The same over rectangles of similar lengths: for training, where each product has two more to follow.

    The backward pass of a slice writes a whole gradient, so there are none; little padding is computed.
    """
    if q.dtype == torch.bfloat16 and not torch.is_autocast_enabled(q.device.type):
        q, k = q.float(), k.float()
    heads, width = q.shape[1:]
    groups = k.shape[1]
    boxes = layout.rectangles
    sizes = [texts * tokens for texts, tokens in boxes.shapes]
    parts = (torch.split(_padded(part, boxes), sizes) for part in (q * width**-0.5, k, v))
    outputs = []
    for (texts, tokens), hidden, q_box, k_box, v_box in zip(boxes.shapes, boxes.hidden, *parts):
        q_box = q_box.view(texts, tokens, groups, heads // groups, width).permute(0, 2, 3, 1, 4)
        k_box, v_box = (part.view(texts, tokens, groups, width).transpose(1, 2) for part in (k_box, v_box))
        block = CAUSAL_TRAINING_BLOCK if causal else tokens
        out = _attend_equal_lengths(q_box, k_box.mT, v_box, causal, block, hidden)
        outputs.append(out.permute(0, 3, 1, 2, 4).reshape(texts * tokens, heads * width))
    return torch.cat(outputs).index_select(0, boxes.places)


def _attend_equal_lengths(
    q: Tensor, k: Tensor, v: Tensor, causal: bool, block: int, hidden: Tensor | None = None
) -> Tensor:
    """(B, K, G, L, D) queries, (B, K, D, L) keys and (B, K, L, D) values -> (B, K, G, L, D)."""
    texts, groups, per_group, length, width = q.shape
    blocks = []
    for begin in range(0, length, block):
        end = min(begin + block, length)
        seen = end if causal else length
        rows = q[:, :, :, begin:end].reshape(texts, groups, -1, width)
        scores = torch.matmul(rows, k[..., :seen])
        if hidden is not None:
            scores += hidden[..., :seen].to(scores.dtype)
        if causal and end - begin > 1:
            future = torch.full(
                (end - begin, end - begin), float("-inf"), dtype=scores.dtype, device=q.device
            )
            scores[..., begin:end] += future.triu(1).repeat(per_group, 1)
        out = torch.matmul(torch.softmax(scores, -1).to(v.dtype), v[:, :, :seen])
        blocks.append(out.view(texts, groups, per_group, end - begin, width))
    return blocks[0] if len(blocks) == 1 else torch.cat(blocks, dim=3)


Kernel = Callable[[Tensor, Tensor, Tensor, PackedLayout, bool], Tensor]


@cache
def _cuda_kernel() -> Kernel | None:
    """The fastest variable-length kernel installed, or ``None``; which one is logged once."""
    try:
        from flash_attn import flash_attn_varlen_func

        def flash(q: Tensor, k: Tensor, v: Tensor, layout: PackedLayout, causal: bool) -> Tensor:
            ends, longest = layout.cu_seqlens, layout.max_length
            out: Tensor = flash_attn_varlen_func(q, k, v, ends, ends, longest, longest, causal=causal)
            return out

        logger.info("attention on CUDA: flash_attn")
        return flash
    except ImportError:
        pass
    try:
        from torch.nn.attention.varlen import varlen_attn

        has_windows = "window_size" in signature(varlen_attn).parameters  # is_causal in earlier releases

        def varlen(q: Tensor, k: Tensor, v: Tensor, layout: PackedLayout, causal: bool) -> Tensor:
            repeat = q.shape[1] // k.shape[1]
            if repeat > 1:  # the kernel's own grouping is not in every release
                k, v = k.repeat_interleave(repeat, 1), v.repeat_interleave(repeat, 1)
            ends, longest = layout.cu_seqlens, layout.max_length
            seen = {"window_size": (-1, 0 if causal else -1)} if has_windows else {"is_causal": causal}
            out = varlen_attn(q, k, v, ends, ends, longest, longest, **seen)
            assert isinstance(out, Tensor)
            return out

        logger.info("attention on CUDA: torch.nn.attention.varlen")
        return varlen
    except ImportError:
        logger.info("attention on CUDA: scaled_dot_product_attention (install flash-attn)")
        return None
