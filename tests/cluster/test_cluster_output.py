"""Shards, their manifest, and a worker's work, in one process and on an object store."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from cluster_corpus import rows_of, write_lines

from jaspertc import Embedder
from jaspertc.cluster.meter import Meter
from jaspertc.cluster.output import BAD, MANIFEST, Output, verify
from jaspertc.cluster.reading import Fields
from jaspertc.cluster.storage import Folder
from jaspertc.cluster.units import cut, find_inputs
from jaspertc.cluster.workers import MOST_TRIES, EmbedWorker, Feed
from jaspertc.corpus.formats import Block
from jaspertc.errors import DataFileError
from jaspertc.teaching.recipe_texts import Text

fsspec = pytest.importorskip("fsspec")
FIELDS = Fields(text="text", id="id", ids="string", most_bytes=1 << 20)


@pytest.fixture
def store() -> Iterator[str]:
    """A folder on an object store."""
    memory = fsspec.filesystem("memory")
    yield "memory://bucket/out"
    if memory.exists("/bucket"):
        memory.rm("/bucket", recursive=True)


def make_worker(output: str, model_folder: Path, fingerprint: str) -> EmbedWorker:
    return EmbedWorker(
        output=output,
        model=str(model_folder),
        device="cpu",
        dtype="float32",
        fingerprint=fingerprint,
        options={"ratio": 0.5},
        fields=FIELDS,
        threads=1,
    )


def embed_all(source: Path, url: str, model: Embedder, folder: Path, rows: int = 8) -> Output:
    output = Output(url, {"made": "for a test"})
    worker = make_worker(url, folder, model.fingerprint)
    for unit in cut(find_inputs(str(source)), rows):
        if unit.number not in output.shards:
            (error,) = worker({"unit": [unit.to_json()]})["error"]
            assert not error
    output.reload()
    output.drop_duplicates()
    output.finish()
    return output


def blocks_of(output: Output) -> list[Block]:
    return [output.read(shard) for _, shard in sorted(output.shards.items()) if shard.rows]


def contents(url: str) -> dict[str, bytes]:
    folder = Folder(url)
    return {name: folder.read(name) for name in folder.sizes()}


@pytest.mark.parametrize("place", ["memory", "path", "file"])
def test_shards_hold_the_embedders_vectors(
    place: str, store: str, corpus: Any, tmp_path: Path, model: Embedder, model_folder: Path
) -> None:
    url = {"memory": store, "path": str(tmp_path / "out"), "file": f"file://{tmp_path}/out"}[place]
    output = embed_all(corpus(40), url, model, model_folder)
    blocks = blocks_of(output)
    assert [name for block in blocks for name in block.ids or []] == [f"t{i}" for i in range(40)]
    expected = model.encode([row["text"] for row in rows_of(40)], ratio=0.5)
    assert np.abs(np.concatenate([block.vectors for block in blocks]) - expected).max() <= 1e-5
    manifest = json.loads(output.folder.read(MANIFEST))
    assert (manifest["complete"], manifest["rows"]) == (True, 40)
    assert manifest["tokens"] > manifest["compressed tokens"] > 40
    assert verify(url) == []


def test_a_folder_of_shards_is_a_parquet_dataset(
    corpus: Any, tmp_path: Path, model: Embedder, model_folder: Path
) -> None:
    embed_all(corpus(20), str(tmp_path / "out"), model, model_folder)
    assert pq.read_table(tmp_path / "out")["id"].to_pylist() == [f"t{i}" for i in range(20)]


def test_a_rerun_makes_only_what_is_missing(
    store: str, corpus: Any, model: Embedder, model_folder: Path
) -> None:
    source = corpus(40)
    embed_all(source, store, model, model_folder)
    before = contents(store)
    folder = Folder(store)
    names = sorted(name for name in before if name.startswith("shard-"))
    folder.remove(names[1])  # lost
    folder.remove(f"_done/{names[2].removesuffix('.parquet')}.json")  # killed before it was noted
    folder.system.pipe_file(folder.path(names[3]), before[names[3]][:-9])  # cut short
    folder.system.pipe_file(folder.path(f"{names[0]}.1234.tmp"), b"half a shard")  # killed while writing
    assert len(verify(store)) == 3
    again = Output(store, {"made": "for a test"})
    assert set(range(len(names))) - set(again.shards) == {1, 2, 3}
    embed_all(source, store, model, model_folder)
    assert contents(store) == before


def test_duplicates_are_dropped_after_the_first_and_listed(
    store: str, tmp_path: Path, model: Embedder, model_folder: Path
) -> None:
    rows = rows_of(30)
    source = write_lines(tmp_path / "twice.jsonl", [*rows, rows[3], {"id": "t3", "text": "other"}, *rows[:1]])
    output = embed_all(source, store, model, model_folder)
    blocks = blocks_of(output)
    assert [name for block in blocks for name in block.ids or []] == [row["id"] for row in rows]
    bad = [json.loads(line) for line in output.folder.read(BAD).splitlines()]
    assert [(row["id"], row["reason"]) for row in bad] == [
        ("t3", "duplicate id"),
        ("t3", "duplicate id"),
        ("t0", "duplicate id"),
    ]
    before = contents(store)
    embed_all(source, store, model, model_folder)
    assert contents(store) == before


def test_other_settings_and_other_peoples_files_are_left_alone(store: str, tmp_path: Path) -> None:
    Output(store, {"ratio": 0.5})
    with pytest.raises(DataFileError, match=r"ratio was 0.5, is 0.3.*--no-resume"):
        Output(store, {"ratio": 0.3})
    Output(store, {"ratio": 0.3}, resume=False)
    for name in ("mine.parquet", "shard-000000.parquet"):
        (tmp_path / name).mkdir()
        (tmp_path / name / name).write_bytes(b"mine")
        for resume in (True, False):
            with pytest.raises(DataFileError, match=name):
                Output(str(tmp_path / name), {}, resume=resume)


def test_another_model_and_a_deadly_unit_stop_the_work(
    store: str, corpus: Any, model: Embedder, model_folder: Path
) -> None:
    (unit,) = cut(find_inputs(str(corpus(5))), 100)
    Output(store, {})
    (error,) = make_worker(store, model_folder, "other")({"unit": [unit.to_json()]})["error"]
    assert "another model" in error
    Folder(store).write("_tries/000000", str(MOST_TRIES).encode())
    (error,) = make_worker(store, model_folder, model.fingerprint)({"unit": [unit.to_json()]})["error"]
    assert f"died {MOST_TRIES} times" in error


def test_the_feed_gives_shards_in_any_order_again_and_again() -> None:
    texts = [Text(f"t{i}", f"text {i}") for i in range(10)]
    feed = Feed(lambda: texts, 4)
    assert feed.shard(1) == (texts[4:8], 1)
    assert feed.shard(0) == (texts[:4], 1)
    assert feed.shard(1) == (texts[4:8], 2)
    feed.forget(0)
    assert feed.shard(2) == (texts[8:], 1)


def test_meter() -> None:
    now = [100.0]
    meter = Meter(10, 2, hourly_cost=36.0, clock=lambda: now[0])
    assert meter.seconds_left is None
    now[0] += 10
    meter.add(1000, 50_000, units=4)
    assert meter.seconds_left == pytest.approx(10)
    assert meter.cost_per_million == pytest.approx(100)
    assert meter.line() == "100 texts/s, 5000 tokens/s, 10 s left, 100 per million texts"
