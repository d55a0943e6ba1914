"""What is evaluated: our model at each ratio, and peers.

Shape legend: N texts, E width of the vectors.
"""

import dataclasses
import hashlib
import importlib
import importlib.util
import json
import tomllib
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jaspertc.errors import ConfigError, InputError
from jaspertc.evaluation.fused import FusedPeer, FusedTarget, Memory, computed_by, runtime_of
from jaspertc.evaluation.prompts import max_length_of, prompt_of
from jaspertc.recipe.reader import Reader
from jaspertc.teachers import TeacherConfig, teacher_kinds
from jaspertc.types import FloatArray

if TYPE_CHECKING:
    from jaspertc.engine.embedder import Embedder

Embed = Callable[[Sequence[str], str], FloatArray]

SWEEP = (1.0, 0.8, 0.66, 0.5, 0.33, 0.2, 0.1, 0.05)


@dataclass(frozen=True, kw_only=True)
class Contender:
    """A model with its settings.

    Attributes:
        name: the model's name.
        revision: changes when its vectors would, but for the next three.
        runtime: what computes, and in which precision, such as ``onnxruntime int8``; ``None`` for a peer that
            another package runs.
        ratio: compression ratio, ``None`` for a peer.
        threshold: texts up to this many tokens are not compressed; ``None`` for a peer.
        dims: E.
        megabytes: size of its files, where they are known.
        prompts: prompt texts by name.
        embed: vectors of N texts with a prompt before each, shape (N, E); may reuse earlier ones.
        fresh: the same, with nothing reused: for measuring time.
        forget: drop what ``embed`` keeps.
    """

    name: str
    revision: str
    runtime: str | None = None
    ratio: float | None = None
    threshold: int | None = None
    dims: int
    megabytes: float | None
    prompts: Mapping[str, str]
    embed: Embed
    fresh: Embed
    forget: Callable[[], None] = lambda: None

    @property
    def label(self) -> str:
        """How tables name it."""
        return self.name if self.ratio is None else f"{self.name} @ {self.ratio:g}"

    @property
    def settings(self) -> dict[str, Any]:
        """What tells it from others with its label."""
        return {"revision": self.revision, "runtime": self.runtime, "threshold": self.threshold}

    def prompt(self, metadata: Any, prompt_type: Any) -> str:
        """The prompt for a task; see ``prompt_of``."""
        return prompt_of(self.prompts, metadata, prompt_type)


@dataclass(frozen=True, kw_only=True)
class FunctionPeer(TeacherConfig):
    """Any Python function from a list of texts to vectors: ``package.module:function``. Its code is run."""

    function: str


@dataclass(frozen=True, kw_only=True)
class PeerFile:
    """A TOML file of ``[[peers]]``, with the keys of the ``[[teachers]]`` of a recipe."""

    peers: tuple[TeacherConfig, ...]


KINDS: dict[str, type[TeacherConfig]] = {**teacher_kinds(), "function": FunctionPeer, "fused": FusedPeer}
MAIN_KEY = {"use": "path", "function": "function", "fused": "recipe"}


class Swept:
    """One model at several ratios; texts that no ratio compresses are embedded once."""

    def __init__(
        self,
        model: "Embedder",
        ratios: Sequence[float],
        threshold: int | None = None,
        name: str | None = None,
    ) -> None:
        self.model = model
        self.threshold = model.default_threshold if threshold is None else threshold
        self.max_length = max_length_of(model.prompts)
        self.several = len(ratios) > 1
        self._kept: dict[tuple[str, str], FloatArray] = {}
        name = name or Path(model.checkpoint.name).resolve().name
        if not model.checkpoint.compressor.can_compress and list(ratios) != [1.0]:
            raise InputError(f"{name} has no compressor, it can be evaluated at ratio 1 only")
        for ratio in ratios:
            model.target_lengths(np.array([1000]), ratio=ratio, threshold=self.threshold)  # raises
        self.contenders = [
            Contender(
                name=name,
                revision=model.fingerprint,
                runtime=computed_by(model.runtime),
                ratio=ratio,
                threshold=self.threshold,
                dims=model.dims,
                megabytes=_megabytes(model.checkpoint.folder, ("*.safetensors", "*.json")),
                prompts=model.prompts,
                embed=partial(self._embed, ratio),
                fresh=partial(self._encode, ratio),
                forget=self._kept.clear,
            )
            for ratio in ratios
        ]

    def lengths(self, texts: Sequence[str], prompt: str = "") -> list[int]:
        """Tokens of each text."""
        return [len(row) for row in self.model.tokenize(texts, prompt=prompt, max_length=self.max_length)]

    def _embed(self, ratio: float, texts: Sequence[str], prompt: str) -> FloatArray:
        if not self.several:
            return self._encode(ratio, texts, prompt)
        missing = [text for text in texts if (prompt, text) not in self._kept]
        by_ratio: dict[str, FloatArray] = {}
        if missing:
            by_ratio = dict(zip(missing, self._encode(ratio, missing, prompt)))
            for text, length in zip(missing, self.lengths(missing, prompt)):
                if length <= min(self.threshold, self.model.config.backbone.max_positions):
                    self._kept[prompt, text] = by_ratio[text]
        return np.stack([by_ratio[text] if text in by_ratio else self._kept[prompt, text] for text in texts])

    def _encode(self, ratio: float, texts: Sequence[str], prompt: str) -> FloatArray:
        from jaspertc.engine.options import LongTextWarning

        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LongTextWarning)  # the report says how much is kept
            vectors = self.model.encode(
                list(texts), prompt=prompt, ratio=ratio, threshold=self.threshold, max_length=self.max_length
            )
        return np.asarray(vectors, dtype=np.float32)


def read_peers(specs: Sequence[str]) -> list[TeacherConfig]:
    """The peers that ``--peer`` names: each ``KIND=PATH``, or a TOML file with ``[[peers]]``.

    Raises:
        ConfigError: a kind is unknown, a file cannot be read or has a wrong key, or two peers have one name.
    """
    configs: list[TeacherConfig] = []
    for spec in specs:
        kind, equals, value = spec.partition("=")
        if spec.endswith(".toml") and kind not in KINDS:
            configs += _read_file(Path(spec))
        elif not equals or kind not in KINDS or kind == "openai":
            kinds = ", ".join(name for name in KINDS if name != "openai")
            raise ConfigError(
                f"--peer is {spec!r}, it must be KIND=PATH, with a kind of {kinds}, "
                "or a .toml file with [[peers]]"
            )
        else:
            key = MAIN_KEY.get(kind, "model")
            name = Path(value).name.split(":")[0] if kind == "function" else Path(value).name
            absolute = str(Path(value).absolute()) if key in ("path", "recipe") else value
            table = {"name": name, "kind": kind, key: absolute}
            configs.append(Reader(Path("--peer"), {TeacherConfig: KINDS}).section(TeacherConfig, table, spec))
    names = [peer.name for peer in configs]
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"two peers are called {name!r}; name them in a .toml file")
    return configs


def load_peers(recipes: Sequence[TeacherConfig]) -> list[Contender]:
    """Peers, ready to embed; a teacher that stands alone and in a fused target embeds each text once.

    Raises:
        JasperError: one cannot be loaded; see ``load_teacher``.
    """
    memory = Memory()
    return [_load_peer(recipe, memory) for recipe in recipes]


def _load_peer(recipe: TeacherConfig, memory: Memory) -> Contender:
    if isinstance(recipe, FunctionPeer):
        return _function_peer(recipe)
    if isinstance(recipe, FusedPeer):
        fused = FusedTarget(recipe.recipe)
        return Contender(
            name=recipe.name,
            revision=fused.revision,
            runtime=fused.runtime,
            dims=fused.dims,
            megabytes=None,
            prompts=fused.prompts,
            embed=partial(fused.embed, encode=memory.encode),
            fresh=fused.embed,
            forget=memory.clear,
        )
    from jaspertc.teachers import load_teacher

    folder = Path(str(getattr(recipe, "path", "") or getattr(recipe, "model", "")))
    if recipe.kind == "sentence-transformers" and not folder.exists():
        folder = _model_in_package(str(folder)) or folder
        recipe = dataclasses.replace(recipe, model=str(folder))  # type: ignore[call-arg]
    teacher = load_teacher(recipe)
    prompts = dict(recipe.prompts) or {"query": recipe.prompt, "document": recipe.prompt}
    facts = json.dumps([teacher.identity, prompts], sort_keys=True, default=str)
    return Contender(
        name=recipe.name,
        revision=hashlib.sha256(facts.encode()).hexdigest()[:16],
        runtime=runtime_of(teacher),
        dims=teacher.dims,
        megabytes=_megabytes(folder) if folder.is_dir() else None,
        prompts=prompts,
        embed=partial(memory.encode, teacher),
        fresh=teacher.encode,
        forget=memory.clear,
    )


def _read_file(path: Path) -> list[TeacherConfig]:
    try:
        content = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{path} cannot be read as TOML: {error}") from error
    return list(Reader(path, {TeacherConfig: KINDS}).section(PeerFile, content, "").peers)


def _function_peer(recipe: FunctionPeer) -> Contender:
    module, _, name = recipe.function.partition(":")
    try:
        function = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError) as error:
        raise ConfigError(
            f"peer {recipe.name!r}: function is {recipe.function!r}, which cannot be imported ({error}); "
            "it must be package.module:function, and its package installed"
        ) from error

    def embed(texts: Sequence[str], prompt: str) -> FloatArray:
        return np.asarray(function([prompt + text for text in texts]), dtype=np.float32)

    try:
        probe = embed(["A text to find out how wide the vectors are.", "另一个句子"], "")
    except Exception as error:
        raise ConfigError(f"peer {recipe.name!r}: {recipe.function} fails on two texts: {error}") from error
    if probe.ndim != 2 or len(probe) != 2:
        raise ConfigError(
            f"peer {recipe.name!r}: {recipe.function} gives shape {probe.shape} for two texts, "
            "it must give one vector for each"
        )
    prompts = dict(recipe.prompts) or {"query": recipe.prompt, "document": recipe.prompt}
    file = importlib.import_module(module.split(".")[0]).__file__
    revision = hashlib.sha256(probe.tobytes() + json.dumps(prompts).encode()).hexdigest()[:16]
    return Contender(
        name=recipe.name,
        revision=revision,
        dims=probe.shape[1],
        megabytes=_megabytes(Path(file).parent) if file and Path(file).name == "__init__.py" else None,
        prompts=prompts,
        embed=embed,
        fresh=embed,
    )


def _model_in_package(name: str) -> Path | None:
    """The model folder inside an installed package of this name; its code is not run."""
    spec = importlib.util.find_spec(name) if name.isidentifier() else None
    for folder in (spec.submodule_search_locations or []) if spec else []:
        for file in sorted(Path(folder).glob("**/modules.json")):
            return file.parent
    return None


def _megabytes(folder: Path, patterns: Sequence[str] = ("**/*",)) -> float:
    files = {path for pattern in patterns for path in folder.glob(pattern)}
    counted = [path for path in files if path.is_file() and "__pycache__" not in path.parts]
    return sum(path.stat().st_size for path in counted) / 1e6
