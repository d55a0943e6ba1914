"""``jaspertc embed``: vectors of a file of texts, of any size, in a run that can be killed and goes on."""

import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jaspertc.cli.scale import Address, Engine, HourlyCost, WorkerCpus, WorkerGpus, Workers

if TYPE_CHECKING:
    from rich.progress import Progress, TaskID

    from jaspertc.corpus.read import Row
    from jaspertc.corpus.write import BlockStore
    from jaspertc.engine.embedder import Embedder


def embed(
    output: Annotated[
        str, typer.Option(help="The file to make: .npy, .jsonl or .parquet. With --engine ray also a folder.")
    ],
    source: Annotated[
        str,
        typer.Argument(
            metavar="INPUT",
            help="A .txt (one text a line), .jsonl, .jsonl.gz or .parquet file; -: stdin. With --engine ray "
            "also a folder or pattern of them, or a URL such as s3://bucket/folder.",
        ),
    ] = "-",
    model: Annotated[str, typer.Option(help="mini, a checkpoint folder or a hub name.")] = "mini",
    ratio: Annotated[
        float | None, typer.Option(help="Compression ratio in (0, 1]; default: the model's.")
    ] = None,
    threshold: Annotated[
        int | None,
        typer.Option(help="Texts up to this many tokens stay whole; default: the model's."),
    ] = None,
    max_compressed: Annotated[
        int | None, typer.Option(help="No text costs more than this many compressed tokens.")
    ] = None,
    max_length: Annotated[
        int | None, typer.Option(help="Tokens kept of each text, before compression; default: the model's.")
    ] = None,
    prompt_name: Annotated[
        str | None, typer.Option(help="One of the model's prompts, such as query or document.")
    ] = None,
    prompt: Annotated[
        str | None, typer.Option(help="Text put before each text; default: the model's default prompt.")
    ] = None,
    dims: Annotated[int | None, typer.Option(help="Width of the vectors; default: all.")] = None,
    precision: Annotated[str, typer.Option(help="float32, float16, int8 or ubinary.")] = "float32",
    text_field: Annotated[str, typer.Option(help="JSON field or parquet column with the text.")] = "text",
    id_field: Annotated[
        str | None,
        typer.Option(help="JSON field or parquet column with the id; default: id, if present."),
    ] = None,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Texts a block; a killed run loses one block at most.")
    ] = 1024,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:1 ...")] = "auto",
    dtype: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
    resume: Annotated[
        bool, typer.Option(help="Go on after the last block that an earlier run of this command finished.")
    ] = True,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace OUTPUT if it exists.")] = False,
    engine: Engine = "local",
    workers: Workers = None,
    worker_cpus: WorkerCpus = 1.0,
    worker_gpus: WorkerGpus = 0.0,
    address: Address = None,
    hourly_cost: HourlyCost = None,
) -> None:
    """Embed the texts of a file.

    Memory does not grow with the file. Finished blocks are kept in OUTPUT.partial until all are there: after
    an interruption the same command goes on and gives the same bytes.

    .npy holds one row for each text, in order; .jsonl and .parquet also hold the ids. --engine ray leaves out
    bad rows, lists them in _bad.jsonl, and needs: pip install 'jaspertc[ray]'.
    """
    from jaspertc.cli.scale import cost_note, embed_on_ray, is_ray, pool_of

    if is_ray(engine):
        encode: dict[str, Any] = {"ratio": ratio, "threshold": threshold, "max_compressed": max_compressed}
        encode |= {"max_length": max_length, "prompt": prompt, "prompt_name": prompt_name}
        encode |= {"dims": dims, "precision": precision}
        job: dict[str, Any] = {"source": source, "output": output, "model": model, "encode": encode}
        job |= {"text_field": text_field, "id_field": id_field, "shard_rows": batch_size}
        job |= {"device": device, "dtype": dtype, "resume": resume, "overwrite": overwrite}
        embed_on_ray(job, pool_of(workers, worker_cpus, worker_gpus, address), hourly_cost)
        return
    from jaspertc.corpus.read import STDIN, blocks, count_rows, read_texts, source_identity
    from jaspertc.corpus.write import BlockStore, check_target
    from jaspertc.errors import DataFileError

    # What can be wrong with the files is found before the model is loaded, which is slow.
    target = Path(output)
    check_target(target, overwrite=overwrite)
    rows = read_texts(source, text_field, id_field)
    if source != STDIN and target.exists() and target.samefile(source):
        raise DataFileError(f"{output} is the input; give another --output")
    identity = None if source == STDIN else source_identity(source)
    if identity is None and sys.stdin.isatty():
        typer.echo("reading texts from the keyboard, one a line; Ctrl-D ends", err=True)

    from jaspertc.engine.embedder import Embedder

    embedder = Embedder.load(model, device=device, dtype=dtype)
    options: dict[str, Any] = {
        "ratio": embedder.default_ratio if ratio is None else ratio,
        "threshold": embedder.default_threshold if threshold is None else threshold,
        "max_compressed": max_compressed,
        "max_length": embedder.max_length if max_length is None else max_length,
        "prompt": embedder.prompt_text(prompt, prompt_name),
        "dims": dims,
        "precision": precision,
    }
    settings = {
        **options,
        "model": embedder.fingerprint,
        "device": embedder.runtime.device.type,
        "dtype": embedder.runtime.precision,
        "text field": text_field,
        "id field": id_field,
        "batch size": batch_size,
    }
    no_vectors = embedder.encode([], **options)
    total = count_rows(source)
    with BlockStore(target, settings, identity, resume=resume, overwrite=overwrite) as store:
        done_before, started = store.rows, time.monotonic()
        if not store.finished:
            _embed_blocks(embedder, options, store, blocks(islice(rows, store.rows, None), batch_size), total)
            if identity is not None and source_identity(source) != identity:
                raise DataFileError(f"{source} changed while it was read; run with --no-resume to start over")
        store.finish(no_vectors)
    seconds, count = time.monotonic() - started, store.rows - done_before
    if not store.rows:
        typer.echo(f"warning: {source} holds no texts; {output} holds no vectors", err=True)
    before = f", {done_before} were done before" if done_before else ""
    rate = f"{count / max(seconds, 1e-9):.4g} texts/s{cost_note(hourly_cost, seconds, count)}"
    typer.echo(f"{count} texts in {seconds:.1f} s ({rate}){before}: {output}", err=True)


def _embed_blocks(
    embedder: "Embedder",
    options: dict[str, Any],
    store: "BlockStore",
    blocks: Iterator[list["Row"]],
    total: int | None,
) -> None:
    """Embed the blocks one by one, each stored before the next is read."""
    first_warning, warned = "", 0
    with _progress(total, store.rows) as (progress, task):
        started = time.monotonic()
        done_before = store.rows
        for block in blocks:
            vectors, warning = _encoded(embedder, [row.text for row in block], options)
            ids = [row.id for row in block if row.id is not None]
            store.add(vectors, ids or None)
            if warning:
                first_warning, warned = first_warning or f"block {store.blocks}: {warning}", warned + 1
            speed = (store.rows - done_before) / max(time.monotonic() - started, 1e-9)
            progress.update(task, advance=len(block), speed=f"{speed:.4g} texts/s")
    if first_warning:
        others = f"; so in {warned - 1} other blocks" if warned > 1 else ""
        typer.echo(f"warning: {first_warning}{others}", err=True)


def _encoded(embedder: "Embedder", texts: list[str], options: dict[str, Any]) -> tuple[Any, str]:
    """Vectors, and the warning about long texts: one a block would flood the screen, so it is not shown."""
    from jaspertc.engine.inputs import LongTextWarning

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", LongTextWarning)
        vectors = embedder.encode(texts, **options)
    found = ""
    for item in caught:
        if issubclass(item.category, LongTextWarning):
            found = str(item.message)
        else:
            warnings.warn_explicit(item.message, item.category, item.filename, item.lineno)
    return vectors, found


@contextmanager
def _progress(total: int | None, done: int) -> Iterator[tuple["Progress", "TaskID"]]:
    """A bar on standard error, if that is a terminal."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

    console = Console(stderr=True)
    columns = (
        TextColumn("embedding"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.fields[speed]}"),
        TimeRemainingColumn(),
    )
    # The time left is estimated from updates, and a block can take minutes.
    bar = Progress(*columns, console=console, disable=not console.is_terminal, speed_estimate_period=600)
    with bar:
        yield bar, bar.add_task("embedding", total=total, completed=done, speed="")
