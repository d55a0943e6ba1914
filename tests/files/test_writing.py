"""Files and folders that appear whole or not at all, locks, and what results were made of."""

import errno
import multiprocessing

import pytest

from jaspertc.errors import CacheError, DataFileError, TrainingError
from jaspertc.files.aside import folder_aside, remove_leftovers, writing, written_aside
from jaspertc.files.json_files import read_json, write_json
from jaspertc.files.lock import locked
from jaspertc.files.made_of import differences, made_of, require_same


def write_half(path):
    with written_aside(path) as file:
        file.write(b"half")
        raise KeyError


def fill_half(folder):
    with folder_aside(folder) as aside:
        (aside / "file").write_text("half")
        raise KeyError


def test_a_file_appears_whole_or_not_at_all(tmp_path):
    path = tmp_path / "a"
    path.write_text("before")
    with pytest.raises(KeyError):
        write_half(path)
    assert [item.name for item in tmp_path.iterdir()] == ["a"]
    assert path.read_text() == "before"


def test_what_killed_processes_left_is_removed_or_put_back(tmp_path):
    stage = tmp_path / "1-stage"
    open_ones = [folder_aside(stage / name) for name in ("model", "step-00000002", "other")]
    left = [manager.__enter__() for manager in open_ones]
    (left[0] / "file").write_text("half")
    before = stage / f"{left[1].name}-before"  # killed between two renames
    before.mkdir()
    (before / "file").write_text("whole")
    (stage / ".mine-settings").mkdir()
    remove_leftovers(tmp_path, ("model", "step-*"))
    names = {path.name for path in stage.iterdir()}
    assert names == {"step-00000002", left[2].name, ".mine-settings"}
    assert (stage / "step-00000002" / "file").read_text() == "whole"


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    folder = tmp_path / "deep" / "a"
    for content in ("one", "two"):
        with folder_aside(folder) as aside:
            (aside / "file").write_text(content)
            (aside / "sub").mkdir()
        assert (folder / "file").read_text() == content
    with pytest.raises(KeyError):
        fill_half(folder)
    assert (folder / "file").read_text() == "two"
    assert [item.name for item in folder.parent.iterdir()] == ["a"]


@pytest.mark.parametrize(
    ("number", "words"), [(errno.ENOSPC, "the disk is full; free"), (errno.EACCES, "allow writing")]
)
def test_what_cannot_be_written_is_named(number, words):
    message = rf"a\.npy could not be written.*{words}.*then: go"
    with pytest.raises(CacheError, match=message), writing("a.npy", "go", CacheError):
        raise OSError(number, "no")


def _hold(folder, held, end):
    with locked(folder):
        held.set()
        end.wait(60)


def test_one_writer_a_folder_until_its_process_dies(tmp_path):
    context = multiprocessing.get_context("spawn")
    held, end = context.Event(), context.Event()
    other = context.Process(target=_hold, args=(tmp_path, held, end))
    other.start()
    try:
        assert held.wait(60)
        with (
            pytest.raises(DataFileError, match=r"another run is writing .*out\.npy; wait for it or end it"),
            locked(tmp_path, target=tmp_path / "out.npy", error=DataFileError),
        ):
            pass
    finally:
        other.kill()
        other.join()
    with locked(tmp_path):
        pass
    with locked(tmp_path):
        pass


def test_what_differs_is_named_with_both_values(tmp_path):
    before = made_of(
        {"rate": 0.1, "objective": {"cosine": 1, "kl": 0}, "file": tmp_path / "a.jsonl", "old": (1, 2)}
    )
    assert before == {"rate": 0.1, "objective": {"cosine": 1, "kl": 0}, "file": "a.jsonl", "old": [1, 2]}
    now = made_of({"rate": 0.2, "objective": {"cosine": 1, "kl": 2}, "file": "other/a.jsonl", "new": None})
    assert differences(before, before) == ""
    words = "rate was 0.1, is 0.2, objective.kl was 0, is 2, file was 'a.jsonl', is 'other/a.jsonl'"
    assert differences(before, now) == f"{words}, old was [1, 2], is None"
    require_same("x", before, before, "y")
    require_same("x", before, now, "y", but=("rate", "objective.kl", "file", "old"))
    with pytest.raises(TrainingError, match=r"run holds a state: rate was 0\.1, is 0\.2; use another"):
        require_same(
            "run holds a state", {"rate": 0.1}, {"rate": 0.2}, "use another folder", error=TrainingError
        )


def test_json_files(tmp_path):
    path = tmp_path / "new" / "a.json"
    write_json(path, {"é": [1]})
    assert read_json(path) == {"é": [1]}
    path.write_text('{"a": ')
    with pytest.raises(DataFileError, match=r"a\.json cannot be read as JSON .*; copy it again"):
        read_json(path)
    with pytest.raises(CacheError, match="restore it"):
        read_json(tmp_path / "none.json", "restore it", CacheError)
