"""``jaspertc embed``: files in, files out, and runs that are killed."""

import json
import random
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from jaspertc.cli import app
from jaspertc.corpus import write
from jaspertc.engine.embedder import Embedder
from jaspertc.engine.options import LongTextWarning
from jaspertc.errors import DataFileError, InputError, MissingExtraError
from jaspertc.files.texts import Row

sys.path.append(str(Path(__file__).parents[1] / "corpus"))
import embed_fakes
from embed_fakes import FakeEmbedder, write_texts

ROWS = [Row(f"n{index}", f"text {index} 猫\u2028" * (index % 4)) for index in range(25)]
DEFAULTS = {"ratio": 0.25, "threshold": 8, "max_compressed": None, "max_length": 64, "prompt": "default: "}


@pytest.fixture
def fake(tmp_path, monkeypatch):
    embedder = FakeEmbedder()
    embedder.warning = LongTextWarning
    embedder.loaded = []
    monkeypatch.setattr(
        Embedder, "load", lambda name, **options: embedder.loaded.append((name, options)) or embedder
    )
    monkeypatch.chdir(tmp_path)
    return embedder


def run(*arguments, stdin=None):
    result = CliRunner().invoke(app, ["embed", *map(str, arguments)], input=stdin)
    if result.exception and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def vectors_of(path):
    if path.suffix == ".npy":
        return np.load(path)
    if path.suffix == ".parquet":
        return np.array(pq.read_table(path)["embedding"].to_pylist())
    return np.array([json.loads(line)["embedding"] for line in path.read_text().splitlines()])


def ids_of(path):
    if path.suffix == ".parquet":
        return pq.read_table(path)["id"].to_pylist()
    return [json.loads(line)["id"] for line in path.read_text().splitlines()]


@pytest.mark.parametrize("precision", ["float32", "float16", "int8", "ubinary"])
@pytest.mark.parametrize("kind", [".npy", ".jsonl", ".parquet"])
@pytest.mark.parametrize("source", [".txt", ".jsonl", ".jsonl.gz", ".parquet", "-"])
def test_round_trip(fake, tmp_path, source, kind, precision):
    output = tmp_path / f"out{kind}"
    path = write_texts(tmp_path / f"in{'.txt' if source == '-' else source}", ROWS)
    given = ("-", path.read_bytes()) if source == "-" else (path, None)
    result = run(given[0], "--output", output, "--batch-size", 4, "--precision", precision, stdin=given[1])
    assert re.search(rf"^25 texts in \d+\.\d s \(.+ texts/s\): {re.escape(str(output))}$", result.stderr)
    assert result.stdout == ""
    expected = FakeEmbedder().encode([row.text for row in ROWS], precision=precision, **DEFAULTS)
    np.testing.assert_array_equal(vectors_of(output).astype(expected.dtype), expected)
    if kind == ".jsonl" or (kind == ".parquet" and source not in (".txt", "-")):
        with_ids = source not in (".txt", "-")
        assert ids_of(output) == ([row.id for row in ROWS] if with_ids else list(range(25)))
    assert [len(call) for call in fake.calls] == [0, 4, 4, 4, 4, 4, 4, 1]
    assert not (tmp_path / f"out{kind}.partial").exists()


def test_options_reach_the_embedder(fake, tmp_path):
    path = write_texts(tmp_path / "in.jsonl", ROWS, text="body", name="key")
    options = ["--ratio", 0.5, "--threshold", 2, "--max-compressed", 9, "--max-length", 99, "--dims", 8]
    options += ["--prompt-name", "document", "--text-field", "body", "--id-field", "key"]
    options += ["--model", "m", "--device", "cpu", "--dtype", "float32", "--runtime", "torch"]
    run(path, "--output", "out.jsonl", *options)
    assert fake.loaded == [("m", {"device": "cpu", "dtype": "float32", "runtime": "torch"})]
    settings = {"ratio": 0.5, "threshold": 2, "max_compressed": 9, "max_length": 99, "prompt": "doc: "}
    expected = FakeEmbedder().encode([row.text for row in ROWS], dims=8, **settings)
    np.testing.assert_array_equal(vectors_of(Path("out.jsonl")).astype(np.float32), expected)
    assert ids_of(Path("out.jsonl")) == [row.id for row in ROWS]
    run(path, "--output", "p.npy", "--prompt", "", "--text-field", "body")
    expected = FakeEmbedder().encode([row.text for row in ROWS], **{**DEFAULTS, "prompt": ""})
    np.testing.assert_array_equal(np.load("p.npy"), expected)


def test_line_of_a_mebibyte(fake, tmp_path):
    rows = [Row("a", "x" * (1 << 20)), Row("b", "y")]
    run(write_texts(tmp_path / "in.jsonl", rows), "--output", "out.npy")
    assert fake.calls[1] == [row.text for row in rows]


def test_no_texts(fake, tmp_path):
    result = run("--output", "out.npy", "--dims", 8, stdin="")
    assert "warning: - holds no texts; out.npy holds no vectors" in result.stderr
    assert np.load("out.npy").shape == (0, 8)


def test_warnings_about_long_texts_are_gathered(fake, tmp_path, recwarn):
    result = run("--output", "out.npy", "--batch-size", 2, stdin="long\na\nb\nc\nlong\nlong\n")
    assert "\nwarning: 3 of 6 texts did not fit\n" in "\n" + result.stderr
    assert not recwarn.list


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["none.txt", "--output", "out.npy"], r"none\.txt does not exist"),
        (["in.jsonl", "--output", "no/out.npy"], "no is no folder"),
        (["in.jsonl", "--output", "out.csv"], r"out\.csv has an unknown type"),
        (["in.jsonl", "--output", "in.jsonl"], r"in\.jsonl exists already"),
        (["in.jsonl", "--output", "in.jsonl", "--overwrite"], r"in\.jsonl is the input"),
        (
            ["in.jsonl", "--output", "out.npy", "--workers", "4"],
            "--workers is 4, it goes with --engine ray only",
        ),
        (
            ["in.jsonl", "--output", "out.npy", "--worker-gpus", "0.5"],
            "--worker-gpus is 0.5, it goes with --engine ray only",
        ),
        (
            ["in.jsonl", "--output", "out.npy", "--address", "auto"],
            "--address is auto, it goes with --engine ray only",
        ),
    ],
)
def test_refused_before_the_model_is_loaded(fake, tmp_path, arguments, message):
    write_texts(tmp_path / "in.jsonl", ROWS)
    with pytest.raises((DataFileError, InputError), match=message):
        run(*arguments)
    assert not fake.loaded
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_parquet_needs_its_extra(fake, tmp_path, monkeypatch):
    path = write_texts(tmp_path / "in.parquet", ROWS)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtraError, match=r"jaspertc\[parquet\]"):
        run(path, "--output", "out.npy")
    assert not fake.loaded


def test_overwrite(fake, tmp_path):
    path = write_texts(tmp_path / "in.txt", ROWS)
    run(path, "--output", "out.npy")
    with pytest.raises(DataFileError, match="--overwrite"):
        run(path, "--output", "out.npy")
    run(path, "--output", "out.npy", "--overwrite", "--dims", 4)
    assert np.load("out.npy").shape == (25, 4)


def stop_after(monkeypatch, blocks):
    """A disk that is full after some blocks."""
    left = iter([True] * blocks)
    real = write._save_block

    def save(file, block):
        if not next(left, False):
            raise OSError(28, "No space left on device")
        real(file, block)

    monkeypatch.setattr(write, "_save_block", save)


def test_disk_full_then_resumed(fake, tmp_path, monkeypatch):
    arguments = [write_texts(tmp_path / "in.jsonl", ROWS), "--output", "out.parquet", "--batch-size", 4]
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(DataFileError, match=r"disk is full.*3 finished blocks are kept"):
            run(*arguments)
    fake.calls.clear()
    assert ", 12 were done before: out.parquet" in run(*arguments).stderr
    assert fake.calls[1:] == [[row.text for row in ROWS[i : i + 4]] for i in range(12, 25, 4)]
    resumed = Path("out.parquet").read_bytes()
    run(*arguments, "--overwrite")
    assert Path("out.parquet").read_bytes() == resumed


@pytest.mark.parametrize("stopped_at", [1, 6])
def test_disk_full_at_the_first_or_last_block(fake, tmp_path, monkeypatch, stopped_at):
    arguments = [write_texts(tmp_path / "in.jsonl", ROWS), "--output", "out.npy", "--batch-size", 4]
    with monkeypatch.context() as patch:
        stop_after(patch, stopped_at)
        with pytest.raises(DataFileError, match=rf"disk is full.*{stopped_at} finished blocks are kept"):
            run(*arguments)
    assert not Path("out.npy").exists()
    assert f", {4 * stopped_at} were done before" in run(*arguments).stderr
    expected = FakeEmbedder().encode([row.text for row in ROWS], **DEFAULTS)
    np.testing.assert_array_equal(np.load("out.npy"), expected)


def test_a_block_is_written_while_the_next_is_computed(fake, tmp_path, monkeypatch):
    third = threading.Event()
    real_save, real_encode = write._save_block, fake.encode
    waited = []

    def save(file, block):
        if len(block.vectors) == 4 and block.ids[0] == "n4":  # the second block
            waited.append(third.wait(20))
        real_save(file, block)

    def encode(texts, **options):
        if ROWS[9].text in texts:
            third.set()
        return real_encode(texts, **options)

    monkeypatch.setattr(write, "_save_block", save)
    monkeypatch.setattr(fake, "encode", encode)
    run(write_texts(tmp_path / "in.jsonl", ROWS), "--output", "out.jsonl", "--batch-size", 4)
    assert waited == [True]
    assert ids_of(Path("out.jsonl")) == [row.id for row in ROWS]


def test_interrupted_while_a_block_is_computed(fake, tmp_path, monkeypatch):
    arguments = [write_texts(tmp_path / "in.jsonl", ROWS), "--output", "out.npy", "--batch-size", 4]
    real = fake.encode

    def encode(texts, **options):
        if ROWS[17].text in texts:
            raise KeyboardInterrupt
        return real(texts, **options)

    with monkeypatch.context() as patch:
        patch.setattr(fake, "encode", encode)
        assert run(*arguments).exit_code == 130
    message = run(*arguments).stderr
    assert int(re.search(r", (\d+) were done before", message)[1]) in (12, 16)
    expected = FakeEmbedder().encode([row.text for row in ROWS], **DEFAULTS)
    np.testing.assert_array_equal(np.load("out.npy"), expected)


def test_a_terminal_sees_a_bar(fake, tmp_path, monkeypatch):
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("COLUMNS", "120")
    found = run(write_texts(tmp_path / "in.jsonl", ROWS), "--output", "out.npy").stderr
    found = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", found)
    assert re.search(r"embedding .* 25/25 \S+ texts/s", found)


@pytest.mark.parametrize(
    ("extra", "message"),
    [
        (["--ratio", 0.5], "ratio was 0.25, is 0.5"),
        (["--prompt", "x"], "prompt was 'default: ', is 'x'"),
        (["--batch-size", 5], "batch size was 4, is 5"),
        (["--precision", "int8"], "precision was 'float32', is 'int8'"),
        ("model", "model was 'fake', is 'other'"),
        ("input", "input size was "),
    ],
)
def test_other_settings_are_refused(fake, tmp_path, monkeypatch, extra, message):
    path = write_texts(tmp_path / "in.jsonl", ROWS)
    arguments = [path, "--output", "out.npy", "--batch-size", 4]
    with monkeypatch.context() as patch:
        stop_after(patch, 3)
        with pytest.raises(DataFileError):
            run(*arguments)
    if extra == "model":
        fake.fingerprint = "other"
    elif extra == "input":
        write_texts(path, ROWS[1:])
    else:
        arguments += extra
    with pytest.raises(DataFileError, match=f"3 finished blocks of another run: {message}.*--no-resume"):
        run(*arguments)
    run(*arguments, "--no-resume")
    assert len(np.load("out.npy")) == (24 if extra == "input" else 25)


def test_bad_line_keeps_the_blocks_before(fake, tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text('{"text": "a"}\n{"text": "b"}\n{"text": 3}\n')
    with pytest.raises(DataFileError, match=r"in\.jsonl, line 3: 'text' is 3"):
        run(path, "--output", "out.npy", "--batch-size", 2)
    assert not Path("out.npy").exists()
    path.write_text('{"text": 1}\n')
    with pytest.raises(DataFileError, match=r"in\.jsonl, line 1"):
        run(path, "--output", "other.npy")
    assert not Path("other.npy.partial").exists()


def test_input_that_changes_meanwhile(fake, tmp_path, monkeypatch):
    path = write_texts(tmp_path / "in.txt", ROWS)
    real = write._save_block

    def save(file, block):
        real(file, block)
        write_texts(path, ROWS[:-1])

    monkeypatch.setattr(write, "_save_block", save)
    with pytest.raises(DataFileError, match=r"in\.txt changed while it was read"):
        run(path, "--output", "out.npy")
    assert not Path("out.npy").exists()


def spawn(source, output):
    command = [sys.executable, embed_fakes.__file__, "embed", str(source)]
    return subprocess.Popen(
        [*command, "--output", str(output), "--batch-size", "3"], stderr=subprocess.PIPE, text=True
    )


def kill_when(process, ready, delay=0.0):
    end = time.monotonic() + 30
    while not ready():
        assert process.poll() is None, process.stderr.read()
        assert time.monotonic() < end
        time.sleep(0.002)
    time.sleep(delay)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    assert process.returncode == -signal.SIGKILL


@pytest.mark.skipif(sys.platform == "win32", reason="has no SIGKILL")
@pytest.mark.parametrize("kind", [".npy", ".jsonl", ".parquet"])
def test_killed_at_any_moment(tmp_path, kind):
    rows = [Row(index, f"text {index}") for index in range(200)]
    source = write_texts(tmp_path / "in.jsonl", rows)
    whole, output = tmp_path / f"whole{kind}", tmp_path / f"out{kind}"
    assert spawn(source, whole).wait() == 0
    folder = tmp_path / f"out{kind}.partial"
    seen = 0
    for _ in range(2):
        next_block = f"block-{seen + 1:09d}-3.npz"
        kill_when(spawn(source, output), (folder / next_block).exists, random.uniform(0, 0.2))
        assert len(list(folder.glob("block-*.npz"))) > seen
        seen = len(list(folder.glob("block-*.npz")))
        assert not output.exists()
    kill_when(spawn(source, output), (folder / "assembled.tmp").exists, random.uniform(0, 0.1))
    assert not output.exists()
    process = spawn(source, output)
    message = process.communicate()[1]
    assert process.returncode == 0, message
    assert "0 texts in" in message
    assert "200 were done before" in message
    assert output.read_bytes() == whole.read_bytes()
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["in.jsonl", whole.name, output.name])
