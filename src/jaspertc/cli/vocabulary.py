"""Options of ``graft`` and ``export`` that keep only the tokens of given texts."""

from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jaspertc.cli.options import TEXT_FILES
from jaspertc.cli.progress import say
from jaspertc.errors import InputError

if TYPE_CHECKING:
    from jaspertc.text.tokenizer import Tokenizer
    from jaspertc.types import IntArray

Vocabulary = Annotated[
    list[Path] | None, typer.Option(help=f"Texts whose tokens alone are kept: {TEXT_FILES}; repeatable.")
]
VocabularyField = Annotated[str, typer.Option(help="Field of the texts in those files.")]
MinCount = Annotated[int, typer.Option(help="Occurrences that make a token worth keeping.")]
Scripts = Annotated[
    list[str] | None, typer.Option("--script", help="Keep all tokens of a script, such as latin, han.")
]


def check_vocabulary(
    paths: list[Path] | None,
    text_field: str,
    min_count: int,
    scripts: list[str] | None,
    *,
    characters: bool = True,
) -> None:
    """Find out early whether options of ``pruned`` are given without texts.

    Raises:
        InputError: one is; it is named.
    """
    given = {"--text-field": text_field != "text", "--min-count": min_count != 1, "--script": scripts}
    given["--no-characters"] = not characters
    for name in [name for name, is_given in given.items() if is_given and not paths]:
        raise InputError(f"{name} goes with --vocabulary only; leave it out, or give --vocabulary TEXTS")


def pruned(
    tokenizer: "Tokenizer",
    paths: list[Path],
    text_field: str,
    min_count: int,
    scripts: list[str] | None,
    *,
    characters: bool = True,
) -> tuple[str, "IntArray"]:
    """A tokenizer with the tokens of some texts only, as JSON, and their ids.

    Raises:
        InputError: a file holds no texts.
    """
    from jaspertc.checkpoint.vocabulary import prune_to_texts

    tokenizer_json, ids, share = prune_to_texts(
        tokenizer,
        chain.from_iterable(_texts(path, text_field) for path in paths),
        min_count=min_count,
        scripts=scripts or [],
        characters=characters,
    )
    say(f"kept {len(ids):,} of {tokenizer.vocab_size:,} tokens, {share:.3%} of those read")
    return tokenizer_json, ids


def _texts(path: Path, text_field: str) -> Iterator[str]:
    from jaspertc.files.texts import read_texts

    empty = True
    for row in read_texts(path, text_field=text_field):
        empty = False
        yield row.text
    if empty:
        raise InputError(f"{path} holds no texts; leave it out")
