"""``jaspertc embed``: vectors of a file of texts, of any size, in a run that can be killed and goes on."""

import sys
import time
import warnings
from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import closing, contextmanager
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from jaspertc.cli.options import (
    TEXT_FILES,
    Device,
    Dtype,
    IdField,
    ModelOption,
    Runtime,
    TextField,
    Threshold,
)
from jaspertc.cli.progress import progress, say, warn
from jaspertc.cli.scale import Address, Engine, HourlyCost, WorkerCpus, WorkerGpus, Workers

if TYPE_CHECKING:
    from jaspertc.corpus.write import BlockStore
    from jaspertc.engine.embedder import Embedder
    from jaspertc.files.texts import Id, Row
    from jaspertc.types import VectorArray


def embed(
    output: Annotated[
        str, typer.Option(help="The file to make: .npy, .jsonl or .parquet. With --engine ray also a folder.")
    ],
    source: Annotated[
        str,
        typer.Argument(
            metavar="INPUT",
            help=f"{TEXT_FILES}; -: stdin, one text a line. With --engine ray also on a URL such as "
            "s3://bucket/folder, and no stdin.",
        ),
    ] = "-",
    model: ModelOption = "mini",
    ratio: Annotated[
        float | None, typer.Option(help="Compression ratio in (0, 1]; default: the model's.")
    ] = None,
    threshold: Threshold = None,
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
    tokens: Annotated[
        int | None, typer.Option(help="Tokens of a picture: 1, 4, 9, 16 ...; default: the model's.")
    ] = None,
    text_field: TextField = "text",
    id_field: IdField = None,
    batch_size: Annotated[
        int, typer.Option(min=1, help="Texts a block, fewer if long; a killed run loses the blocks in hand.")
    ] = 4096,
    device: Device = "auto",
    dtype: Dtype = "auto",
    runtime: Runtime = "auto",
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

    A folder of pictures is embedded by a model that knows them; files that cannot be read get no vector, and
    are listed in OUTPUT.bad.jsonl.
    """
    from jaspertc.cli.scale import cost_note, embed_on_ray, pool_of
    from jaspertc.errors import DataFileError, InputError

    pool = pool_of(engine, workers, worker_cpus, worker_gpus, address)
    if pool is not None:
        if runtime != "auto":
            raise InputError(f"--runtime is {runtime!r}, with --engine ray each worker chooses; leave it out")
        encode: dict[str, Any] = {"ratio": ratio, "threshold": threshold, "max_compressed": max_compressed}
        encode |= {"max_length": max_length, "prompt": prompt, "prompt_name": prompt_name}
        encode |= {"dims": dims, "precision": precision}
        job: dict[str, Any] = {"source": source, "output": output, "model": model, "encode": encode}
        job |= {"text_field": text_field, "id_field": id_field, "shard_rows": batch_size}
        job |= {"device": device, "dtype": dtype, "resume": resume, "overwrite": overwrite}
        embed_on_ray(job, pool, hourly_cost)
        return
    from jaspertc.corpus.pictures import is_picture_folder

    if source != "-" and is_picture_folder(source):
        from jaspertc.cli.pictures import embed_pictures

        text_options: dict[str, object] = {"--ratio": ratio, "--threshold": threshold}
        text_options |= {"--max-compressed": max_compressed}
        text_options |= {"--max-length": max_length, "--prompt-name": prompt_name, "--prompt": prompt}
        for name, value in text_options.items():
            if value is not None:
                raise InputError(f"{name} is for texts, and {source} holds pictures; leave it out")
        embed_pictures(
            Path(source),
            Path(output),
            load={"name": model, "device": device, "dtype": dtype, "runtime": runtime},
            encode={"tokens": tokens, "dims": dims, "precision": precision},
            resume=resume,
            overwrite=overwrite,
        )
        return
    if tokens is not None:
        raise InputError(f"--tokens is for folders of pictures, and {source} is none; see --ratio")
    from jaspertc.corpus.cleaning import check_inputs
    from jaspertc.corpus.write import BlockStore, check_target
    from jaspertc.files.opening import STDIN
    from jaspertc.files.texts import count_rows, read_texts, source_identity

    # What can be wrong with the files is found before the model is loaded, which is slow.
    target = Path(output)
    check_target(target, overwrite=overwrite)
    rows = read_texts(source, text_field, id_field)
    if Path(source).exists() and target.exists() and target.samefile(source):
        raise DataFileError(f"{output} is the input; give another --output")
    check_inputs([source], [target])
    identity = None if source == STDIN else source_identity(source)
    if identity is None and sys.stdin.isatty():
        say("reading texts from the keyboard, one a line; Ctrl-D ends")

    from jaspertc.engine.embedder import Embedder

    embedder = Embedder.load(model, device=device, dtype=dtype, runtime=runtime)
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
        "runtime": embedder.runtime.name,
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
            _embed_rows(embedder, options, store, islice(rows, store.rows, None), batch_size, total)
            if identity is not None and source_identity(source) != identity:
                raise DataFileError(f"{source} changed while it was read; run with --no-resume to start over")
        store.finish(no_vectors)
    seconds, count = time.monotonic() - started, store.rows - done_before
    if not store.rows:
        warn(f"{source} holds no texts; {output} holds no vectors")
    before = f", {done_before} were done before" if done_before else ""
    rate = f"{count / max(seconds, 1e-9):.4g} texts/s{cost_note(hourly_cost, seconds, count)}"
    say(f"{count} texts in {seconds:.1f} s ({rate}){before}: {output}")


def _embed_rows(
    embedder: "Embedder",
    options: dict[str, Any],
    store: "BlockStore",
    rows: Iterable["Row"],
    batch_size: int,
    total: int | None,
) -> None:
    """Embed the rows; while a block is computed, the next is tokenised and the one before is written."""
    from jaspertc.engine.ahead import ahead

    ids: deque[Id | None] = deque()

    def texts() -> Iterator[str]:
        for row in rows:
            ids.append(row.id)
            yield row.text

    def computed() -> Iterator[tuple["VectorArray", list["Id"]]]:
        for vectors in embedder.encode_stream(texts(), block_size=batch_size, **options):
            row_ids = [ids.popleft() for _ in range(len(vectors))]
            yield vectors, [name for name in row_ids if name is not None]

    def write(block: tuple["VectorArray", list["Id"]]) -> int:
        vectors, names = block
        store.add(vectors, names or None)
        return len(vectors)

    with (
        _long_texts_told(),
        progress("embedding", total, done=store.rows, unit="texts") as advance,
        closing(ahead(write, computed())) as written,
    ):
        for count in written:
            advance(count)


@contextmanager
def _long_texts_told() -> Iterator[None]:
    """The warning about long texts as a line without the place in the code, which is none of the user's."""
    from jaspertc.engine.options import LongTextWarning

    caught: list[warnings.WarningMessage] = []
    try:
        with warnings.catch_warnings(record=True) as recorded:
            caught = recorded
            warnings.simplefilter("always", LongTextWarning)
            yield
    finally:
        for item in caught:
            if issubclass(item.category, LongTextWarning):
                warn(str(item.message))
            else:
                warnings.warn_explicit(item.message, item.category, item.filename, item.lineno)
