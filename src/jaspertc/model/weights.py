"""Weights for engines that are not PyTorch: of modules, or of arrays in a tree with the same names.

Shape legend: I inputs, O outputs.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from jaspertc.errors import CheckpointError
from jaspertc.pytorch import Tensor

OPTIONAL = ("bias", "scale")


class Weights:
    """Arrays by dotted names: ``weights.encoder.layer`` gives the layers in turn, each with what is in it.

    Raises:
        CheckpointError: when an array is asked for that is not there; ``bias`` and ``scale`` are ``None``.

    >>> weights = Weights({"layer.0.weight": 7, "layer.1.weight": 8})
    >>> [part.weight for part in weights.layer], weights.layer.bias
    ([7, 8], None)
    """

    def __init__(self, arrays: Mapping[str, Any], name: str = "") -> None:
        self._name = name
        inner: dict[str, dict[str, Any]] = {}
        self._parts: dict[str, Any] = {}
        for key, value in arrays.items():
            first, dot, rest = key.partition(".")
            if dot:
                inner.setdefault(first, {})[rest] = value
            else:
                self._parts[first] = value
        self._parts |= {first: Weights(part, f"{name}{first}.") for first, part in inner.items()}

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        if name in self._parts or name in OPTIONAL:
            return self._parts.get(name)
        raise CheckpointError(f"the model lacks the tensor {self._name}{name}")

    def __iter__(self) -> Iterator[Any]:
        return (self._parts[number] for number in sorted(self._parts, key=int))

    def modules(self) -> Iterator["Weights"]:
        """This part and all within."""
        yield self
        for part in self._parts.values():
            if isinstance(part, Weights):
                yield from part.modules()


def is_int8(part: Any) -> bool:
    """Whether a module, or a part of such a tree, has an int8 matrix with its scales."""
    return getattr(part, "scale", None) is not None


def array(weight: Any, dtype: Any = np.float32) -> np.ndarray:
    """A weight, a tensor or an array, as float32 and then as ``dtype``."""
    if isinstance(weight, Tensor):
        weight = weight.detach().float().cpu().numpy()
    return np.asarray(weight, dtype=np.float32).astype(dtype, copy=False)


def dense(layer: Any) -> np.ndarray:
    """A layer's matrix as float32, shape (O, I)."""
    return array(layer.weight) * array(layer.scale) if is_int8(layer) else array(layer.weight)


def int8_rows(layer: Any) -> tuple[np.ndarray, np.ndarray]:
    """A layer's or a weight's matrix as int8, (O, I), with scales, float32, (O, 1).

    Its own integers if it has them; else each row's largest value is 127.
    """
    if is_int8(layer):
        return np.asarray(layer.weight), array(layer.scale)
    values = array(getattr(layer, "weight", layer))
    scale = np.maximum(np.abs(values).max(1, keepdims=True), np.float32(1e-12)) / np.float32(127)
    return np.rint(values / scale).astype(np.int8), scale
