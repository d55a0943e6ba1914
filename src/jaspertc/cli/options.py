"""Options that several commands have."""

from pathlib import Path
from typing import Annotated

import typer

from jaspertc.errors import CheckpointError

Runtime = Annotated[
    str,
    typer.Option(
        help="What computes: torch, openvino or onnxruntime (CPU), or auto: what `inspect --runtimes` found "
        "fastest here; before that, openvino for int8 weights on a CPU, else torch."
    ),
]
ModelArgument = Annotated[str, typer.Argument(help="mini, a checkpoint folder or a hub name.")]
ModelOption = Annotated[str, typer.Option("--model", help="mini, a checkpoint folder or a hub name.")]
Device = Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")]
Dtype = Annotated[str, typer.Option(help="auto, float32 or bfloat16.")]
Threshold = Annotated[
    int | None, typer.Option(help="Texts up to this many tokens stay whole; default: the model's.")
]
TEXT_FILES = ".txt, .md, .html, .jsonl, .csv (each also .gz or .zst) or .parquet, a folder or quoted pattern"
TextField = Annotated[str, typer.Option(help="JSON field or column with the text.")]
IdField = Annotated[
    str | None, typer.Option(help="JSON field or column with the id; default: id, if present.")
]


def check_out(out: Path, *, overwrite: bool) -> None:
    """Raise CheckpointError unless a command may write a checkpoint to the folder ``out``."""
    from jaspertc.checkpoint.save import check_folder

    check_folder(out, overwrite=True)  # with it, too, only a checkpoint is replaced
    if not overwrite and out.exists() and any(out.iterdir()):
        raise CheckpointError(f"{out} already exists; choose another folder, or --overwrite to replace it")
