"""The block store and the files made of it."""

import errno
import json
import sys

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from jaspertc.corpus import formats, write
from jaspertc.corpus.write import BlockStore
from jaspertc.errors import DataFileError, MissingExtraError

SETTINGS = {"ratio": 0.5, "dims": None}
SOURCE = {"input size": 3}
DTYPES = (np.float32, np.float16, np.int8, np.uint8)


def vectors(rows, dtype=np.float32, seed=0):
    values = np.random.default_rng(seed).uniform(0, 100, (rows, 6))
    return values.astype(dtype)


def fill(store, dtype=np.float32, ids=(["a", "b"], ["c"])):
    for seed, rows in enumerate((2, 1)):
        store.add(vectors(rows, dtype, seed), ids and ids[seed])
    store.finish(vectors(0, dtype))


@pytest.mark.parametrize("dtype", DTYPES)
def test_npy(tmp_path, dtype):
    with BlockStore(tmp_path / "out.npy", SETTINGS, SOURCE) as store:
        fill(store, dtype)
    found = np.load(tmp_path / "out.npy")
    assert found.dtype == dtype
    np.testing.assert_array_equal(found, np.concatenate([vectors(2, dtype, 0), vectors(1, dtype, 1)]))
    assert [path.name for path in tmp_path.iterdir()] == ["out.npy"]


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("ids", [None, ([1, 2], [3]), (["a", "b"], ["\u2028"])])
def test_jsonl(tmp_path, dtype, ids):
    with BlockStore(tmp_path / "out.jsonl", SETTINGS, SOURCE) as store:
        fill(store, dtype, ids)
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == (ids[0] + ids[1] if ids else [0, 1, 2])
    found = np.array([row["embedding"] for row in rows]).astype(dtype)
    np.testing.assert_array_equal(found, np.concatenate([vectors(2, dtype, 0), vectors(1, dtype, 1)]))


@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize(
    ("ids", "kind"),
    [
        (None, None),
        (([1, 2], [3]), pa.int64()),
        (([1, 2], [1 << 63]), pa.string()),
        (([1, 2], ["猫"]), pa.string()),
    ],
)
def test_parquet(tmp_path, dtype, ids, kind, monkeypatch):
    monkeypatch.setattr(formats, "ROW_GROUP_BYTES", 1)
    with BlockStore(tmp_path / "out.parquet", SETTINGS, SOURCE) as store:
        fill(store, dtype, ids)
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.column_names == (["id", "embedding"] if ids else ["embedding"])
    if ids:
        assert table.schema.field("id").type == kind
        expected = ids[0] + ids[1]
        assert table["id"].to_pylist() == ([str(i) for i in expected] if kind == pa.string() else expected)
    column = table["embedding"].combine_chunks()
    assert column.type == pa.list_(pa.from_numpy_dtype(dtype), 6)
    np.testing.assert_array_equal(
        column.flatten().to_numpy(zero_copy_only=False).reshape(-1, 6),
        np.concatenate([vectors(2, dtype, 0), vectors(1, dtype, 1)]),
    )


@pytest.mark.parametrize("suffix", [".npy", ".jsonl", ".parquet"])
def test_no_vectors(tmp_path, suffix):
    output = tmp_path / f"out{suffix}"
    with BlockStore(output, SETTINGS, SOURCE) as store:
        store.finish(vectors(0))
    if suffix == ".npy":
        assert np.load(output).shape == (0, 6)
    elif suffix == ".parquet":
        assert pq.read_table(output).schema.field("embedding").type == pa.list_(pa.float32(), 6)
    else:
        assert output.read_bytes() == b""


def stopped(output, settings=SETTINGS, source=SOURCE):
    with BlockStore(output, settings, source) as store:
        store.add(vectors(2), None)
    return store.folder


def test_resume(tmp_path):
    output = tmp_path / "out.npy"
    folder = stopped(output)
    (folder / "block-000000007-2.npz").touch()  # after a hole
    (folder / "block-000000001-2.npz.tmp").touch()
    with BlockStore(output, SETTINGS, SOURCE) as store:
        assert (store.blocks, store.rows) == (1, 2)
        store.add(vectors(1, seed=1), None)
        store.finish(vectors(0))
    assert np.load(output).shape == (3, 6)
    assert not folder.exists()


def test_differences_are_named(tmp_path):
    output = tmp_path / "out.npy"
    stopped(output)
    with pytest.raises(DataFileError, match=r"1 finished blocks .*ratio was 0.5, is 0.25; .*--no-resume"):
        BlockStore(output, {**SETTINGS, "ratio": 0.25}, SOURCE)
    with pytest.raises(DataFileError, match="dims was None, is 64, input size was 3, is 4;"):
        BlockStore(output, {**SETTINGS, "dims": 64}, {"input size": 4})
    with pytest.raises(DataFileError, match="input was None, is 'standard input'"):
        BlockStore(output, SETTINGS, None)
    with BlockStore(output, {**SETTINGS, "ratio": 0.25}, SOURCE, resume=False) as store:
        assert store.rows == 0


def test_settings_may_change_while_there_is_nothing_to_lose(tmp_path):
    output = tmp_path / "out.npy"
    folder = tmp_path / "out.npy.partial"
    folder.mkdir()
    with BlockStore(output, SETTINGS, SOURCE):
        assert (folder / "state.json").exists()
    assert not folder.exists()


def test_standard_input_is_not_taken_up(tmp_path):
    output = tmp_path / "out.npy"
    assert not stopped(output, source=None).exists()
    store = BlockStore(output, SETTINGS, None)
    store.add(vectors(2), None)
    store._unlock()  # as if killed
    with BlockStore(output, {"ratio": 1.0}, SOURCE) as store:
        assert store.rows == 0


def test_two_runs_at_once(tmp_path):
    output = tmp_path / "out.npy"
    with BlockStore(output, SETTINGS, SOURCE) as store:
        store.add(vectors(2), None)
        with pytest.raises(DataFileError, match="another run is writing"):
            BlockStore(output, SETTINGS, SOURCE)
    with BlockStore(output, SETTINGS, SOURCE) as store:
        assert store.rows == 2


def test_targets_that_are_refused(tmp_path):
    output = tmp_path / "out.npy"
    output.write_text("precious")
    with pytest.raises(DataFileError, match="exists already"):
        BlockStore(output, SETTINGS, SOURCE)
    with pytest.raises(DataFileError, match=r"nowhere is no folder"):
        BlockStore(tmp_path / "nowhere" / "out.npy", SETTINGS, SOURCE)
    with pytest.raises(DataFileError, match=r"must end in \.npy, \.jsonl, \.parquet"):
        BlockStore(tmp_path / "out.csv", SETTINGS, SOURCE)
    (tmp_path / "folder.npy").mkdir()
    with pytest.raises(DataFileError, match="is a folder"):
        BlockStore(tmp_path / "folder.npy", SETTINGS, SOURCE)
    assert output.read_text() == "precious"
    with BlockStore(output, SETTINGS, SOURCE, overwrite=True) as store:
        assert output.read_text() == "precious"
        fill(store)
    assert np.load(output).shape == (3, 6)


def test_a_folder_of_someone_else_is_left_alone(tmp_path):
    folder = tmp_path / "out.npy.partial"
    folder.mkdir()
    (folder / "thesis.txt").write_text("precious")
    with pytest.raises(DataFileError, match=r"holds 'thesis\.txt', which this command has not written"):
        BlockStore(tmp_path / "out.npy", SETTINGS, SOURCE, resume=False)
    assert (folder / "thesis.txt").read_text() == "precious"


def fail_after(monkeypatch, name, calls, number=errno.ENOSPC):
    real = getattr(write, name)
    left = [calls]

    def failing(file, *arguments):
        if left[0] == 0:
            file.write(b"half")
            raise OSError(number, "No space left on device")
        left[0] -= 1
        return real(file, *arguments)

    monkeypatch.setattr(write, name, failing)


@pytest.mark.parametrize("name", ["_save_block", "write_output"])
def test_disk_full(tmp_path, monkeypatch, name):
    output = tmp_path / "out.npy"
    with monkeypatch.context() as patch:
        fail_after(patch, name, 1 if name == "_save_block" else 0)
        kept = "1" if name == "_save_block" else "2"
        message = (
            rf"disk is full.*{kept} finished blocks are kept in .*out\.npy\.partial: run the same command"
        )
        with pytest.raises(DataFileError, match=message), BlockStore(output, SETTINGS, SOURCE) as store:
            fill(store)
    assert not output.exists()
    assert not list(store.folder.glob("*.tmp"))
    with BlockStore(output, SETTINGS, SOURCE) as store:
        assert store.rows == (2 if name == "_save_block" else 3)


def test_disk_full_with_standard_input(tmp_path, monkeypatch):
    fail_after(monkeypatch, "_save_block", 1)
    message = "disk is full.*then: run the command again"
    with pytest.raises(DataFileError, match=message), BlockStore(tmp_path / "o.npy", SETTINGS, None) as store:
        fill(store)
    assert not list(tmp_path.iterdir())


def test_other_write_errors(tmp_path, monkeypatch):
    fail_after(monkeypatch, "_save_block", 0, errno.EIO)
    with (
        pytest.raises(DataFileError, match=r"o\.npy could not be written"),
        BlockStore(tmp_path / "o.npy", SETTINGS, SOURCE) as store,
    ):
        fill(store)


def test_damaged_block(tmp_path):
    output = tmp_path / "out.npy"
    folder = stopped(output)
    (folder / "block-000000000-2.npz").write_bytes(b"PK")
    message = r"block-000000000-2\.npz is damaged.*--no-resume"
    with pytest.raises(DataFileError, match=message), BlockStore(output, SETTINGS, SOURCE) as store:
        store.finish(vectors(0))


@pytest.mark.parametrize("moment", ["before the rename", "after the rename", "while blocks are removed"])
def test_killed_at_the_very_end(tmp_path, monkeypatch, moment):
    output = tmp_path / "out.npy"

    class Killed(BaseException):
        pass

    def kill(*_):
        raise Killed

    store = BlockStore(output, SETTINGS, SOURCE)
    step = "_write_state" if moment == "before the rename" else "_remove_folder"
    with monkeypatch.context() as patch:
        patch.setattr(write.BlockStore, step, kill)
        with pytest.raises(Killed):
            fill(store)
    store._unlock()
    if moment == "while blocks are removed":
        (store.folder / "block-000000001-1.npz").unlink()
    with BlockStore(output, SETTINGS, SOURCE) as again:
        assert again.finished == (moment != "before the rename")
        assert again.rows == 3
        again.finish(vectors(0))
    np.testing.assert_array_equal(np.load(output), np.concatenate([vectors(2, seed=0), vectors(1, seed=1)]))
    assert not store.folder.exists()


def test_finished_output_of_another_run_is_not_replaced(tmp_path, monkeypatch):
    output = tmp_path / "out.npy"
    store = BlockStore(output, SETTINGS, SOURCE)
    with monkeypatch.context() as patch:
        patch.setattr(write.BlockStore, "_remove_folder", lambda self: None)
        fill(store)
    store._unlock()
    for arguments in ({"resume": False}, {"resume": True}):
        with pytest.raises(DataFileError, match=r"another run|exists already"):
            BlockStore(output, {"ratio": 1.0}, SOURCE, **arguments)
    with pytest.raises(DataFileError, match="another run"):
        BlockStore(output, SETTINGS, None)
    assert np.load(output).shape == (3, 6)


def test_parquet_without_pyarrow(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtraError, match=r"jaspertc\[parquet\]"):
        BlockStore(tmp_path / "out.parquet", SETTINGS, SOURCE)
