"""``jaspertc index``: put texts of files into a search index, keep it in step with them, look after it."""

from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jaspertc.cli.options import TEXT_FILES, IdField, ModelOption, Runtime, TextField
from jaspertc.cli.progress import quiet, warn, write

if TYPE_CHECKING:
    from collections.abc import Iterator

    from jaspertc.search.documents import Document
    from jaspertc.search.index import SearchIndex


def index(
    files: Annotated[
        list[Path] | None,
        typer.Argument(
            help=f"{TEXT_FILES}; -: stdin; folders of pictures. What they have lost since is removed."
        ),
    ] = None,
    output: Annotated[
        Path, typer.Option(help="The index; created if it is missing, else brought up to date.")
    ] = ...,  # type: ignore[assignment]
    model: ModelOption = "mini",
    ratio: Annotated[
        float | None,
        typer.Option(help="Compression ratio in (0, 1] of new texts; default: the index's, or the model's."),
    ] = None,
    storage: Annotated[
        str | None, typer.Option(help="Of a new index: float32 (default), float16, int8 or ubinary.")
    ] = None,
    passages: Annotated[
        int | None,
        typer.Option(
            help="Of a new index: cut longer texts into passages of so many tokens, such as 128; 0: never."
        ),
    ] = None,
    text_field: TextField = "text",
    id_field: IdField = None,
    refine: Annotated[
        float | None,
        typer.Option(help="Embed what has a lower ratio again at this one, what is found most first."),
    ] = None,
    seconds: Annotated[
        float | None, typer.Option(help="Stop --refine after this time; run it again to go on.")
    ] = None,
    remove: Annotated[
        list[str] | None,
        typer.Option(help="Remove a document by its id, or a file or folder with all its documents."),
    ] = None,
    prune: Annotated[
        bool, typer.Option("--prune", help="Remove the documents of files that are gone.")
    ] = False,
    show: Annotated[
        bool, typer.Option("--list", help="Say what is in the index: files, ratios, storage.")
    ] = False,
    check: Annotated[bool, typer.Option("--check", help="Look for damage.")] = False,
    compact: Annotated[
        bool, typer.Option("--compact", help="Give back the space of what was removed.")
    ] = False,
    centring: Annotated[
        bool | None,
        typer.Option("--centring/--no-centring", help="Whether searches use the mean of past queries."),
    ] = None,
    export: Annotated[
        Path | None,
        typer.Option(
            help="Write ids, texts, metadata and vectors to this .parquet file: new, or an earlier export."
        ),
    ] = None,
    runtime: Runtime = "auto",
) -> None:
    """Add documents to a search index; those that are in it and have not changed are not embedded again.

    Other JSON fields with a string, number, boolean or null become metadata to filter searches by.
    """
    from jaspertc.errors import InputError

    # What can be wrong with the options is found before files are read and the model is loaded.
    upkeep = bool(remove or prune or show or check or compact or export) or centring is not None
    if not (files or upkeep or refine is not None):
        raise InputError(
            "nothing to do: give FILES, --refine, --remove, --prune, --list, --check, --compact, "
            "--centring, --export"
        )
    if seconds is not None and refine is None:
        raise InputError(f"--seconds is {seconds:g}, it goes with --refine only; leave it out")
    if passages is not None and passages < 0:
        raise InputError(f"--passages is {passages}, it must be >= 1, or 0 for whole texts")
    if export is not None:
        from jaspertc.corpus.cleaning import check_inputs
        from jaspertc.search.upkeep import check_export

        check_inputs(files or [], [export])
        check_export(output, export)
    if files:
        from itertools import chain

        from jaspertc.corpus.pictures import is_picture_folder
        from jaspertc.files.texts import expanded
        from jaspertc.search.reading import read_documents, read_pictures

        files = expanded(files)

        # Before the model: it is slow.
        of_pictures = [path for path in files if is_picture_folder(path)]
        texts = [path for path in files if path not in of_pictures]
        left_out: list[str] = []

        def skip(why: str, name: str) -> None:
            """A file that cannot be read does not keep a folder's others from the index."""
            warn(f"left out, and what the index has of it stays: {why}")
            left_out.append(name)

        documents = chain(
            read_documents(texts, folder=output.parent, text_field=text_field, id_field=id_field, skip=skip),
            *(read_pictures(path, folder=output.parent, skip=skip) for path in of_pictures),
        )
        new = {"ratio": ratio, "storage": storage, "passage_tokens": passages}
        with _opened(output, model, runtime, refine, seconds, **new) as opened:
            _add(opened, files, documents, left_out)
            if refine is not None:
                _refine(opened, refine, seconds)
    elif refine is not None:
        from jaspertc.search.schema import describe

        name = describe(output).model if model == "mini" else model
        with _opened(output, name, runtime, refine, seconds) as opened:
            _refine(opened, refine, seconds)
    if upkeep:
        _look_after(output, remove or [], prune, compact, centring, export, show=show, check=check)


@contextmanager
def _opened(
    output: Path, model: str, runtime: str, refine: float | None, seconds: float | None, **new: Any
) -> "Iterator[SearchIndex]":
    """The index; if it is missing, one with the settings ``new``, removed if it fails without
    any document."""
    from jaspertc.engine.embedder import Embedder
    from jaspertc.search.index import SearchIndex
    from jaspertc.search.refining import check_refining
    from jaspertc.search.upkeep import remove_empty

    embedder = Embedder.load(model, runtime=runtime)
    if refine is not None:  # before hours of indexing
        check_refining(embedder, refine, seconds)
    is_new = not output.exists()
    try:
        with SearchIndex.create_or_open(output, embedder, **new) as index:
            yield index
    except BaseException:
        if is_new:
            remove_empty(output)
        raise


def _add(
    opened: "SearchIndex", files: list[Path], documents: "Iterator[Document]", left_out: list[str]
) -> None:
    from jaspertc.search.reading import source_name

    sources = [source_name(path, opened.path.parent) for path in files if str(path) != "-"]
    report = opened.sync(documents, sources, keep=left_out, show_progress=not quiet.get())
    write(
        f"{opened.path}: {report.added} added, {report.updated} updated, {report.unchanged} unchanged, "
        f"{report.removed} removed; {len(opened)} documents in the index "
        f"(model {opened.info.model}, ratio {opened.ratio:g})"
    )


def _refine(opened: "SearchIndex", ratio: float, seconds: float | None) -> None:
    from jaspertc.search.refining import refine

    report = refine(opened, ratio, seconds=seconds)
    write(f"{opened.path}: {report.refined} refined to ratio {ratio:g}, {report.left} below it left")


def _look_after(
    path: Path,
    remove: list[str],
    prune: bool,
    compact: bool,
    centring: bool | None,
    export: Path | None,
    *,
    show: bool,
    check: bool,
) -> None:
    """In an order in which each sees what the one before has done."""
    from jaspertc.search import upkeep

    if remove:
        write(f"{path}: {upkeep.remove(path, remove)} documents removed")
    if prune:
        write(f"{path}: {upkeep.prune(path)} documents of files that are gone removed")
    if centring is not None:
        upkeep.set_centring(path, centring)
    if compact:
        before, after = upkeep.compact(path)
        write(f"{path}: {before / 2**20:.1f} MiB before, {after / 2**20:.1f} MiB now")
    if export:
        write(f"{export}: {upkeep.export(path, export)} rows")
    if check:
        upkeep.check(path)
        write(f"{path}: no damage")
    if show:
        _list(path)


def _list(path: Path) -> None:
    from jaspertc.cli.tables import show as show_table
    from jaspertc.reports.content import Table
    from jaspertc.search import upkeep

    contents = upkeep.contents(path)
    info = contents.info
    facts = {
        "documents": f"{info.documents:,}",
        "passages": f"{sum(contents.ratios.values()):,}"
        + (f", up to {info.passage_tokens} tokens" if info.passage_tokens else ", one a document"),
        "model": f"{info.model}, {info.dims} dims, fingerprint {info.fingerprint}",
        "storage": info.storage,
        "by ratio": ", ".join(f"{ratio:g}: {count:,}" for ratio, count in contents.ratios.items()),
        "ratio of new texts": f"{info.ratio:g}",
        "searches learned from": f"{contents.queries:,}, centring {contents.centring}",
        "size": f"{path.stat().st_size / 2**20:.1f} MiB",
    }
    for name, value in facts.items():
        write(f"{name}: {value}")
    rows = [[name or "(from no file)", f"{count:,}"] for name, count in contents.sources.items()]
    show_table(Table(title="", columns=["file", "documents"], rows=rows))
