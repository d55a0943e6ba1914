"""Modules without values, to be filled from a checkpoint."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from jaspertc.pytorch import TorchFunctionMode, torch


class _NoInitialValues(TorchFunctionMode):
    """Drawing initial values on the meta device makes PyTorch import its compiler: 2 s and 150 MB."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        given = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return given["tensor"] if "tensor" in given else args[0]
        return func(*args, **given)


@contextmanager
def shapes_only() -> Iterator[None]:
    """Modules made within have weights on the meta device: shapes without values or memory."""
    with torch.device("meta"), _NoInitialValues():
        yield
