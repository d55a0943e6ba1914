"""``jaspertc embed --engine ray``: workers read units of the corpus, embed them and write the shards."""

import shutil
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jaspertc.cluster.meter import Meter
from jaspertc.cluster.output import DONE, Output, Shard
from jaspertc.cluster.reading import Fields
from jaspertc.cluster.session import Pool, cluster, mapped, require_ray
from jaspertc.cluster.storage import full_url, is_local
from jaspertc.cluster.units import Unit, cut, find_inputs, id_kind, identity_of, texts_by_file
from jaspertc.cluster.workers import EmbedWorker
from jaspertc.corpus.formats import WRITERS, Block, write_output
from jaspertc.corpus.write import check_target
from jaspertc.errors import DataFileError
from jaspertc.files.aside import written_aside
from jaspertc.files.lock import locked
from jaspertc.files.texts import DEFAULT_ID_FIELD

MOST_TEXT_BYTES = 1 << 20

OnUnit = Callable[[Meter], None]


@dataclass(frozen=True, kw_only=True)
class EmbedJob:
    """What is to be done; see the command's options.

    Args:
        source: files, on a path or fsspec URL.
        output: a folder or its URL, or a file of the local engine's kinds, which is put together at the end.
        encode: keyword arguments of ``Embedder.encode``; ``None`` where the model has a default.
        shard_rows: texts of a shard, about.
        most_bytes: longest text, in bytes of UTF-8; longer ones are reported and left out.
    """

    source: str
    output: str
    model: str = "mini"
    encode: Mapping[str, Any] = field(default_factory=dict)
    text_field: str = "text"
    id_field: str | None = None
    shard_rows: int = 1024
    most_bytes: int = MOST_TEXT_BYTES
    device: str = "auto"
    dtype: str = "auto"
    resume: bool = True
    overwrite: bool = False

    @property
    def file(self) -> Path | None:
        """The one file to make, or ``None`` for a folder."""
        return Path(self.output) if self.output.lower().endswith(tuple(WRITERS)) else None

    @property
    def folder(self) -> str:
        """Where the shards go."""
        return self.output if self.file is None else f"{self.output}.shards"


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What a run has done: rows in all, texts embedded now, how many rows are bad and why, and where."""

    rows: int
    texts: int
    bad: Mapping[str, int]
    folder: str
    progress: str
    warning: str


def embed_on_cluster(
    job: EmbedJob,
    pool: Pool,
    *,
    hourly_cost: float | None = None,
    say: Callable[[str], None] = lambda line: None,
    on_unit: OnUnit = lambda meter: None,
) -> Summary:
    """Embed a corpus. Shards that an earlier run finished are not made again.

    Args:
        hourly_cost: of all workers, for the cost of a million texts.
        say: told what is going on, a line at a time.
        on_unit: called after each unit.

    Raises:
        MissingExtraError: Ray is not installed.
        DataFileError: input or output cannot be used; output and model do not fit what is there.
        ClusterError: the cluster cannot be started, or a worker has failed for good.
    """
    require_ray()
    if job.file is not None:
        if not is_local(job.output):
            raise DataFileError(f"{job.output} is one file on an object store; give a folder as --output")
        check_target(job.file, overwrite=job.overwrite)
    urls = find_inputs(job.source)
    by_file = texts_by_file(job.source, urls)
    fields = Fields(
        text=job.text_field,
        id=job.id_field or DEFAULT_ID_FIELD,
        ids=id_kind(urls[0], job.id_field, job.text_field, by_file),
        most_bytes=job.most_bytes,
    )
    say(f"{len(urls)} files; loading the model")
    options, settings, empty = _settings(job)
    made_of = {**settings, "ids": fields.ids, "longest text": job.most_bytes, "input": identity_of(urls)}
    with ExitStack() as stack:
        if is_local(job.folder):
            notes = Path(job.folder) / DONE
            notes.mkdir(parents=True, exist_ok=True)
            stack.enter_context(locked(notes))
        output = Output(job.folder, made_of, resume=job.resume)
        units = cut(urls, job.shard_rows, by_file)
        missing = [unit for unit in units if unit.number not in output.shards]
        say(f"{len(units)} shards, {len(units) - len(missing)} of them done before")
        arguments = {
            "output": full_url(job.folder),
            "model": str(Path(job.model).resolve()) if Path(job.model).is_dir() else job.model,
            "device": job.device,
            "dtype": job.dtype,
            "fingerprint": settings["model"],
            "options": options,
            "fields": fields,
            "threads": pool.threads,
        }
        meter, warning = _work(output, missing, len(units), arguments, pool, hourly_cost, on_unit)
        if fields.ids != "none":
            output.drop_duplicates()
        bad = output.finish()
        if job.file is not None:
            _put_together(job.file, output, empty, bad, with_ids=fields.ids != "none")
    if job.file is not None and not bad:
        shutil.rmtree(job.folder, ignore_errors=True)
    return Summary(
        rows=sum(shard.rows for shard in output.shards.values()),
        texts=meter.texts,
        bad=bad,
        folder=output.folder.url,
        progress=meter.line(),
        warning=warning,
    )


def _settings(job: EmbedJob) -> tuple[dict[str, Any], dict[str, Any], npt.NDArray[Any]]:
    """Options of ``encode`` with the model's defaults, all that vectors depend on, and vectors of no text."""
    from jaspertc.engine.embedder import Embedder

    embedder = Embedder.load(job.model, device="cpu")
    given = dict(job.encode)
    prompt = embedder.prompt_text(given.pop("prompt", None), given.pop("prompt_name", None))
    defaults = {
        "ratio": embedder.default_ratio,
        "threshold": embedder.default_threshold,
        "max_length": embedder.max_length,
    }
    known = {name: value for name, value in given.items() if value is not None}
    options = {**defaults, **known, "prompt": prompt}
    settings = {
        **options,
        "model": embedder.fingerprint,
        "device": job.device,
        "dtype": job.dtype,
        "text field": job.text_field,
        "id field": job.id_field,
        "shard rows": job.shard_rows,
    }
    return options, settings, np.asarray(embedder.encode([], **options))


def _work(
    output: Output,
    missing: list[Unit],
    total: int,
    arguments: Mapping[str, Any],
    pool: Pool,
    hourly_cost: float | None,
    on_unit: OnUnit,
) -> tuple[Meter, str]:
    meter = Meter(total, total - len(missing), hourly_cost=hourly_cost)
    warning, warned = "", 0
    if missing:
        with cluster(pool) as workers:
            meter = Meter(total, total - len(missing), hourly_cost=hourly_cost)
            items = [{"unit": unit.to_json()} for unit in missing]
            for row in mapped(items, EmbedWorker, arguments, pool, workers):
                meter.add(row["rows"], row["tokens"])
                warning, warned = warning or row["warning"], warned + bool(row["warning"])
                on_unit(meter)
        output.reload()
    others = f"; so in {warned - 1} other shards" if warned > 1 else ""
    return meter, f"{warning}{others}"


def _put_together(
    target: Path, output: Output, empty: npt.NDArray[Any], bad: Mapping[str, int], *, with_ids: bool
) -> None:
    """Make one file of the shards, as the local engine does."""
    if bad and (target.suffix.lower() == ".npy" or not with_ids):
        raise DataFileError(
            f"{sum(bad.values())} rows got no vector (see {output.folder.url}/_bad.jsonl) and {target} has "
            "no ids that would say which; correct them, or give a folder as --output"
        )
    shards = [output.shards[number] for number in sorted(output.shards) if output.shards[number].rows]

    def read(index: int, ids_only: bool = False) -> Block:
        block = output.read(shards[index])
        return block if with_ids else Block(block.vectors, None)

    with written_aside(target) as file:
        write_output(file, target, read, range(len(shards)), _rows(shards), empty)


def _rows(shards: list[Shard]) -> int:
    return sum(shard.rows for shard in shards)
