"""``jaspertc export``: a model as one ONNX file, with the dial inside."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jaspertc.cli.options import TEXT_FILES
from jaspertc.cli.progress import say

if TYPE_CHECKING:
    from jaspertc.types import IntArray


def export(
    model: Annotated[str, typer.Argument(help="mini, a checkpoint folder or a hub name.")],
    out: Annotated[
        Path, typer.Argument(help="File to write, OUT.onnx; its folder gets a tokenizer.json too.")
    ],
    weights: Annotated[str, typer.Option(help="float32, float16 or int8.")] = "float32",
    ratio: Annotated[
        float | None, typer.Option(help="Ratio of calls that give none, in (0, 1]. Default: the model's.")
    ] = None,
    threshold: Annotated[
        int | None, typer.Option(help="Threshold of calls that give none, >= 1. Default: the model's.")
    ] = None,
    defaults: Annotated[
        bool,
        typer.Option(
            help="Whether a call may leave ratio and threshold out. For JavaScript: --no-defaults, its ONNX "
            "Runtime cannot set inputs that have defaults."
        ),
    ] = True,
    vocabulary: Annotated[
        list[Path] | None,
        typer.Option(help=f"Texts whose tokens alone are kept: {TEXT_FILES}; repeatable."),
    ] = None,
    text_field: Annotated[str, typer.Option(help="Field of the texts in those files.")] = "text",
    min_count: Annotated[int, typer.Option(help="Occurrences that make a token worth keeping.")] = 1,
    scripts: Annotated[
        list[str] | None, typer.Option("--script", help="Keep all tokens of a script, such as latin, han.")
    ] = None,
    pooler: Annotated[str | None, typer.Option(help="Pooling, if the model's folder names none.")] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUT if it is there.")] = False,
) -> None:
    """Write MODEL as one ONNX file whose inputs are token ids, mask, ratio and threshold.

    It runs wherever ONNX Runtime does, browsers included. Needs onnx: pip install 'jaspertc[export]'.
    """
    from jaspertc.export.write import export as exported

    pruned = _pruned(model, vocabulary, text_field, min_count, scripts or []) if vocabulary else None
    result = exported(
        model,
        out,
        weights=weights,
        ratio=ratio,
        threshold=threshold,
        defaults=defaults,
        pooler=pooler,
        pruned=pruned,
        overwrite=overwrite,
    )
    beside = ", ".join(path.name for path in (*result.model[1:], *result.beside))
    say(f"{out}: {result.size / 1e6:.1f} MB; beside it {beside}")


def _pruned(
    model: str, paths: list[Path], text_field: str, min_count: int, scripts: list[str]
) -> tuple[str, "IntArray"]:
    """The model's tokenizer with the tokens of some texts only, and their ids."""
    from itertools import chain

    from jaspertc.checkpoint import load_checkpoint
    from jaspertc.checkpoint.vocabulary import prune_to_texts
    from jaspertc.files.texts import read_texts

    rows = chain.from_iterable(read_texts(path, text_field=text_field) for path in paths)
    tokenizer = load_checkpoint(model).tokenizer
    pruned, keep, share = prune_to_texts(
        tokenizer, (row.text for row in rows), min_count=min_count, scripts=scripts
    )
    say(f"kept {len(keep):,} of {tokenizer.vocab_size:,} tokens, {share:.3%} of those read")
    return pruned, keep
