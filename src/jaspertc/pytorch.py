"""PyTorch; where it is not installed, what stands in its place while classes are defined.

Texts are embedded on a CPU without PyTorch (``engine.runtimes.light``), so all modules that are
imported for that take PyTorch from here.
"""

from importlib.util import find_spec
from typing import TYPE_CHECKING, Any, NoReturn

from jaspertc.errors import MissingExtraError

HAS_TORCH = find_spec("torch") is not None


class Absent:
    """A name of PyTorch's where that is not installed: an annotation, a base class, nothing to be called."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, name: str) -> "Absent":
        if name.startswith("__"):
            raise AttributeError(name)
        return Absent(f"{self._name}.{name}")

    def __call__(self, *_: Any, **__: Any) -> NoReturn:
        raise MissingExtraError("torch", "torch", self._name)

    def __mro_entries__(self, bases: tuple[Any, ...]) -> tuple[type, ...]:
        """A class that derives from it derives from nothing."""
        return ()

    def __instancecheck__(self, _: object) -> bool:
        return False

    def __or__(self, _: object) -> "Absent":
        return self

    __ror__ = __or__


class Needed:
    """What cannot be without PyTorch: any use raises MissingExtraError.

    Args:
        what: in words.
    """

    def __init__(self, what: str) -> None:
        self._what = what

    def __getattr__(self, name: str) -> NoReturn:
        if name.startswith("__"):
            raise AttributeError(name)
        raise MissingExtraError("torch", "torch", self._what)


if TYPE_CHECKING or HAS_TORCH:
    import torch
    from torch import Tensor, nn
    from torch.nn import functional
    from torch.overrides import TorchFunctionMode
    from torch.utils.checkpoint import checkpoint
else:
    torch = Absent("torch")
    Tensor, nn, functional = torch.Tensor, torch.nn, torch.nn.functional
    TorchFunctionMode, checkpoint = torch.overrides.TorchFunctionMode, torch.utils.checkpoint.checkpoint

__all__ = ["HAS_TORCH", "Tensor", "TorchFunctionMode", "checkpoint", "functional", "nn", "torch"]
