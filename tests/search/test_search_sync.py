"""An index in step with its files, from any thread, beside a writer, and made from an older format."""

import shutil
import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from search_fakes import FakeEmbedder, contents, make_documents

from jaspertc.errors import IndexFileError, InputError
from jaspertc.search import schema, upkeep
from jaspertc.search.documents import Document
from jaspertc.search.index import AddReport, SearchIndex
from jaspertc.search.reading import read_documents

FORMAT_1 = Path(__file__).parents[1] / "fixtures" / "index-v1.db"


def sync(index, *names):
    folder = index.path.parent
    documents = read_documents([folder / name for name in names], folder=folder)
    return index.sync(documents, names)


def texts(index):
    return sorted(hit.text for hit in index.search("x", k=1000, mode="vector"))


def test_lines_that_vanish_leave_the_index_and_no_other_is_touched(index, embedder):
    path = index.path.parent / "notes.txt"
    path.write_text("first\nsecond\nsecond\nthird\n")
    assert sync(index, "notes.txt") == AddReport(4, 0, 0, 0)
    assert embedder.embedded == ["first", "second", "third"]
    path.write_text("second\nthird\nfourth\n")
    assert sync(index, "notes.txt") == AddReport(1, 0, 2, 2)
    assert embedder.embedded[3:] == ["fourth"]
    assert texts(index) == ["fourth", "second", "third"]
    upkeep.check(index.path)


def test_a_folder_is_followed(index, embedder):
    folder = index.path.parent / "docs"
    folder.mkdir()
    for name in "abc":
        (folder / f"{name}.txt").write_text(f"text {name}")
    index.add([Document("other", "from elsewhere")])
    assert sync(index, "docs") == AddReport(3, 0, 0, 0)
    (folder / "a.txt").unlink()
    (folder / "b.txt").rename(folder / "moved.txt")
    (folder / "c.txt").write_text("text c, edited")
    (folder / "d.txt").write_text("text d")
    embedder.embedded.clear()
    assert sync(index, "docs") == AddReport(added=2, updated=1, unchanged=0, removed=2)
    assert sorted(embedder.embedded) == ["text c, edited", "text d"]  # what was renamed keeps its vector
    assert texts(index) == ["from elsewhere", "text b", "text c, edited", "text d"]
    shutil.rmtree(folder)
    assert upkeep.prune(index.path) == 3
    assert texts(index) == ["from elsewhere"]
    assert upkeep.prune(index.path) == 0
    upkeep.check(index.path)


def test_a_file_that_cannot_be_read_for_a_while_loses_nothing(index):
    folder = index.path.parent / "docs"
    folder.mkdir()
    for name in "abc":
        (folder / f"{name}.txt").write_text(f"text {name}")
    assert sync(index, "docs") == AddReport(3, 0, 0, 0)
    (folder / "a.txt").write_bytes(b"half a character: \xe4\xbd")
    (folder / "b.txt").unlink()
    told = {}
    documents = read_documents(
        [folder], folder=folder.parent, skip=lambda why, name: told.update({name: why})
    )
    assert index.sync(documents, ["docs"], keep=told) == AddReport(0, 0, 1, removed=1)
    assert "a.txt" in told["docs/a"]
    assert texts(index) == ["text a", "text c"]
    (folder / "a.txt").write_text("text a, whole again")
    assert sync(index, "docs") == AddReport(0, 1, 1, 0)


def test_a_row_that_moves_to_another_file_stays(index, embedder):
    a, b = (index.path.parent / name for name in ("a.jsonl", "b.jsonl"))
    a.write_text('{"id": 1, "text": "x"}\n{"id": 2, "text": "y"}\n')
    b.write_text('{"id": 3, "text": "z"}\n')
    sync(index, "a.jsonl", "b.jsonl")
    a.write_text('{"id": 2, "text": "y"}\n')
    b.write_text('{"id": 1, "text": "x"}\n{"id": 3, "text": "z"}\n')
    assert sync(index, "a.jsonl", "b.jsonl") == AddReport(0, 1, 2, 0)
    assert upkeep.contents(index.path).sources == {"a.jsonl": 1, "b.jsonl": 2}
    assert embedder.embedded == ["x", "y", "z"]


def test_a_run_that_fails_removes_nothing(index):
    path = index.path.parent / "a.jsonl"
    path.write_text('{"id": 1, "text": "x"}\n{"id": 2, "text": "y"}\n')
    sync(index, "a.jsonl")
    path.write_text('{"id": 3, "text": "z"}\n{"id": 3, "text": "again"}\n')
    with pytest.raises(InputError, match="'3' comes twice"):
        sync(index, "a.jsonl")
    assert texts(index) == ["x", "y"]


def test_remove_by_id_or_file(index):
    (index.path.parent / "notes.txt").write_text("a\nb\n")
    sync(index, "notes.txt")
    index.add([Document("one", "c"), Document("two", "d")])
    with pytest.raises(IndexFileError, match=r"neither a document nor a file 'three'; nothing was removed"):
        upkeep.remove(index.path, ["one", "three"])
    assert upkeep.remove(index.path, ["one", "notes.txt"]) == 3
    assert texts(index) == ["d"]
    assert upkeep.contents(index.path).sources == {None: 1}


def test_space_is_used_again_and_given_back(index):
    index.add(make_documents(3000))
    _, size = upkeep.compact(index.path)
    for _ in range(3):
        index.remove([f"doc-{number}" for number in range(0, 3000, 2)])
        index.add(make_documents(3000))
    upkeep.check(index.path)
    assert upkeep.compact(index.path)[0] < 1.5 * size
    index.remove([f"doc-{number}" for number in range(2900)])
    before, after = upkeep.compact(index.path)
    assert after < before
    assert len(texts(index)) == 100


def test_any_thread_and_several_at_once(index, embedder):
    documents = list(make_documents(2000))
    done = threading.Event()
    errors = []

    def read():
        while not done.is_set():
            hits = index.search("text 7", k=3, mode="hybrid")
            if len(index) >= 1000 and len(hits) != 3:
                errors.append(hits)

    with ThreadPoolExecutor(8) as pool:
        readers = [pool.submit(read) for _ in range(4)]
        writers = [pool.submit(index.add, documents[part::3]) for part in range(3)]
        reports = [writer.result() for writer in writers]
        done.set()
        [reader.result() for reader in readers]
        pool.submit(index.close).result()
    assert sum(report.added for report in reports) == 2000
    assert errors == []
    upkeep.check(index.path)
    index.close()


def test_a_writer_blocks_no_reader(index, embedder):
    index.add(make_documents(20))
    before = index.search("text 7", k=20)
    writer = sqlite3.connect(index.path, isolation_level=None)
    writer.execute("BEGIN EXCLUSIVE")
    writer.execute("DELETE FROM documents")
    with SearchIndex.open(index.path, embedder) as other:
        assert other.search("text 7", k=20) == before
    writer.execute("ROLLBACK")
    writer.close()


@pytest.fixture
def old(tmp_path):
    path = tmp_path / "old.db"
    shutil.copy(FORMAT_1, path)
    return path


def old_model(path):
    info = schema.describe(path)
    assert info.format in (1, 2)
    return FakeEmbedder(info.fingerprint, dims=info.dims, ratio=info.ratio, threshold=info.threshold)


def old_rows(path):
    connection = sqlite3.connect(path)
    rows = connection.execute(
        "SELECT id, text, metadata, vector FROM documents JOIN vectors ON number = document ORDER BY number"
    ).fetchall()
    connection.close()
    return rows


def test_format_1_is_migrated_with_nothing_lost(old):
    before = old_rows(old)
    with SearchIndex.open(old, old_model(old)) as index:
        assert index.info.format == schema.FORMAT
        assert index.info.documents == len(before) == 7
        for name, text, _, vector in before:
            query = np.frombuffer(vector, dtype=np.float32)
            hit = index.search("nothing", k=1, mode="vector", vector=query)[0]
            assert (hit.text, hit.score) == (text, pytest.approx(1, abs=1e-5)), name
        assert [hit.id for hit in index.search("dough", mode="text")] == ["notes.txt:2"]
        assert [hit.id for hit in index.search("潮汐", mode="text")] == ["notes.txt:4"]
        assert {hit.id for hit in index.search("x", where={"year": 2024})} == {"7", "zh-1"}
    upkeep.check(old)
    with SearchIndex.open(old, old_model(old)) as again:
        assert len(again) == 7


def test_format_1_with_a_fingerprint_by_another_rule(old):
    """It is this model's if the model gives the stored vectors."""
    other = old_model(old)
    other.fingerprint = "by another rule"
    with pytest.raises(IndexFileError, match="vectors of different models"):
        SearchIndex.open(old, other)
    stored = {text: np.frombuffer(vector, dtype=np.float32) for _, text, _, vector in old_rows(old)}
    other.vector = stored.__getitem__
    with SearchIndex.open(old, other) as index:
        assert index.info.fingerprint == "by another rule"
    other.vector = FakeEmbedder(dims=other.dims).vector
    with SearchIndex.open(old, other) as index:
        assert len(index) == 7


def test_lines_of_a_format_1_file_get_their_new_ids_without_the_model(old):
    embedder = old_model(old)
    with SearchIndex.open(old, embedder) as index:
        lines = [text for name, text, _, _ in old_rows(FORMAT_1) if name.startswith("notes.txt:")]
        (old.parent / "notes.txt").write_text("\n".join(lines[1:]))
        report = sync(index, "notes.txt")
    assert report == AddReport(added=3, updated=0, unchanged=0, removed=4)
    assert embedder.embedded == []


def test_a_failed_migration_leaves_the_file_as_it_was(old, monkeypatch):
    before = old_rows(old)
    monkeypatch.setattr(schema, "_move_vectors", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        SearchIndex.open(old, old_model(old))
    assert old_rows(old) == before
    monkeypatch.undo()
    with SearchIndex.open(old, old_model(old)) as index:
        assert len(index) == 7


def test_check_finds_damage_that_sqlite_does_not(index):
    index.add(make_documents(20))
    upkeep.check(index.path)
    connection = sqlite3.connect(index.path, isolation_level=None)
    for damage, message in (
        ("DELETE FROM passages WHERE number = 3", "1 documents have no passage; 1 numbers are neither"),
        ("DELETE FROM documents WHERE number = 4", "passages have no document"),
    ):
        connection.execute(damage)
        with pytest.raises(IndexFileError, match=message):
            upkeep.check(index.path)
    connection.close()


def test_contents_after_changes_equal_an_index_made_at_once(index, tmp_path):
    documents = list(make_documents(700))
    index.add(documents[:400])
    index.remove([document.id for document in documents[100:300]])
    index.add(documents)
    with SearchIndex.create_or_open(tmp_path / "b.db", FakeEmbedder()) as other:
        other.add(documents)
    assert contents(index.path) == contents(tmp_path / "b.db")
