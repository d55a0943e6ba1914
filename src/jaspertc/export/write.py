"""From a checkpoint to an ONNX file and what lies beside it."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from jaspertc.checkpoint import load_checkpoint
from jaspertc.checkpoint.load import TOKENIZER
from jaspertc.errors import InputError, MissingExtraError
from jaspertc.model.lengths import check_ratio
from jaspertc.types import IntArray


@dataclass(frozen=True, kw_only=True)
class Exported:
    """What was written.

    Attributes:
        model: the files that hold the graph and its weights.
        beside: tokenizer, settings and README.
    """

    model: Sequence[Path]
    beside: Sequence[Path]

    @property
    def size(self) -> int:
        """Bytes of graph and weights."""
        return sum(path.stat().st_size for path in self.model)


def export(
    name: str | Path,
    out: Path,
    *,
    weights: str = "float32",
    ratio: float | None = None,
    threshold: int | None = None,
    defaults: bool = True,
    pooler: str | None = None,
    pruned: tuple[str, IntArray] | None = None,
    raw: bool = False,
    external: bool | None = None,
    overwrite: bool = False,
) -> Exported:
    """Write a model as one ONNX file with the dial inside.

    Args:
        name: ``mini``, a checkpoint folder or a hub name.
        out: the file, ending in .onnx; its folder is made if needed.
        weights: ``float32``, ``float16`` or ``int8``.
        ratio: the default in the file; left out, the model's.
        threshold: likewise.
        defaults: whether a call may leave out ratio and threshold. ONNX Runtime for JavaScript cannot give a
            value to an input that has a default.
        pooler: overrides the folder's pooling.
        pruned: a ``tokenizer.json`` and the ids that it keeps; see ``checkpoint.vocabulary``.
        raw: a second output: vectors before normalisation.
        external: weights beside the file; by default only beyond 2 GiB.
        overwrite: replace ``out``, and files beside it that differ.

    Raises:
        CheckpointError: ``out`` or a file beside it cannot be written, or compressor or backbone cannot be
            exported.
        RatioError, InputError: an argument is out of range.
        MissingExtraError: onnx is not installed.
    """
    try:
        import onnx  # noqa: F401
    except ImportError as error:
        raise MissingExtraError("onnx", "export", "exporting a model") from error
    from jaspertc.export.encoder import build
    from jaspertc.export.folder import Facts, beside, check_beside, check_output, write_beside
    from jaspertc.export.graph import save
    from jaspertc.export.products import check_weights

    check_weights(weights)
    for option, value in (("ratio", ratio), ("threshold", threshold)):
        if value is not None and not defaults:
            raise InputError(
                f"{option} is {value}, for calls that give none; without defaults every call gives one, "
                "so leave it out"
            )
    check_output(out, overwrite=overwrite)
    checkpoint = load_checkpoint(name, pooler=pooler, keep_int8=True)
    usual = checkpoint.info.config.compressor
    chosen = replace(
        usual,
        ratio=usual.ratio if ratio is None else float(check_ratio(ratio)),
        threshold=usual.threshold if threshold is None else threshold,
    )
    facts = Facts.of(checkpoint, weights, chosen.ratio, chosen.threshold)
    has_tokenizer = (checkpoint.folder / TOKENIZER).is_file()
    tokenizer = checkpoint.tokenizer.to_json() if has_tokenizer else None
    contents = beside(out, facts, tokenizer if pruned is None else pruned[0])
    if not overwrite:
        check_beside(contents)
    built = build(
        checkpoint,
        weights=weights,
        ratio=chosen.ratio,
        threshold=chosen.threshold,
        keep=None if pruned is None else pruned[1],
        defaults=defaults,
        raw=raw,
    )
    out.parent.mkdir(parents=True, exist_ok=True)
    files = save(
        built.graph,
        out,
        inputs=built.inputs,
        outputs=built.outputs,
        metadata=facts.metadata(),
        external=external,
    )
    return Exported(model=files, beside=write_beside(contents))
