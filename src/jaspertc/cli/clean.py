"""``jaspertc clean``: raw texts to a corpus without poor texts and repeats."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from jaspertc.cli.options import TEXT_FILES, IdField, TextField
from jaspertc.cli.progress import say, warn

if TYPE_CHECKING:
    from jaspertc.corpus.cleaning import Counts


def clean(
    inputs: Annotated[
        list[str],
        typer.Argument(
            metavar="INPUT...",
            help=f"{TEXT_FILES}; -: stdin, one text a line.",
        ),
    ],
    output: Annotated[Path, typer.Option(help="The file to make: .jsonl, .jsonl.gz or .parquet.")],
    text_field: TextField = "text",
    id_field: IdField = None,
    content_ids: Annotated[
        bool, typer.Option("--content-ids", help="Replace ids by hashes of the texts.")
    ] = False,
    html: Annotated[bool, typer.Option("--html", help="Resolve HTML entities, such as &amp;.")] = False,
    min_characters: Annotated[int, typer.Option(help="Shorter texts are dropped.")] = 4,
    max_characters: Annotated[
        int | None, typer.Option(help="Longer texts are dropped; default: none.")
    ] = None,
    min_letters: Annotated[
        float, typer.Option(help="Least share of letters and digits, white space aside.")
    ] = 0.5,
    max_repeated: Annotated[
        float, typer.Option(help="Largest share of a text in lines that it had before.")
    ] = 0.3,
    near: Annotated[bool, typer.Option(help="Drop near duplicates, too; needs the extra 'train'.")] = True,
    threshold: Annotated[
        float, typer.Option(help="Share of common word or character runs that makes near duplicates.")
    ] = 0.8,
    exclude: Annotated[
        list[str] | None,
        typer.Option(metavar="FILE", help="Drop texts that overlap this file's; may be repeated."),
    ] = None,
    exclude_words: Annotated[int, typer.Option(min=1, help="Words in a row that make an overlap.")] = 9,
    exclude_characters: Annotated[
        int, typer.Option(min=1, help="Chinese characters in a row that make an overlap.")
    ] = 18,
    dropped: Annotated[
        Path | None, typer.Option(help="A .jsonl or .jsonl.gz file to list dropped texts in, with reasons.")
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace files that exist.")] = False,
) -> None:
    """Put texts in order, drop poor ones and repeats, and give each an id for good.

    The first of texts that repeat each other is kept. The same files give the same output, which appears
    whole or not at all.
    """
    import time

    from jaspertc.cli.progress import progress
    from jaspertc.corpus.cleaning import Cleaner, Rules, check_inputs, clean_files, read_excluded
    from jaspertc.corpus.duplicates import Excluded
    from jaspertc.errors import InputError
    from jaspertc.files.lines import ROW_SUFFIXES, check_new_file
    from jaspertc.files.texts import count_rows

    check_new_file(output, "--output", ROW_SUFFIXES, overwrite=overwrite)
    if dropped is not None:
        check_new_file(dropped, "--dropped", overwrite=overwrite)
        if dropped.resolve() == output.resolve():
            raise InputError(f"--output and --dropped are both {output}; give another --dropped")
    check_inputs([*inputs, *(exclude or [])], [output, dropped])
    rules = Rules(
        entities=html,
        min_characters=min_characters,
        max_characters=max_characters,
        min_letters=min_letters,
        max_repeated=max_repeated,
        near=threshold if near else None,
        content_ids=content_ids,
    )
    started, excluded = time.monotonic(), None
    if exclude:
        excluded = Excluded(exclude_words, exclude_characters)
        say(f"{read_excluded(exclude, excluded)} texts to keep out")
    cleaner = Cleaner(rules, excluded)
    sizes = [count_rows(path) for path in inputs]
    total = None if None in sizes else sum(size for size in sizes if size is not None)
    with progress("cleaning", total) as advance:
        counts = clean_files(
            inputs,
            output,
            cleaner,
            text_field=text_field,
            id_field=id_field,
            dropped=dropped,
            advance=advance,
        )
    _print_counts(counts)
    say(f"{counts.kept} of {counts.read} texts in {time.monotonic() - started:.1f} s: {output}")
    if not counts.kept:
        warn(f"{output} holds no texts")


def _print_counts(counts: "Counts") -> None:
    from jaspertc.cli.tables import show
    from jaspertc.reports.content import Table

    numbers = {"read": counts.read, **counts.dropped, "kept": counts.kept, "kept, changed": counts.changed}
    rows = [
        [name, f"{number:,}", f"{number / max(counts.read, 1):.2%}"]
        for name, number in numbers.items()
        if number or name in ("read", "kept")
    ]
    show(Table(title="", columns=["texts", "number", "share"], rows=rows))
