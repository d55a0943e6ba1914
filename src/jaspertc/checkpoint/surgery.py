"""Fewer layers, fewer tokens, a compressor and a head: a student that starts from a pretrained encoder."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from jaspertc.config import DEFAULT_RATIO, DEFAULT_THRESHOLD, CompressorConfig, HeadConfig
from jaspertc.errors import InputError
from jaspertc.model.compressors import start_config
from jaspertc.model.encoder import Encoder
from jaspertc.pytorch import Tensor, nn, torch
from jaspertc.types import IntArray


def kept_layers(total: int, keep: int) -> list[int]:
    """Every k-th layer, the last one included.

    >>> kept_layers(12, 6)
    [1, 3, 5, 7, 9, 11]

    Raises:
        InputError: ``keep`` is not in 1 ... total.
    """
    if not 1 <= keep <= total:
        raise InputError(f"layers is {keep}, the source has {total}; choose 1 to {total}")
    return [(index + 1) * total // keep - 1 for index in range(keep)]


def _kept(total: int, layers: int | Sequence[int] | None) -> list[int]:
    if layers is None:
        return list(range(total))
    if isinstance(layers, int):
        return kept_layers(total, layers)
    numbers = list(layers)
    if not numbers or numbers != sorted(set(numbers)) or not 0 <= numbers[0] <= numbers[-1] < total:
        raise InputError(f"layers is {numbers}, it must be different numbers from 0 to {total - 1}, in order")
    return numbers


def graft(
    source: Encoder,
    *,
    layers: int | Sequence[int] | None = None,
    keep_tokens: IntArray | None = None,
    compressor: str = "disjoint",
    keys: Mapping[str, Any] | None = None,
    dims: int | None = None,
    threshold: int | None = None,
    ratio: float | None = None,
    seed: int = 0,
) -> Encoder:
    """A token-compression student with the weights of ``source``.

    With all layers and tokens kept, a compressor that starts as the identity at ratio 1 and ``dims`` of
    ``None`` or the source's own width, its vectors at ratio 1 equal the source's.

    Args:
        layers: how many layers to keep, every k-th, or which, from 0; ``None`` keeps all.
        keep_tokens: rows of the token table to keep, in their new order; ``None`` keeps all.
        compressor: as recipes name it: one of ``model.compressors.start_names``.
        keys: the compressor's own keys.
        dims: width of a new linear head: the identity at the source's width, else random with orthonormal
            rows or columns (so a wider head keeps all cosines). ``None`` keeps the source's head, if any.
        threshold: default length threshold of the student, in tokens.
        ratio: default compression ratio of the student.
        seed: seed of the new weights.

    Raises:
        InputError: ``layers``, ``dims`` or ``seed`` is out of range.
        ConfigError: the compressor or one of its keys is unknown or out of range.
    """
    if not -(2**63) <= seed < 2**64:
        raise InputError(f"seed is {seed}, it must be from -2**63 to 2**64 - 1")
    if dims is not None and dims < 1:
        raise InputError(f"dims is {dims}, it must be >= 1")
    old = source.config
    width = old.backbone.hidden_size
    kept = _kept(old.backbone.num_layers, layers)
    config = replace(
        old,
        backbone=replace(
            old.backbone,
            num_layers=len(kept),
            vocab_size=old.backbone.vocab_size if keep_tokens is None else len(keep_tokens),
        ),
        compressor=start_config(
            compressor,
            keys or {},
            width=width,
            before=CompressorConfig(
                threshold=DEFAULT_THRESHOLD if threshold is None else threshold,
                ratio=DEFAULT_RATIO if ratio is None else ratio,
            ),
        ),
        head=old.head if dims is None else HeadConfig(dims=dims),
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        student = Encoder(config)
        if dims is not None:
            assert student.head.linear is not None
            (nn.init.eye_ if dims == width else nn.init.orthogonal_)(student.head.linear.weight)
            nn.init.zeros_(student.head.linear.bias)
    weights = _inherited(source, kept, keep_tokens, with_head=dims is None)
    unknown = student.load_state_dict(weights, strict=False).unexpected_keys
    assert not unknown, unknown
    student.compressor.initialise(student.backbone)
    return student.eval()


def _inherited(
    source: Encoder, kept: list[int], keep_tokens: IntArray | None, *, with_head: bool
) -> dict[str, Tensor]:
    """The source's weights under the student's names."""
    table = next(
        name for name, weight in source.named_parameters() if weight is source.backbone.token_table.weight
    )
    layer = re.compile(rf"^(backbone\.{re.escape(source.backbone.layers_name)}\.)(\d+)(\..*)$")
    new_numbers = {old: new for new, old in enumerate(kept)}
    weights: dict[str, Tensor] = {}
    for name, tensor in source.state_dict().items():
        if name.startswith("compressor.") or (name.startswith("head.") and not with_head):
            continue
        if match := layer.match(name):
            number = new_numbers.get(int(match[2]))
            if number is None:
                continue
            name = f"{match[1]}{number}{match[3]}"
        if name == table and keep_tokens is not None:
            tensor = tensor[torch.from_numpy(keep_tokens)]
        weights[name] = tensor
    return weights
