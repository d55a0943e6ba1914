"""A new head or compressor for an encoder; all its other weights stay.

Shape legend: N texts, D model width, R width of the new head.
"""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from jaspertc.config import HeadConfig, ModelConfig
from jaspertc.errors import InputError
from jaspertc.model.compressors import start_config
from jaspertc.model.encoder import Encoder
from jaspertc.pytorch import Tensor, nn, torch


def with_compressor(
    encoder: Encoder, name: str, *, keys: Mapping[str, Any] | None = None, seed: int = 0
) -> Encoder:
    """The encoder with another compressor, new unless it has that very kind.

    Args:
        name: as recipes name it: one of ``model.compressors.start_names``.
        keys: the compressor's own keys.

    Raises:
        ConfigError: the name or a key is unknown, or a value out of range.
    """
    config, width = encoder.config, encoder.config.backbone.hidden_size
    new = start_config(name, keys or {}, width=width, before=config.compressor)
    if new == config.compressor:
        return encoder
    student = _rebuilt(encoder, replace(config, compressor=new), "compressor.", seed)
    student.compressor.initialise(student.backbone)
    return student


def with_head(encoder: Encoder, dims: int, *, seed: int = 0) -> Encoder:
    """The encoder with a new linear head of random weights, as wide as ``dims``."""
    return _rebuilt(encoder, replace(encoder.config, head=HeadConfig(dims=dims)), "head.", seed)


def _rebuilt(encoder: Encoder, config: ModelConfig, new: str, seed: int) -> Encoder:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        student = Encoder(config)
    weights = {name: value for name, value in encoder.state_dict().items() if not name.startswith(new)}
    missing, unknown = student.load_state_dict(weights, strict=False)
    assert not unknown, unknown
    assert all(name.startswith(new) for name in missing), missing
    return student.eval()


def fit_head(encoder: Encoder, pooled: Tensor, targets: Tensor, *, ridge: float = 1e-2) -> None:
    """Set the head to the ridge regression of targets on pooled vectors.

    Args:
        pooled: the encoder's vectors before the head, shape (N, D).
        targets: unit targets of the same texts, shape (N, R).
        ridge: penalty, as a share of the mean variance of the pooled vectors.
    """
    linear = encoder.head.linear
    assert isinstance(linear, nn.Linear)
    fit_linear(linear, pooled, targets, ridge=ridge)


def fit_linear(linear: nn.Linear, inputs: Tensor, targets: Tensor, *, ridge: float) -> None:
    """Set a layer to the ridge regression of targets, shape (N, R), on inputs, shape (N, D)."""
    x, y = inputs.double(), targets.double()
    mean_x, mean_y = x.mean(0), y.mean(0)
    x, y = x - mean_x, y - mean_y
    gram = x.T @ x
    penalty = ridge * float(gram.diagonal().mean())
    solution = torch.linalg.solve(gram + penalty * torch.eye(len(gram), dtype=x.dtype), x.T @ y)
    with torch.no_grad():
        linear.weight.copy_(solution.T)
        if linear.bias is not None:
            linear.bias.copy_(mean_y - mean_x @ solution)


def scaled_head(encoder: Encoder, factors: Tensor) -> Encoder:
    """The encoder, changed in place, with each dimension of its vectors before normalisation multiplied.

    Args:
        factors: shape (R,).
    """
    linear = encoder.head.linear
    assert isinstance(linear, nn.Linear)
    with torch.no_grad():
        linear.weight.mul_(factors[:, None])
        if linear.bias is not None:
            linear.bias.mul_(factors)
    return encoder


def turned_head(encoder: Encoder, vectors: Tensor, dims: int) -> Encoder:
    """The encoder with a head of ``dims`` dimensions that keeps as much of all dot products as possible.

    The new space is spanned by the leading principal directions of the vectors, first the strongest. As many
    dimensions as the model is wide, plus one for the bias, keep all dot products.

    Args:
        vectors: some of the encoder's unit vectors, shape (N, R).

    Raises:
        InputError: ``dims`` is not in 1 ... R.
    """
    old = encoder.head.linear
    if not isinstance(old, nn.Linear) or not 1 <= dims <= old.out_features:
        raise InputError(f"dims is {dims}, it must be 1 to the width of the model's linear head")
    second_moment = vectors.double().T @ vectors.double()
    _, directions = torch.linalg.eigh(second_moment)
    turn = directions.flip(1)[:, :dims].T
    return _multiplied(encoder, turn, HeadConfig(dims=dims))


def with_turn(encoder: Encoder, turn: Tensor, widths: Sequence[int]) -> Encoder:
    """The encoder whose vectors are turned, which keeps all cosines, and are meant to be cut to ``widths``.

    Args:
        turn: shape (R, R), orthogonal; a row for each new dimension.
        widths: ascending.
    """
    old = encoder.head.linear
    bias = old is not None and old.bias is not None
    return _multiplied(
        encoder, turn.double(), HeadConfig(dims=len(turn), bias=bias, matryoshka=tuple(widths))
    )


def _multiplied(encoder: Encoder, matrix: Tensor, head: HeadConfig) -> Encoder:
    """The encoder with a head of this kind that gives its vectors, before normalisation, times a matrix.

    Args:
        matrix: float64, shape (dims of ``head``, R).
    """
    old = encoder.head.linear
    result = _rebuilt(encoder, replace(encoder.config, head=head), "head.", 0)
    new = result.head.linear
    assert isinstance(new, nn.Linear)
    with torch.no_grad():
        new.weight.copy_(matrix if old is None else matrix @ old.weight.double())
        if new.bias is not None:
            new.bias.copy_(
                torch.zeros(head.dims) if old is None or old.bias is None else matrix @ old.bias.double()
            )
    return result
