"""What is compared: each turns the same texts or token ids into vectors.

Shape legend: N texts, E embedding width.
"""

import warnings
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch

from jaspertc.checkpoint import Checkpoint, load_checkpoint
from jaspertc.checkpoint.layouts import read_info
from jaspertc.checkpoint.load import TOKENIZER
from jaspertc.config import BackboneConfig
from jaspertc.engine.embedder import Embedder
from jaspertc.engine.options import LongTextWarning
from jaspertc.engine.runtimes.torch_runtime import choose_device, choose_dtype
from jaspertc.errors import InputError, JasperError, MissingExtraError
from jaspertc.model.cost import text_flops
from jaspertc.types import FloatArray, IntArray
from lab.compare.engines import PlainEngine
from lab.compare.inputs import Inputs
from lab.compare.padded import PaddedModel
from lab.compare.sentences import SentenceModel, missing_packages, with_tokenizer, write_plain_folder
from lab.compare.settings import ENGINES, Settings, Spec
from lab.gpu import register

# A mistake in these is the user's; a backend of sentence-transformers may just not fit the model.
DECISIVE = ("ours", "padded", "plain", "peer")

Embed = Callable[[Inputs, float | None], FloatArray]
Lengths = Callable[[Inputs], IntArray]


@dataclass(frozen=True, kw_only=True)
class Contender:
    """Something that embeds.

    Attributes:
        precision: what its matrix products are computed in.
        detail: how it computes, in words.
        embed: vectors of texts or token ids at a ratio (``None``: no compression), shape (N, E).
        lengths: tokens that it reads of each text, shape (N,).
        targets: tokens that its layers see of texts of such lengths at a ratio, shape (N,) -> (N,).
        shape: of its backbone, if known.
    """

    spec: Spec
    precision: str
    detail: str
    embed: Embed
    lengths: Lengths
    targets: Callable[[IntArray, float | None], IntArray]
    shape: BackboneConfig | None

    def vectors(self, inputs: Inputs, ratio: float | None) -> FloatArray:
        """``embed`` at this ratio; ``None`` is 1 for a contender that compresses."""
        return self.embed(inputs, self._ratio(ratio))

    def work(self, inputs: Inputs, ratio: float | None) -> tuple[int, int, float | None]:
        """Tokens read, tokens that the layers see, and the FLOPs of the layers for those."""
        read = self.lengths(inputs)
        seen = self.targets(read, self._ratio(ratio))
        if self.shape is None:
            return int(read.sum()), int(seen.sum()), None
        flops = sum(text_flops(self.shape, int(length)) for length in seen)
        return int(read.sum()), int(seen.sum()), float(flops)

    def _ratio(self, ratio: float | None) -> float | None:
        return 1.0 if ratio is None and self.spec.compresses else ratio


def check_extra(specs: tuple[Spec, ...]) -> None:
    """Raise MissingExtraError unless the packages of the extra ``bench`` are installed that are needed."""
    needed = {"matplotlib": "the charts of a benchmark", "psutil": "a benchmark"}
    if any(spec.kind in ("padded", "plain") for spec in specs):
        needed["transformers"] = "the contenders 'padded' and 'plain'"
    for package, purpose in needed.items():
        if find_spec(package) is None:
            raise MissingExtraError(package, "bench", purpose)


def load_contender(spec: Spec, model: Path, settings: Settings, scratch: Path) -> Contender:
    """Load one.

    Args:
        model: checkpoint folder of the model under test.
        scratch: an empty folder to write to.

    Raises:
        JasperError: it cannot be loaded or run here.
    """
    if spec.kind == "ours":
        return _ours(spec, model, settings)
    if spec.kind in ("padded", "plain"):
        return _padded(spec, load_checkpoint(model), settings)
    if spec.kind in ENGINES:
        return _engine(spec, load_checkpoint(model), settings, scratch)
    return _sentences(spec, model, settings, scratch)


def load_contenders(
    settings: Settings, model: Path, scratch: Path, *, loading: Callable[[str], None] = lambda name: None
) -> tuple[dict[str, Contender], dict[str, str]]:
    """All contenders by name, and why others are left out.

    Raises:
        InputError: none can be run.
    """
    has_tokenizer = (model / TOKENIZER).is_file()
    found: dict[str, Contender] = {}
    skipped: dict[str, str] = {}
    for spec in settings.contenders:
        loading(spec.name)
        try:
            if not has_tokenizer and not spec.takes_ids:
                raise InputError("it takes texts, and this model has no tokenizer to make them for")
            found[spec.name] = load_contender(spec, model, settings, scratch / spec.name)
        except JasperError as error:
            if spec.kind in DECISIVE and not isinstance(error, MissingExtraError):
                raise
            skipped[spec.name] = str(error)
    if not found:
        raise InputError(
            "no contender can be run: " + "; ".join(f"{name}: {why}" for name, why in skipped.items())
        )
    return found, skipped


def _ours(spec: Spec, model: Path, settings: Settings) -> Contender:
    register()
    embedder = Embedder.load(model, device=settings.device, dtype=spec.dtype, runtime=spec.runtime)
    limit = embedder.max_length

    def embed(inputs: Inputs, ratio: float | None) -> FloatArray:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LongTextWarning)  # tables say how many tokens were read
            if isinstance(inputs[0], str):
                vectors = embedder.encode([str(text) for text in inputs], prompt="", ratio=ratio)
                return np.asarray(vectors, dtype=np.float32)
            return embedder.encode_ids([np.asarray(row) for row in inputs], ratio=ratio)

    def lengths(inputs: Inputs) -> IntArray:
        if not isinstance(inputs[0], str):
            return np.array([len(row) for row in inputs], dtype=np.int64)
        rows = embedder.tokenize([str(text) for text in inputs], max_length=limit)
        return np.array([len(row) for row in rows], dtype=np.int64)

    runtime = embedder.runtime
    return Contender(
        spec=spec,
        precision=runtime.precision,
        detail=f"packed, {runtime.name} on {runtime.device}",
        embed=embed,
        lengths=lengths,
        targets=lambda read, ratio: embedder.target_lengths(read, ratio=ratio),
        shape=embedder.config.backbone,
    )


def _padded(spec: Spec, checkpoint: Checkpoint, settings: Settings) -> Contender:
    device = choose_device(settings.device)
    dtype = choose_dtype(spec.dtype, torch.bfloat16, device)  # auto: as the released model is used
    model = PaddedModel(checkpoint, dtype=dtype, device=device, batch=settings.batch)
    what = "released way" if spec.compresses else "no compression"

    def lengths(inputs: Inputs) -> IntArray:
        rows = model.rows(inputs, 1.0 if spec.compresses else None)
        return np.array([len(row) for row in rows], dtype=np.int64)

    return Contender(
        spec=spec,
        precision=str(dtype).removeprefix("torch."),
        detail=f"padded, {what}, Transformers on {device}",
        embed=model.embed,
        lengths=lengths,
        targets=model.targets,
        shape=checkpoint.info.config.backbone,
    )


def _engine(spec: Spec, checkpoint: Checkpoint, settings: Settings, scratch: Path) -> Contender:
    shape = checkpoint.info.config.backbone
    loaded = PlainEngine(
        spec.kind,
        write_plain_folder(checkpoint, scratch),
        precision=spec.dtype,
        batch=settings.batch,
        threads=settings.threads,
        positions=shape.max_positions,
    )
    return Contender(
        spec=spec,
        precision=spec.dtype,
        detail=f"padded, no compression, {spec.kind} on cpu",
        embed=loaded.embed,
        lengths=loaded.lengths,
        targets=lambda read, ratio: read,
        shape=shape,
    )


def _sentences(spec: Spec, model: Path, settings: Settings, scratch: Path) -> Contender:
    folder, shape = Path(spec.folder), None
    backend = spec.runtime if spec.kind == "st" else "torch"
    if spec.kind == "st":
        if missing := missing_packages(backend):
            raise InputError(f"its backend {backend!r} needs packages not installed: {', '.join(missing)}")
        folder = write_plain_folder(load_checkpoint(model), scratch)
    with suppress(JasperError):  # another architecture: no floor is known
        shape = read_info(folder, pooler="mean").config.backbone
    if spec.kind == "peer":
        folder = with_tokenizer(folder, shape, scratch)
    device = "cpu" if spec.kind == "st" and backend != "torch" else str(choose_device(settings.device))
    loaded = SentenceModel(folder, precision=spec.dtype, device=device, batch=settings.batch, backend=backend)
    return Contender(
        spec=spec,
        precision=spec.dtype,
        detail=f"padded, sentence-transformers ({backend}) on {device}",
        embed=loaded.embed,
        lengths=loaded.lengths,
        targets=lambda read, ratio: read,
        shape=shape,
    )


def lowest_cosine(vectors: FloatArray, reference: FloatArray) -> float:
    """Of two ways to compute the same texts, each of shape (N, D)."""
    norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(reference, axis=1)
    return float(((vectors * reference).sum(1) / np.maximum(norms, 1e-30)).min())
