"""What a model is: frozen, keyword-only dataclasses, checked when made. No input or output here."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from difflib import get_close_matches
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, get_args, get_origin, get_type_hints

from jaspertc.errors import ConfigError

T = TypeVar("T")

DEFAULT_THRESHOLD = 80
DEFAULT_RATIO = 0.5


class Between(NamedTuple):
    """Marks the numbers a key may have, both ends included, as in ``Annotated[int, Between(1)]``."""

    low: float
    high: float = math.inf


class Above(NamedTuple):
    """Marks the numbers a key may have, the end left out."""

    low: float


FOLDER_OR_NAME = object()  # marks a string that is a folder, a built-in model or a hub name

Count = Annotated[int, Between(1)]
AtLeastZero = Annotated[int, Between(0)]
Positive = Annotated[float, Above(0)]
Share = Annotated[float, Between(0, 1)]
Seed = Annotated[int, Between(0, 2**63 - 1)]  # NumPy takes none below, PyTorch none above
ModelName = Annotated[str, FOLDER_OR_NAME]


def check_values(cls: type, values: Mapping[str, Any], where: str = "") -> None:
    """Numbers must lie where the annotations of dataclass ``cls`` say, strings be of those they list.

    Raises:
        ConfigError: one is not; key (after ``where``), value and what is allowed are named.
    """
    for key, hint in get_type_hints(cls, include_extras=True).items():
        if key in values:
            _check_value(hint, values[key], where + key)


def _check_value(hint: Any, value: Any, key: str) -> None:
    mark = getattr(hint, "__metadata__", (None,))[0]
    choices = get_args(hint)
    if value is None:
        return
    if isinstance(mark, Above):
        require(mark.low < value < math.inf, f"{key} is {value}, it must be > {mark.low:g}")
    elif isinstance(mark, Between):
        high = str(mark.high) if isinstance(mark.high, int) else f"{mark.high:g}"
        allowed = f"from {mark.low:g} to {high}" if mark.high < math.inf else f"at least {mark.low:g}"
        inside = mark.low <= value <= mark.high and math.isfinite(value)
        require(inside, f"{key} is {value}, it must be {allowed}")
    elif get_origin(hint) is Literal:
        require_choice(key, value, choices)
    elif get_origin(hint) is tuple:
        for index, item in enumerate(value):
            _check_value(choices[0], item, f"{key}[{index}]")
    elif get_origin(hint) is Mapping:
        for name, item in value.items():
            _check_value(choices[1], item, f"{key}.{name}")
    elif type(None) in choices:
        _check_value(choices[0], value, key)


def require(condition: bool, message: str) -> None:
    """Raise ConfigError with ``message`` unless ``condition`` holds."""
    if not condition:
        raise ConfigError(message)


def require_choice(key: str, value: object, allowed: tuple[str, ...]) -> None:
    """Raise ConfigError, with the nearest of ``allowed``, unless ``value`` is one of them."""
    if value not in allowed:
        near = get_close_matches(str(value), allowed, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else ""
        raise ConfigError(f"{key} is {value!r}, it must be one of {', '.join(allowed)}{hint}")


def check_types(config: Any) -> None:
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
        kind: a name of ``model.backbones.BACKBONES``.
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
        check_types(self)
        require_choice("backbone.gelu", self.gelu, ("none", "tanh"))
        for item in fields(self):
            value = getattr(self, item.name)
            if item.type in (int, float) and item.name != "position_offset":
                require(value > 0, f"backbone.{item.name} is {value!r}, it must be > 0")
        require(self.position_offset >= 0, f"backbone.position_offset is {self.position_offset}, not >= 0")
        require(
            self.num_heads % self.num_kv_heads == 0,
            f"backbone.num_heads ({self.num_heads}) must be a multiple of num_kv_heads ({self.num_kv_heads})",
        )


@dataclass(frozen=True, kw_only=True)
class CompressorConfig:
    """How token embeddings are compressed before the backbone; classes with keys of their own add them.

    Args:
        kind: a name of ``model.compressors.COMPRESSORS``.
        threshold: default length threshold in tokens; texts up to it are not compressed.
        ratio: default compression ratio, in (0, 1].
    """

    kind: str = "none"
    threshold: int = DEFAULT_THRESHOLD
    ratio: float = DEFAULT_RATIO

    def __post_init__(self) -> None:
        check_types(self)
        require(self.threshold >= 1, f"compressor.threshold is {self.threshold}, it must be >= 1")
        require(
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
        check_types(self)
        require(self.dims >= 0, f"head.dims is {self.dims}, it must be >= 0")
        object.__setattr__(self, "matryoshka", tuple(self.matryoshka))
        require(
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
        check_types(self)
        require_choice("pooler", self.pooler, ("mean", "last", "first"))
        require(
            max(self.head.matryoshka, default=0) <= self.embedding_dims,
            f"head.matryoshka is {self.head.matryoshka}, no width may exceed {self.embedding_dims}",
        )

    @property
    def embedding_dims(self) -> int:
        """Width of the vectors this model gives."""
        return self.head.dims or self.backbone.hidden_size
