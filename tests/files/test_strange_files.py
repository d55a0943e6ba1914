"""Strange files of every kind: texts, or an error of ours that names the file and the fix."""

import gzip
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard

from jaspertc.errors import DataFileError
from jaspertc.files import opening
from jaspertc.files.texts import count_rows, read_texts

BOM = b"\xef\xbb\xbf"
JSON = b'{"id": 1, "text": "one"}\n'
PACKED = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}
ONE_TEXT = {
    ".txt": b"one\n",
    ".md": b"one",
    ".html": b"<p>one</p>",
    ".jsonl": JSON,
    ".csv": b"id,text\n1,one\n",
}


def texts_of(path: Path) -> list[str]:
    return [row.text for row in read_texts(path)]


@pytest.mark.parametrize("packed", PACKED)
@pytest.mark.parametrize("suffix", ONE_TEXT)
def test_every_kind_plain_and_packed(tmp_path, suffix, packed):
    path = tmp_path / f"in{suffix}{packed}".upper()
    for content in (ONE_TEXT[suffix], BOM + ONE_TEXT[suffix], ONE_TEXT[suffix].replace(b"\n", b"\r\n")):
        path.write_bytes(PACKED[packed](content))
        assert texts_of(path) == ["one"]
        assert count_rows(path) == 1


@pytest.mark.parametrize("packed", [".gz", ".zst"])
def test_packed_files_that_were_joined(tmp_path, packed):
    path = tmp_path / f"in.jsonl{packed}"
    path.write_bytes(PACKED[packed](BOM + JSON) + PACKED[packed](BOM + JSON))
    assert texts_of(path) == ["one", "one"]


@pytest.mark.parametrize("packed", [".gz", ".zst"])
@pytest.mark.parametrize("cut", [1, 3, 20])
def test_packed_files_cut_short(tmp_path, packed, cut):
    path = tmp_path / f"in.jsonl{packed}"
    lines = b"".join(b'{"text": "%d"}\n' % number**5 for number in range(5000))
    path.write_bytes(PACKED[packed](lines)[:-cut])
    for read in (texts_of, count_rows):
        with pytest.raises(DataFileError, match=rf"in\.jsonl\{packed} .*cut short.*copy it again"):
            read(path)


@pytest.mark.parametrize("suffix", ONE_TEXT)
@pytest.mark.parametrize("content", [b"", BOM])
def test_empty_files_have_no_text_or_an_empty_one(tmp_path, suffix, content):
    path = tmp_path / f"in{suffix}"
    path.write_bytes(content)
    assert set(texts_of(path)) <= {""}


STRANGE = {
    "nul.txt": (b"fine\nn\0ul\n", r"line 2: a NUL character at column 2.*UTF-8"),
    "nul.md": (b"n\0ul", "a NUL character at column 2"),
    "nul.csv": (b"text\nn\0ul\n", "line 2: a NUL character at column 2"),
    "nul.jsonl": (b'{"text": "n\0ul"}', "line 1: a NUL character at column 12"),
    "utf16.txt": ("one\ntwo".encode("utf-16"), "line 1: not UTF-8 at byte 0; convert"),
    "utf16le.txt": ("one\ntwo".encode("utf-16-le"), "line 1: a NUL character.*UTF-16"),
    "latin.md": (b"n\xe4chster", "not UTF-8 at byte 1; convert"),
    "latin.html": (b"<p>n\xe4chster", "not UTF-8 at byte 4; convert"),
    "latin.csv": (b"text\nn\xe4chster\n", "line 2: not UTF-8 at byte 1; convert"),
    "half.jsonl": (b'{"text": "x"}\n{"text": ', "line 2: not JSON"),
    "nan.jsonl": (b'{"text": "x", "score": -Infinity}', "line 1: not JSON: -Infinity"),
    "deep.jsonl": (b"[" * 100_000, "line 1: not JSON"),
    "no_column.csv": (b"id,body\n1,x\n", "line 2: no field 'text', it has id, body.*--text-field"),
    "more_fields.csv": (b"id,text\n1,a,b\n", "line 2: 3 fields, line 1 names 2.*quotes"),
    "two_names.csv": (b"text,text\na,b\n", "line 1: 'text' is the name of two columns; rename"),
    "open_quote.csv": (b'text\n"open\nmore\n', "line 3: no sound CSV"),
    "no.gz.jsonl.gz": (JSON, "no gzip file or was cut short"),
    "no.zst.jsonl.zst": (JSON, "no zst file or was cut short"),
    "no.parquet": (JSON, "corrupt or no parquet file"),
    "empty.parquet": (b"", "corrupt or no parquet file"),
    "unknown.docx": (b"x", r"unknown type, it must end in \.txt"),
    "missing.txt": (None, "does not exist"),
    "missing*.txt": (None, r"a pattern without \.txt files"),
}


@pytest.mark.parametrize("name", STRANGE)
def test_strange_files_are_errors_with_their_name(tmp_path, name):
    content, message = STRANGE[name]
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DataFileError, match=message) as error:
        texts_of(path)
    assert str(path) in str(error.value)


@pytest.mark.parametrize("suffix", [".txt", ".jsonl", ".csv", ".md", ".txt.gz"])
def test_a_text_that_is_too_long(tmp_path, monkeypatch, suffix):
    monkeypatch.setattr(opening, "LONGEST", 1000)
    path = tmp_path / f"in{suffix}"
    start = b'{"text": "' if suffix == ".jsonl" else b"text\n"
    content = start + b"x" * 1001
    path.write_bytes(gzip.compress(content) if suffix.endswith("gz") else content)
    with pytest.raises(DataFileError, match=r"over \d+ MiB in one text; split it"):
        texts_of(path)


def test_a_line_of_100_megabytes(tmp_path):
    path = tmp_path / "in.txt"
    with path.open("wb") as file:
        file.truncate(100 << 20)
    with pytest.raises(DataFileError, match=r"in\.txt, line 1: over 64 MiB"):
        texts_of(path)


def test_parquet_with_two_columns_of_one_name(tmp_path):
    path = tmp_path / "in.parquet"
    texts, ids = pa.array(["x"]), pa.array([1])
    for columns in (["text", "text", "id"], ["text", "id", "id"]):
        arrays = [texts if name == "text" else ids for name in columns]
        pq.write_table(pa.table(arrays, names=columns), path)
        with pytest.raises(DataFileError, match=r"in\.parquet: '(text|id)' is the name of two columns"):
            texts_of(path)
    pq.write_table(pa.table([texts, ids, ids], names=["text", "a", "a"]), path)
    assert texts_of(path) == ["x"]


def test_folders_called_like_files(tmp_path):
    folder = tmp_path / "x.jsonl"
    folder.mkdir()
    with pytest.raises(DataFileError, match=r"x\.jsonl is a folder without \.txt files"):
        texts_of(folder)
    (folder / "part-0.jsonl").write_bytes(JSON)
    assert texts_of(folder) == ["one"]


@pytest.mark.parametrize("read", [texts_of, count_rows])
def test_a_name_that_is_too_long_is_named(read, tmp_path):
    with pytest.raises(DataFileError, match=r"a{300}\.txt cannot be read: .*give another path"):
        read(tmp_path / f"{'a' * 300}.txt")
