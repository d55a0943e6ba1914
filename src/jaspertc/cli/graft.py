"""``jaspertc graft``: a pretrained embedding checkpoint becomes a token-compression student."""

import tomllib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jaspertc.cli.options import check_out
from jaspertc.cli.progress import say
from jaspertc.cli.vocabulary import MinCount, Scripts, Vocabulary, VocabularyField, check_vocabulary, pruned
from jaspertc.errors import InputError

if TYPE_CHECKING:
    from jaspertc.types import IntArray


def graft(
    source: Annotated[str, typer.Argument(help="Checkpoint folder or hub name to start from.")],
    out: Annotated[Path, typer.Argument(help="Folder to write.")],
    layers: Annotated[
        str | None,
        typer.Option(help="Layers to keep: how many, or which, from 0, such as 0,1,2,5. Default: all."),
    ] = None,
    vocabulary: Vocabulary = None,
    text_field: VocabularyField = "text",
    min_count: MinCount = 1,
    scripts: Scripts = None,
    compressor: Annotated[
        str,
        typer.Option(
            help="As in a recipe: disjoint (windows that share no token; begins as the identity), "
            "residual-swiglu (the same with the report's overlapping windows), swiglu, average ..."
        ),
    ] = "disjoint",
    compressor_key: Annotated[
        list[str] | None,
        typer.Option(help="A key of its own as KEY=VALUE, such as mlp_size=384; may be repeated."),
    ] = None,
    dims: Annotated[int | None, typer.Option(help="Width of a new head. Default: the source's.")] = None,
    prompt: Annotated[
        list[str] | None, typer.Option(help="Prompt as NAME=TEXT, such as 'query=query: '; may be repeated.")
    ] = None,
    default_prompt: Annotated[
        str | None, typer.Option(help="Name of the prompt used when a call names none.")
    ] = None,
    weights: Annotated[str, typer.Option(help="Stored as: keep, float32, bfloat16 or int8.")] = "keep",
    pooler: Annotated[str | None, typer.Option(help="Pooling, if the source's folder names none.")] = None,
    seed: Annotated[int, typer.Option(help="Seed of new weights.")] = 0,
    overwrite: Annotated[bool, typer.Option(help="Replace OUT if it is there.")] = False,
) -> None:
    """Make a token-compression student of SOURCE: fewer layers, fewer tokens, a compressor and a head.

    With all layers, all tokens and no new head, its vectors at ratio 1 equal the source's, except of texts
    with invisible characters (zero-width spaces, soft hyphens, directional marks): a student leaves them out.
    """
    from jaspertc.checkpoint import load_checkpoint, save_checkpoint
    from jaspertc.checkpoint.surgery import graft

    check_vocabulary(vocabulary, text_field, min_count, scripts)
    prompts = dict(_split_prompt(item) for item in prompt or [])
    checkpoint = load_checkpoint(source, pooler=pooler)
    info = checkpoint.info
    prompts = {**info.prompts, **prompts}
    if default_prompt is not None and default_prompt not in prompts:
        raise InputError(
            f"--default-prompt is {default_prompt!r}, there are the prompts {', '.join(prompts) or 'none'}; "
            "name one of them, or add it with --prompt"
        )
    check_out(out, overwrite=overwrite)
    tokenizer = checkpoint.tokenizer.without_invisible()
    tokenizer_json, keep = tokenizer.to_json(), None
    if vocabulary:
        tokenizer_json, keep = pruned(tokenizer, vocabulary, text_field, min_count, scripts)
    student = graft(
        checkpoint.encoder,
        layers=_layers(layers),
        keep_tokens=keep,
        compressor=compressor,
        keys=dict(_key_value(item) for item in compressor_key or []),
        dims=dims,
        seed=seed,
    )
    save_checkpoint(
        out,
        student,
        tokenizer_json=tokenizer_json,
        prompts=prompts,
        default_prompt_name=default_prompt or info.default_prompt_name,
        # A limit in tokens came from the positions; compression fits longer texts to them.
        max_length=None,
        fallback_id=_renumbered(info.fallback_id, keep),
        piece_length=info.piece_length,
        weights=weights,
        overwrite=overwrite,
    )
    size = sum(path.stat().st_size for path in out.rglob("*") if path.is_file())
    say(
        f"{out}: {student.config.backbone.num_layers} layers, {student.config.embedding_dims} dims, "
        f"{sum(p.numel() for p in student.parameters()) / 1e6:.1f}M parameters, {size / 1e6:.1f} MB"
    )


def _layers(value: str | None) -> int | list[int] | None:
    parts = [] if value is None else value.split(",")
    if not all(part.strip().isdecimal() for part in parts):
        raise InputError(f"--layers is {value!r}, it must be a number, or numbers such as 0,1,2,5")
    if len(parts) < 2:
        return int(parts[0]) if parts else None
    return [int(part) for part in parts]


def _split_prompt(item: str) -> tuple[str, str]:
    name, equals, text = item.partition("=")
    if not (name and equals):
        raise InputError(f"--prompt is {item!r}, it must be NAME=TEXT, such as 'query=query: '")
    return name, text


def _key_value(item: str) -> tuple[str, Any]:
    """KEY=VALUE with the value as in TOML, or a plain string."""
    key, equals, value = item.partition("=")
    if not (key and equals):
        raise InputError(f"--compressor-key is {item!r}, it must be KEY=VALUE, such as mlp_size=384")
    try:
        return key, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key, value


def _renumbered(token_id: int | None, keep: "IntArray | None") -> int | None:
    if token_id is None or keep is None:
        return token_id
    return int(keep.searchsorted(token_id)) if token_id in keep else None
