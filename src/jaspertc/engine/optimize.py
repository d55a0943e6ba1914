"""A checkpoint for CPUs: int8 layers, but for those that cost too much accuracy, which stay bfloat16.

Shape legend: N texts, E width of the vectors.
"""

import logging
import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np

from jaspertc.checkpoint import Checkpoint, load_checkpoint, resolve
from jaspertc.checkpoint.files import weight_files
from jaspertc.checkpoint.layouts import read_info
from jaspertc.checkpoint.save import check_folder, save_changed
from jaspertc.engine.embedder import Embedder
from jaspertc.engine.options import LongTextWarning
from jaspertc.engine.runtimes.openvino.runtime import OpenVINORuntime
from jaspertc.errors import CheckpointError, InputError, MissingExtraError
from jaspertc.model.encoder import Encoder
from jaspertc.model.int8 import Int8Matrix, int8_like, quantize_rows
from jaspertc.model.shapes_only import shapes_only
from jaspertc.pytorch import Tensor, nn

logger = logging.getLogger(__name__)

NOTE = "optimize"  # the entry of CheckpointInfo.notes
LEAST = 0.997  # on some texts; leaves room for others, so that 0.995 holds
MAX_LENGTH = 256
RATIOS = (1.0, 0.33)
TOKENS = "token table"

Say = Callable[[str], None]


@dataclass(frozen=True, kw_only=True)
class Accuracy:
    """Cosines of int8 vectors to float32 ones: the lowest of all texts and ratios, and the mean."""

    worst: float
    mean: float


@dataclass(frozen=True, kw_only=True)
class Optimized:
    """What was written.

    Attributes:
        folder: where.
        before, after: bytes of the weight files.
        whole: accuracy with every layer in int8.
        accuracy: accuracy of what was written.
        exact: parts left in bfloat16, such as ``layer 3`` or ``token table``.
        gains: the lowest cosine when one part alone is left in bfloat16; empty if that was not needed.
    """

    folder: Path
    before: int
    after: int
    whole: Accuracy
    accuracy: Accuracy
    exact: tuple[str, ...]
    gains: dict[str, float]


def optimize(
    source: str | Path,
    out: str | Path,
    texts: Sequence[str],
    *,
    least: float = LEAST,
    max_length: int = MAX_LENGTH,
    overwrite: bool = False,
    say: Say = logger.info,
) -> Optimized:
    """Write the checkpoint ``source`` with int8 layers to ``out``; the same input gives the same bytes.

    Every layer is int8 if the vectors of all ``texts``, at ratio 1 and 0.33, then keep a cosine of ``least``
    to the float32 ones. If not, the parts whose rounding is felt most stay in bfloat16, as few as are needed:
    the lowest cosine is measured with each alone left out, and the order of these says which go first.

    Args:
        source: ``mini``, a checkpoint folder or a hub name.
        texts: what accuracy is measured on, such as the texts to come; at least one.
        least: lowest cosine allowed, in (0, 1).
        max_length: tokens read of each text.
        overwrite: replace ``out`` if it is there.
        say: told what is being measured.

    Raises:
        CheckpointError: as ``load_checkpoint``; or ``out`` exists or is ``source``, or ``source`` was
            written by this function.
        InputError: no texts, ``least`` is out of range, or bfloat16 alone does not reach it.
        MissingExtraError: OpenVINO, with which int8 is computed, is not installed.
    """
    folder, out = resolve(source), Path(out)
    _check(folder, out, texts, least, overwrite)
    measure = _Measure(source, list(texts), max_length, say)
    parts = list(measure.parts)
    whole = accuracy = measure("every layer int8", frozenset())
    exact: tuple[str, ...] = ()
    gains: dict[str, float] = {}
    if whole.worst < least:
        gains = {part: measure(f"all but {part}", frozenset([part])).worst for part in parts}
        order = sorted(parts, key=lambda part: -gains[part])
        exact, accuracy = _fewest(order, measure, least)
    note = {
        "exact": list(exact),
        "worst cosine": round(accuracy.worst, 6),
        "mean cosine": round(accuracy.mean, 6),
        "texts": len(texts),
    }
    save_changed(
        out,
        measure.checkpoint,
        measure.encoder(frozenset(exact)),
        notes={NOTE: note},
        overwrite=overwrite,
    )
    return Optimized(
        folder=out,
        before=_size(folder),
        after=_size(out),
        whole=whole,
        accuracy=accuracy,
        exact=exact,
        gains=gains,
    )


def _check(folder: Path, out: Path, texts: Sequence[str], least: float, overwrite: bool) -> None:
    if not (math.isfinite(least) and 0 < least < 1):
        raise InputError(f"least is {least}, it must be a cosine between 0 and 1, such as {LEAST}")
    if not texts:
        raise InputError("there are no texts to measure accuracy on; give some like those to be embedded")
    if out.resolve() == folder.resolve():
        raise CheckpointError(f"{out} is the checkpoint to optimise; write to another folder")
    check_folder(out, overwrite=overwrite)
    if NOTE in read_info(folder).notes:
        raise CheckpointError(f"{folder} is optimised already; give the checkpoint that it was made from")
    if find_spec("openvino") is None:
        raise MissingExtraError("openvino", "cpu", "optimising for CPUs")


def _fewest(order: list[str], measure: "_Measure", least: float) -> tuple[tuple[str, ...], Accuracy]:
    """The shortest beginning of ``order`` that, left in bfloat16, gives ``least``; by halving."""
    low, high = 1, len(order)
    accuracy = measure("no layer int8", frozenset(order))
    if accuracy.worst < least:
        raise InputError(
            f"least is {least}, but even with all layers in bfloat16 the lowest cosine is "
            f"{accuracy.worst:.5f}; give a lower one"
        )
    while low < high:
        middle = (low + high) // 2
        tried = measure(f"{middle} of {len(order)} parts left out", frozenset(order[:middle]))
        if tried.worst >= least:
            high, accuracy = middle, tried
        else:
            low = middle + 1
    return tuple(part for part in measure.parts if part in order[:high]), accuracy


class _Measure:
    """Accuracy of a checkpoint with some parts in bfloat16 and the others in int8."""

    def __init__(self, source: str | Path, texts: list[str], max_length: int, say: Say) -> None:
        self.texts, self.max_length, self.say = texts, max_length, say
        self.say(f"float32: {len(texts)} texts")
        exact = Embedder.load(source, device="cpu", dtype="float32", runtime="torch")
        self.ratios = RATIOS if exact.checkpoint.compressor.can_compress else (1.0,)
        self.reference = self.vectors(exact)
        del exact  # float32 weights are large
        self.checkpoint = load_checkpoint(source, keep_int8=True)
        self.parts = _parts(self.checkpoint)
        self._int8 = {
            name: _int8(self.checkpoint.encoder.get_submodule(name))
            for names in self.parts.values()
            for name in names
        }

    def __call__(self, what: str, exact: frozenset[str]) -> Accuracy:
        dtype = "bfloat16" if exact.issuperset(self.parts) else "int8"
        runtime = OpenVINORuntime(self.encoder(exact), dtype=dtype)
        cosines = (self.vectors(Embedder(self.checkpoint, runtime)) * self.reference).sum(-1)
        accuracy = Accuracy(worst=float(cosines.min()), mean=float(cosines.mean()))
        self.say(f"{what}: lowest cosine {accuracy.worst:.5f}, mean {accuracy.mean:.5f}")
        return accuracy

    def vectors(self, embedder: Embedder) -> np.ndarray:
        """Unit vectors at each ratio, shape (ratios, N, E), float64."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", LongTextWarning)
            parts = [
                embedder.encode(self.texts, ratio=ratio, max_length=self.max_length, normalize=True)
                for ratio in self.ratios
            ]
        return np.stack(parts).astype(np.float64)

    def encoder(self, exact: frozenset[str]) -> Encoder:
        """The model with int8 parts but for ``exact``, where matrices are bfloat16; vectors are as stored."""
        with shapes_only():
            encoder = Encoder(self.checkpoint.info.config)
        weights: dict[str, Tensor] = {}
        for name, module in self.checkpoint.encoder.named_modules():
            for key, value in module.named_parameters(recurse=False):
                weights[f"{name}.{key}"] = value.detach().bfloat16() if value.ndim == 2 else value.detach()
            if isinstance(module, Int8Matrix):
                weights[f"{name}.weight"] = module.weight
        for part, names in self.parts.items():
            for name in names:
                whole, scale = self._int8[name]
                if part in exact:
                    weights[f"{name}.weight"] = _dense(self.checkpoint.encoder.get_submodule(name)).bfloat16()
                else:
                    weights[f"{name}.weight"], weights[f"{name}.scale"] = whole, scale
                    encoder.set_submodule(name, int8_like(encoder.get_submodule(name)))
        encoder.load_state_dict(weights, assign=True)
        return encoder.eval()


def _parts(checkpoint: Checkpoint) -> dict[str, list[str]]:
    """Names of modules with int8 matrices, by part: the token table, and each layer of the backbone."""
    backbone = checkpoint.encoder.backbone
    parts: dict[str, list[str]] = {}
    for name, module in backbone.named_modules(prefix="backbone"):
        if module is backbone.token_table:
            parts[TOKENS] = [name]
        elif hasattr(module, "weight") and not isinstance(module, nn.Embedding) and module.weight.ndim == 2:
            number = next(piece for piece in name.split(".") if piece.isdigit())
            parts.setdefault(f"layer {number}", []).append(name)
    return parts


def _int8(module: nn.Module) -> tuple[Tensor, Tensor]:
    if isinstance(module, Int8Matrix):
        return module.weight, module.scale
    weight = module.weight
    assert isinstance(weight, Tensor)
    return quantize_rows(weight)


def _dense(module: nn.Module) -> Tensor:
    weight = module.dense() if isinstance(module, Int8Matrix) else module.weight
    assert isinstance(weight, Tensor)
    return weight.detach()


def _size(folder: Path) -> int:
    return sum(path.stat().st_size for path in weight_files(folder))
