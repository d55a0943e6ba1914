"""What a model is: frozen, keyword-only dataclasses, checked when made. No input or output here."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Any, Self, TypeVar

from jaspertc.errors import ConfigError

T = TypeVar("T")

DEFAULT_THRESHOLD = 80
DEFAULT_RATIO = 0.5


def _require(condition: bool, message: str) -> None:
    if not condition:
        raise ConfigError(message)


def _require_choice(key: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        near = get_close_matches(str(value), allowed, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"{key} is {value!r}, it must be one of {', '.join(allowed)}{hint}")


def _require_types(config: Any) -> None:
    """Every field declared as a number, string or truth value must be one."""
    accepted: dict[object, tuple[type, ...]] = {int: (int,), float: (int, float), bool: (bool,), str: (str,)}
    for item in fields(config):
        kinds, value = accepted.get(item.type), getattr(config, item.name)
        if kinds and (not isinstance(value, kinds) or (isinstance(value, bool) and item.type is not bool)):
            raise ConfigError(f"{item.name} is {value!r}, it must be of type {kinds[-1].__name__}")


def from_mapping(cls: type[T], values: Mapping[str, Any], where: str) -> T:
    """Make dataclass ``cls`` from ``values``; an unknown key is an error that names the nearest known one."""
    known = [item.name for item in fields(cls)]  # type: ignore[arg-type]
    for key in values:
        if key not in known:
            near = get_close_matches(key, known, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else f"; known keys: {', '.join(known)}"
            raise ConfigError(f"unknown key {key!r} in {where}{hint}")
    return cls(**values)


@dataclass(frozen=True, kw_only=True)
class BackboneConfig:
    """Shape of a transformer. Widths and counts are positive integers.

    Args:
        kind: ``qwen3`` (pre-norm, rotary, grouped-query) or ``bert`` (post-norm, learned positions).
        max_positions: longest row of compressed tokens that the positions allow.
        position_offset: index of the first learned position (``bert`` only; 2 for XLM-RoBERTa).
        causal: whether a token attends only to itself and earlier ones (``qwen3`` as released: yes).
    """

    kind: str
    vocab_size: int
    hidden_size: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_dim: int
    intermediate_size: int
    norm_eps: float
    max_positions: int
    causal: bool
    rope_theta: float = 1e6
    position_offset: int = 0
    type_vocab_size: int = 2
    gelu: str = "none"

    def __post_init__(self) -> None:
        _require_types(self)
        _require_choice("backbone.kind", self.kind, ("qwen3", "bert"))
        _require_choice("backbone.gelu", self.gelu, ("none", "tanh"))
        for item in fields(self):
            value = getattr(self, item.name)
            if item.type in (int, float) and item.name != "position_offset":
                _require(value > 0, f"backbone.{item.name} is {value!r}, it must be > 0")
        _require(self.position_offset >= 0, f"backbone.position_offset is {self.position_offset}, not >= 0")
        _require(
            self.kind != "bert" or self.num_heads * self.head_dim == self.hidden_size,
            f"backbone.hidden_size ({self.hidden_size}) must be a multiple of the heads ({self.num_heads})",
        )
        _require(
            self.num_heads % self.num_kv_heads == 0,
            f"backbone.num_heads ({self.num_heads}) must be a multiple of num_kv_heads ({self.num_kv_heads})",
        )


@dataclass(frozen=True, kw_only=True)
class CompressorConfig:
    """How token embeddings are compressed before the backbone.

    Args:
        kind: ``none`` or ``adaptive-average`` (report, section 2.2).
        mlp: what each token passes through before pooling: ``swiglu`` (the report's, no residual),
            ``residual-swiglu`` (starts as the identity) or ``none``.
        mlp_size: width of the MLP's middle layer (3072 in the released model); 0 with ``mlp="none"``.
        threshold: default length threshold in tokens; texts up to it are not compressed.
        ratio: default compression ratio, in (0, 1].
    """

    kind: str = "none"
    mlp: str = "none"
    mlp_size: int = 0
    threshold: int = DEFAULT_THRESHOLD
    ratio: float = DEFAULT_RATIO

    def __post_init__(self) -> None:
        _require_types(self)
        _require(self.mlp_size >= 0, f"compressor.mlp_size is {self.mlp_size}, it must be >= 0")
        _require_choice("compressor.kind", self.kind, ("none", "adaptive-average"))
        _require_choice("compressor.mlp", self.mlp, ("none", "swiglu", "residual-swiglu"))
        _require(
            (self.mlp == "none") == (self.mlp_size == 0),
            f"compressor.mlp_size is {self.mlp_size}, it must be 0 without an MLP and > 0 with one",
        )
        _require(self.threshold >= 1, f"compressor.threshold is {self.threshold}, it must be >= 1")
        _require(
            math.isfinite(self.ratio) and 0 < self.ratio <= 1,
            f"compressor.ratio is {self.ratio}, it must lie in (0, 1]",
        )


@dataclass(frozen=True, kw_only=True)
class HeadConfig:
    """The linear layer after pooling. ``dims=0`` means no layer: the pooled vector is the embedding.

    Args:
        dims: width of the embedding (2048 in the released model).
        matryoshka: prefix widths the model was trained to be cut to, ascending.
    """

    dims: int = 0
    bias: bool = True
    matryoshka: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        _require_types(self)
        _require(self.dims >= 0, f"head.dims is {self.dims}, it must be >= 0")
        object.__setattr__(self, "matryoshka", tuple(self.matryoshka))
        _require(
            all(type(width) is int and width > 0 for width in self.matryoshka)
            and list(self.matryoshka) == sorted(set(self.matryoshka)),
            f"head.matryoshka is {self.matryoshka}, it must be ascending positive widths",
        )


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """A whole encoder: backbone, compressor, pooler (``mean``, ``last`` or ``first``) and head."""

    backbone: BackboneConfig
    compressor: CompressorConfig = field(default_factory=CompressorConfig)
    pooler: str = "mean"
    head: HeadConfig = field(default_factory=HeadConfig)
    normalize: bool = True

    def __post_init__(self) -> None:
        _require_types(self)
        _require_choice("pooler", self.pooler, ("mean", "last", "first"))
        _require(
            max(self.head.matryoshka, default=0) <= self.embedding_dims,
            f"head.matryoshka is {self.head.matryoshka}, no width may exceed {self.embedding_dims}",
        )

    @property
    def embedding_dims(self) -> int:
        """Width of the vectors this model gives."""
        return self.head.dims or self.backbone.hidden_size

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Self:
        """The inverse of ``dataclasses.asdict``; unknown keys are errors."""
        if not isinstance(values, Mapping):
            raise ConfigError(f"the model's configuration is {values!r:.80}, it must be a table")
        rooms = {"backbone": BackboneConfig, "compressor": CompressorConfig, "head": HeadConfig}
        parts = {
            key: from_mapping(rooms[key], value, f"the model's {key}") if key in rooms else value
            for key, value in values.items()
        }
        return from_mapping(cls, parts, "the model's configuration")
