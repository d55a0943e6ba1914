"""Index files that are missing, foreign, damaged, full, locked or of another model."""

import os
import shutil
import sqlite3
from itertools import product

import pytest
from search_fakes import FakeEmbedder, make_documents

from jaspertc.errors import IndexFileError, RatioError
from jaspertc.search import index as index_module
from jaspertc.search import schema, upkeep
from jaspertc.search.documents import Document
from jaspertc.search.index import SearchIndex


@pytest.mark.parametrize(
    ("other", "ratio", "message"),
    [
        (
            FakeEmbedder("f2"),
            None,
            r"'fake-f1' \(fingerprint f1\), not 'fake-f2' \(fingerprint f2\).*load 'fake",
        ),
        (FakeEmbedder(dims=32), None, "16 dims, the model 'fake-f1' gives 32"),
    ],
)
@pytest.mark.parametrize("open_it", [SearchIndex.open, SearchIndex.create_or_open])
def test_refuses_to_mix(index, other, ratio, message, open_it):
    index.add(make_documents(3))
    with pytest.raises(IndexFileError, match=message):
        open_it(index.path, other, ratio=ratio)
    assert len(index) == 3


def test_ratio_is_kept_and_used(tmp_path):
    with SearchIndex.create_or_open(tmp_path / "a.db", FakeEmbedder(), ratio=0.5) as created:
        assert created.info.ratio == 0.5
    embedder = FakeEmbedder(ratio=0.2)
    for number, ratio in enumerate((None, 0.1)):
        with SearchIndex.open(tmp_path / "a.db", embedder, ratio=ratio) as opened:
            opened.add([Document(f"{number}", f"text {number}")])
            opened.search("q")
    assert [options["ratio"] for options in embedder.options] == [0.5, 1, 0.1, 1]
    assert upkeep.contents(tmp_path / "a.db").ratios == {0.1: 1, 0.5: 1}
    info = schema.describe(tmp_path / "a.db")
    assert (info.model, info.fingerprint, info.dims, info.threshold) == ("fake-f1", "f1", 16, 80)


def test_model_without_compressor(tmp_path):
    embedder = FakeEmbedder(kind="none")
    with pytest.raises(RatioError, match="no compressor"):
        SearchIndex.create_or_open(tmp_path / "a.db", embedder, ratio=0.5)
    with SearchIndex.create_or_open(tmp_path / "a.db", embedder) as index:
        index.add(make_documents(2))
    assert [options["ratio"] for options in embedder.options] == [1.0]


@pytest.mark.parametrize("ratio", [0, 1.5, -1, float("nan"), "half", True])
def test_ratio_out_of_range(tmp_path, embedder, ratio):
    with pytest.raises(RatioError, match="ratio is"):
        SearchIndex.create_or_open(tmp_path / "a.db", embedder, ratio=ratio)
    assert not (tmp_path / "a.db").exists()


def test_missing_file_and_folder(tmp_path, embedder):
    for name, read in product(
        ("none.db", "a" * 300), (lambda path: SearchIndex.open(path, embedder), schema.describe)
    ):
        with pytest.raises(IndexFileError, match=r"no index at .*jaspertc index"):
            read(tmp_path / name)
    with pytest.raises(IndexFileError, match=r"unable to open database file; check that .* folder exists"):
        SearchIndex.create_or_open(tmp_path / "none" / "a.db", embedder)
    with pytest.raises(IndexFileError, match=r"cannot hold a NUL character"):
        SearchIndex.create_or_open(tmp_path / "a\0.db", embedder)
    assert not any(tmp_path.iterdir())
    with pytest.raises(IndexFileError, match="path is a file"):
        SearchIndex.create_or_open(tmp_path, embedder)


def test_file_that_is_no_database(tmp_path, embedder):
    path = tmp_path / "a.db"
    path.write_text("just text\n" * 1000)
    for open_it in (SearchIndex.open, SearchIndex.create_or_open):
        with pytest.raises(IndexFileError, match="not a jaspertc search index"):
            open_it(path, embedder)
    assert path.read_text() == "just text\n" * 1000


def test_database_of_another_application(tmp_path, embedder):
    path = tmp_path / "a.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE meta (key, value)")
    connection.close()
    before = path.read_bytes()
    for open_it in (SearchIndex.open, SearchIndex.create_or_open):
        with pytest.raises(IndexFileError, match="another application"):
            open_it(path, embedder)
    assert path.read_bytes() == before


def test_empty_file(tmp_path, embedder):
    path = tmp_path / "odd name #1?%20.db"
    path.touch()
    with pytest.raises(IndexFileError, match="an empty file"):
        SearchIndex.open(path, embedder)
    with SearchIndex.create_or_open(path, embedder) as index:
        assert len(index) == 0
    assert [file.name for file in tmp_path.iterdir()] == [path.name]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("UPDATE meta SET value = 3 WHERE key = 'format'", "format 3, this jaspertc reads up to 2; upgrade"),
        ("DELETE FROM meta WHERE key = 'format'", "does not say which format"),
        ("UPDATE meta SET value = 'x' WHERE key = 'dims'", "dims is 'x', not a int"),
        ("DROP TABLE meta", "no such table"),
    ],
)
def test_newer_or_broken_description(index, embedder, change, message):
    index.close()
    connection = sqlite3.connect(index.path)
    connection.execute(change)
    connection.commit()
    connection.close()
    with pytest.raises(IndexFileError, match=message):
        SearchIndex.open(index.path, embedder)


@pytest.mark.parametrize("damage", ["overwritten", "cut"])
def test_damaged_file(index, embedder, damage):
    index.add(make_documents(2000))
    index.close()
    size = os.path.getsize(index.path)
    with index.path.open("r+b") as file:
        if damage == "cut":
            file.truncate(size // 2)
        else:
            file.seek(schema.PAGE_BYTES)
            file.write(b"\xa5" * (size - schema.PAGE_BYTES))

    def use():
        with SearchIndex.open(index.path, embedder) as opened:
            opened.search("q", k=5)

    with pytest.raises(IndexFileError, match=r"malformed.*the file is damaged; restore a copy"):
        use()


def test_full_disk_keeps_earlier_batches(index, monkeypatch):
    monkeypatch.setattr(index_module, "BATCH_DOCUMENTS", 100)
    index.add(make_documents(100))
    with index.connections.borrowed() as connection:  # the only one, so that every use gets it
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages + 20}")
    message = "database or disk is full; nothing of the current batch was written, earlier batches are kept"
    with pytest.raises(IndexFileError, match=message):
        index.add(make_documents(5000))
    kept = len(index)
    assert 100 <= kept < 5000
    assert kept % 100 == 0
    assert len(index.search("q", k=5000)) == kept
    with index.connections.borrowed() as connection:
        connection.execute("PRAGMA max_page_count = 100000")
    report = index.add(make_documents(5000))
    assert (report.added, report.unchanged) == (5000 - kept, kept)


def test_read_only_file(index):
    index.add(make_documents(3))
    with index.connections.borrowed() as connection:
        connection.execute("PRAGMA query_only = 1")
    with pytest.raises(IndexFileError, match=r"readonly database; nothing of the current batch.*writable"):
        index.add(make_documents(4))
    with pytest.raises(IndexFileError, match="readonly database; none was removed"):
        index.remove(["doc-1"])
    assert len(index.search("q")) == 3


def test_file_in_use(tmp_path, embedder, monkeypatch):
    monkeypatch.setattr(schema, "LOCK_SECONDS", 0)
    with SearchIndex.create_or_open(tmp_path / "a.db", embedder) as index:
        other = sqlite3.connect(index.path, isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(IndexFileError, match=r"locked.*another process"):
            index.add(make_documents(3))
        other.execute("ROLLBACK")
        other.close()
        assert index.add(make_documents(3)).added == 3


def test_closed_index(index):
    index.close()
    with pytest.raises(IndexFileError, match="closed"):
        index.search("q")


def test_the_file_alone_holds_what_was_written_while_others_have_it_open(index, embedder, tmp_path):
    with SearchIndex.open(index.path, embedder) as other:
        other.add(make_documents(40))
        assert other.remove(["doc-3"]) == 1
        shutil.copy(index.path, tmp_path / "copy.db")  # and not what SQLite keeps beside it
        with SearchIndex.open(tmp_path / "copy.db", embedder) as copy:
            assert len(copy) == len(index) == 39


@pytest.mark.parametrize("change", ["replaced", "moved or removed"])
def test_a_file_that_is_another_by_now_is_not_written(index, embedder, tmp_path, change):
    index.add(make_documents(2))
    new = tmp_path / "new.db"
    if change == "replaced":
        with SearchIndex.create_or_open(new, embedder) as made:
            made.add(make_documents(5))
        os.replace(new, index.path)
    else:
        os.rename(index.path, new)
    for use in (
        lambda: index.add(make_documents(3)),
        lambda: index.search("q"),
        lambda: index.remove(["doc-0"]),
    ):
        with pytest.raises(IndexFileError, match=f"was {change} since it was opened"):
            use()
    with SearchIndex.open(index.path if change == "replaced" else new, embedder) as opened:
        assert len(opened) == (5 if change == "replaced" else 2)


def test_what_searches_taught_is_not_taken_for_changes_of_another_file(index, embedder, tmp_path):
    index.add(make_documents(2))
    with SearchIndex.create_or_open(tmp_path / "new.db", FakeEmbedder(dims=32)) as made:
        made.add(make_documents(5))
    with SearchIndex.open(index.path, embedder) as other:
        other.search("q")  # written as it closes, while the index is open
    index.search("q")
    os.replace(tmp_path / "new.db", index.path)
    index.close()
    upkeep.check(index.path)
    held = upkeep.contents(index.path)
    assert (held.info.documents, held.queries) == (5, 0)
