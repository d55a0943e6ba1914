"""Arrays as a tree of attributes, as a module has its parameters."""

from collections.abc import Iterator, Mapping
from typing import Any

from jaspertc.errors import CheckpointError

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
