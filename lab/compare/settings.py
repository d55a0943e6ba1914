"""What is measured: protocols, contenders, sizes. Checked before anything is loaded."""

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from jaspertc.engine import runtimes
from jaspertc.errors import InputError
from jaspertc.model.lengths import check_ratio
from jaspertc.teachers import SentenceTransformersTeacher, TeacherConfig
from lab.gpu import GPU_RUNTIMES

RUNTIMES = (*runtimes.RUNTIMES, *GPU_RUNTIMES)
PROTOCOLS = ("table4", "mix", "query", "start")
SHAPES = {"600m": "Qwen3-0.6B"}  # released shape -> its backbone in model.shapes
PRECISIONS = {"fp32": "float32", "bf16": "bfloat16", "int8": "int8"}
BACKENDS = ("torch", "onnx", "openvino")
ENGINES = ("ort", "ct2", "fastembed")
DEFAULT_CONTENDERS = ("ours", "padded", "plain")

REPORT_TEXTS, REPORT_LENGTHS, REPORT_RATIOS = 1600, (128, 256, 512, 1024, 2048), (1.0, 0.5, 0.33, 0.2, 0.1)
QUICK_TEXTS, QUICK_LENGTHS, QUICK_RATIOS = 32, (128, 512, 2048), (1.0, 0.33, 0.1)
SHORTEST, LONGEST = 8, 32768  # tokens of a text
QUERY_TOKENS, QUERIES = 16, 25  # of a query; queries in a round


@dataclass(frozen=True, kw_only=True)
class Spec:
    """A contender as it was asked for.

    Args:
        kind: ``ours``, ``padded``, ``plain``, ``st`` (sentence-transformers on the model's own backbone), one
            of ``ENGINES`` (another engine on it) or ``peer``.
        dtype: ``auto``, ``float32``, ``bfloat16`` or ``int8``.
        runtime: of the engine for ``ours``, a backend for ``st``.
        folder: of a peer.
    """

    name: str
    kind: str
    dtype: str = "auto"
    runtime: str = "auto"
    folder: str = ""

    @property
    def compresses(self) -> bool:
        """Whether the ratio means anything to it."""
        return self.kind in ("ours", "padded")

    @property
    def takes_ids(self) -> bool:
        """Whether it can be given token ids; the others tokenise texts themselves."""
        return self.kind in ("ours", "padded", "plain")


@dataclass(frozen=True, kw_only=True)
class Settings:
    """Everything that numbers depend on beside the machine.

    Args:
        model: name or folder; empty with ``shape``.
        shape: of ``SHAPES``: random weights of that shape.
        layers: keep this many layers of the shape.
        texts: of each length in ``table4``, and in ``mix``, >= 1.
        lengths: tokens of a text in ``table4``.
        ratios: in (0, 1].
        batch: texts in a batch, >= 1.
        median: tokens of the median text in ``mix``.
        rounds: timed rounds, >= 1; one more warms up.
        threads: of the CPU.
        device: as ``Embedder.load``'s.
    """

    model: str = "mini"
    shape: str = ""
    layers: int = 0
    protocols: tuple[str, ...] = PROTOCOLS
    contenders: tuple[Spec, ...]
    texts: int = QUICK_TEXTS
    lengths: tuple[int, ...] = QUICK_LENGTHS
    ratios: tuple[float, ...] = QUICK_RATIOS
    batch: int = 32
    median: int = 150
    rounds: int = 3
    threads: int
    device: str = "auto"

    def __post_init__(self) -> None:
        for protocol in self.protocols:
            if protocol not in PROTOCOLS:
                raise InputError(f"--protocol is {protocol!r}, it must be one of {', '.join(PROTOCOLS)}")
        if self.shape and self.shape not in SHAPES:
            raise InputError(f"--shape is {self.shape!r}, it must be {' or '.join(SHAPES)}")
        if self.layers and not self.shape:
            raise InputError("--layers is given without --shape; only random weights can be cut")
        for option in ("texts", "batch", "rounds", "threads"):
            if getattr(self, option) < 1:
                raise InputError(f"--{option} is {getattr(self, option)}, it must be 1 or more")
        for option, lengths in (("--lengths", self.lengths), ("--median", (self.median,))):
            for length in lengths:
                if not SHORTEST <= length <= LONGEST:
                    raise InputError(f"{option} is {length}, it must be {SHORTEST} to {LONGEST} tokens")
        if not (self.protocols and self.contenders and self.lengths and self.ratios):
            raise InputError("a protocol, a contender, a length and a ratio are needed at least")
        check_ratio(self.ratios)
        names = [spec.name for spec in self.contenders]
        for name in names:
            if names.count(name) > 1:
                raise InputError(f"the contender {name!r} is given twice; give it once, or another name")

    def facts(self) -> dict[str, Any]:
        """Settings as JSON has them; folders by their names alone."""
        facts: dict[str, Any] = asdict(self) | {"model": Path(self.model).name}
        facts["contenders"] = [asdict(spec) | {"folder": Path(spec.folder).name} for spec in self.contenders]
        return {key: list(value) if isinstance(value, tuple) else value for key, value in facts.items()}


def read_contender(name: str) -> Spec:
    """A contender by name: ``ours[-RUNTIME][-PRECISION]``, ``padded[-PRECISION]``, ``plain[-PRECISION]``,
    ``st-BACKEND`` or ``ENGINE-PRECISION``.

    Raises:
        InputError: no such contender.

    >>> read_contender("ours-torch-bf16").dtype
    'bfloat16'
    """
    kind, *parts = name.split("-")
    if kind == "st" and len(parts) == 1 and parts[0] in BACKENDS:
        return Spec(name=name, kind=kind, runtime=parts[0], dtype="float32")
    if kind in ENGINES and parts in (["fp32"], ["int8"]):
        return Spec(name=name, kind=kind, dtype=PRECISIONS[parts[0]])
    if kind in DEFAULT_CONTENDERS:
        allowed = PRECISIONS if kind == "ours" else ("fp32", "bf16")
        runtime = parts.pop(0) if kind == "ours" and parts and parts[0] in RUNTIMES else "auto"
        if not parts:
            return Spec(name=name, kind=kind, runtime=runtime)
        if len(parts) == 1 and parts[0] in allowed:
            return Spec(name=name, kind=kind, runtime=runtime, dtype=PRECISIONS[parts[0]])
    raise InputError(
        f"--contender is {name!r}, it must be ours[-{'|'.join(RUNTIMES)}][-{'|'.join(PRECISIONS)}], "
        f"padded[-fp32|bf16], plain[-fp32|bf16], st-{'|'.join(BACKENDS)} or {'|'.join(ENGINES)}-fp32|int8"
    )


def peer_spec(peer: TeacherConfig) -> Spec:
    """A contender of a peer as ``--peer`` names it.

    Raises:
        InputError: it is of a kind that is not timed here, or has prompts.
    """
    if not isinstance(peer, SentenceTransformersTeacher.Config):
        raise InputError(
            f"--peer {peer.name}: kind is {peer.kind!r}, only sentence-transformers peers are timed here; "
            "give sentence-transformers=FOLDER"
        )
    if not Path(peer.model).is_dir():
        raise InputError(f"--peer {peer.name}: there is no folder {peer.model!r}; give a model folder")
    if peer.dtype not in PRECISIONS.values():
        raise InputError(f"--peer {peer.name}: dtype is {peer.dtype!r}, it must be float32 or bfloat16")
    return Spec(name=peer.name, kind="peer", folder=str(peer.model), dtype=peer.dtype)


def split(values: Iterable[str]) -> list[str]:
    """The items of options that can be repeated and hold several with commas.

    >>> split(["mix,query", "start"])
    ['mix', 'query', 'start']
    """
    return [item.strip() for value in values for item in value.split(",") if item.strip()]


def numbers(option: str, value: str, kind: type[int] | type[float]) -> tuple[Any, ...]:
    """Numbers between commas.

    Raises:
        InputError: one is none.
    """
    try:
        return tuple(dict.fromkeys(kind(item) for item in split([value])))
    except ValueError:
        what = "integers" if kind is int else "numbers"
        raise InputError(f"{option} is {value!r}, it must be {what} between commas") from None
