"""Compressors by name. To add one: a file beside this one and a line in ``COMPRESSORS``."""

from collections.abc import Mapping
from typing import Any

from jaspertc.config import CompressorConfig, require, require_choice
from jaspertc.model.compressors.adaptive_average import AdaptiveAverage
from jaspertc.model.compressors.base import Compressor
from jaspertc.model.compressors.disjoint import DisjointAverage
from jaspertc.model.compressors.fractional import FractionalAverage
from jaspertc.model.compressors.lookup import FoldedTable, TokenRows
from jaspertc.model.compressors.none import NoCompression
from jaspertc.model.compressors.windows import Windows

COMPRESSORS: dict[str, type[Compressor]] = {
    "none": NoCompression,
    "adaptive-average": AdaptiveAverage,
    "disjoint-average": DisjointAverage,
    "fractional-average": FractionalAverage,
}


def compressor_class(kind: str) -> type[Compressor]:
    """The class with this name; raises ConfigError if there is none."""
    require_choice("compressor.kind", kind, tuple(COMPRESSORS))
    return COMPRESSORS[kind]


def build_compressor(config: CompressorConfig, width: int) -> Compressor:
    """The compressor that ``config`` describes, with fresh weights, for embeddings of ``width``."""
    cls = compressor_class(config.kind)
    require(
        isinstance(config, cls.Config),
        f"compressor.kind is {config.kind!r}, which needs a {cls.Config.__name__}, "
        f"not a {type(config).__name__}",
    )
    return cls(config, width)


def start_names() -> tuple[str, ...]:
    """Names by which recipes and ``graft`` ask for a new compressor."""
    return tuple(name for cls in COMPRESSORS.values() for name in cls.starts)


def start_class(name: str) -> type[Compressor]:
    """The class that has ``name`` among its ``starts``; raises ConfigError if none has."""
    require_choice("compressor", name, start_names())
    return next(cls for cls in COMPRESSORS.values() if name in cls.starts)


def start_config(
    name: str, keys: Mapping[str, Any], *, width: int, before: CompressorConfig
) -> CompressorConfig:
    """The config of a new compressor.

    Args:
        name: one of ``start_names``.
        keys: the class's own keys, where they shall not be what the name stands for.
        width: D, of the embeddings.
        before: the config of the compressor that it replaces.

    Raises:
        ConfigError: the name or a key is unknown, or a value out of range.
    """
    cls = start_class(name)
    return cls.start_config({**cls.starts[name], **keys}, width=width, before=before)


__all__ = [
    "COMPRESSORS",
    "Compressor",
    "FoldedTable",
    "TokenRows",
    "Windows",
    "build_compressor",
    "compressor_class",
    "start_class",
    "start_config",
    "start_names",
]
