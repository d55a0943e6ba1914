"""``jaspertc export``: a model as one ONNX file, with the dial inside."""

from pathlib import Path
from typing import Annotated

import typer

from jaspertc.cli.progress import say
from jaspertc.cli.vocabulary import MinCount, Scripts, Vocabulary, VocabularyField, check_vocabulary, pruned


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
    vocabulary: Vocabulary = None,
    text_field: VocabularyField = "text",
    min_count: MinCount = 1,
    scripts: Scripts = None,
    characters: Annotated[
        bool,
        typer.Option(help="With --vocabulary: keep single characters that do not occur, or drop them."),
    ] = True,
    pooler: Annotated[str | None, typer.Option(help="Pooling, if the model's folder names none.")] = None,
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace OUT, and what differs beside it.")
    ] = False,
) -> None:
    """Write MODEL as one ONNX file whose inputs are token ids, mask, ratio and threshold.

    It runs wherever ONNX Runtime does, browsers included. Needs onnx: pip install 'jaspertc[export]'.
    """
    from jaspertc.checkpoint import load_checkpoint
    from jaspertc.export.write import export as exported

    check_vocabulary(vocabulary, text_field, min_count, scripts, characters=characters)
    vocabulary_kept = None
    if vocabulary:
        tokenizer = load_checkpoint(model).tokenizer
        vocabulary_kept = pruned(tokenizer, vocabulary, text_field, min_count, scripts, characters=characters)
    result = exported(
        model,
        out,
        weights=weights,
        ratio=ratio,
        threshold=threshold,
        defaults=defaults,
        pooler=pooler,
        pruned=vocabulary_kept,
        overwrite=overwrite,
    )
    beside = ", ".join(path.name for path in (*result.model[1:], *result.beside))
    say(f"{out}: {result.size / 1e6:.1f} MB; beside it {beside}")
