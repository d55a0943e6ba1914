"""Folders of text files as inputs."""

import pytest

from jaspertc.errors import DataFileError
from jaspertc.files.texts import Row, count_rows, read_texts, source_identity


@pytest.fixture
def folder(tmp_path):
    path = tmp_path / "texts"
    (path / "b").mkdir(parents=True)
    (path / ".git").mkdir()
    (path / "b" / "two.txt").write_bytes("\ufefftwo\r\nlines".encode())
    (path / "a.TXT").write_text("one")
    (path / "b" / "notes.rst").write_text("no text")
    (path / ".git" / "x.txt").write_text("hidden")
    return path


def test_one_text_a_file_in_order(folder):
    assert list(read_texts(folder)) == [Row("a", "one"), Row("b/two", "two\nlines")]
    assert list(read_texts(str(folder), "body", "key")) == list(read_texts(folder))
    assert count_rows(folder) == 2


def test_identity_changes_with_any_file(folder):
    before = source_identity(folder)
    assert source_identity(folder) == before
    (folder / "b" / "notes.rst").write_text("other")
    assert source_identity(folder) == before
    (folder / "c.txt").write_text("new")
    assert source_identity(folder) != before


def test_not_utf8_and_two_files_with_one_id(folder):
    (folder / "z.txt").write_bytes(b"n\xe4chster")
    with pytest.raises(DataFileError, match=r"z\.txt: not UTF-8 at byte 1"):
        list(read_texts(folder))
    (folder / "z.txt").unlink()
    (folder / "a.txt").write_text("again")
    if count_rows(folder) == 3:  # file systems that tell A.TXT from a.txt
        with pytest.raises(DataFileError, match="another file has the id 'a'"):
            list(read_texts(folder))


def test_no_text_files(tmp_path):
    with pytest.raises(DataFileError, match=r"is a folder without \.txt files"):
        read_texts(tmp_path)
