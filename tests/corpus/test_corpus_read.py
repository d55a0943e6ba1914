"""Reading texts: every kind of file, and everything that can be wrong with one."""

import gzip
import io
import sys
from itertools import chain

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from embed_fakes import write_texts

from jaspertc.errors import DataFileError, MissingExtraError
from jaspertc.files.texts import Row, blocks, count_rows, read_texts, source_identity

ROWS = [
    Row("a", "one"),
    Row("b", ""),
    Row("c", "一只猫\u2028next\u0085x\x0b\x1e\ttab"),
    Row("d", "x" * (1 << 20)),
]


@pytest.mark.parametrize("suffix", [".jsonl", ".JSONL", ".jsonl.gz", ".parquet"])
def test_round_trip_with_ids(tmp_path, suffix):
    path = write_texts(tmp_path / f"in{suffix}", ROWS)
    assert list(read_texts(path)) == ROWS
    assert count_rows(path) == len(ROWS)
    other = write_texts(tmp_path / f"other{suffix}", ROWS, text="body", name="key")
    assert list(read_texts(other, "body", "key")) == ROWS
    assert list(read_texts(other, "body")) == [Row(None, row.text) for row in ROWS]


def test_text_lines(tmp_path):
    path = write_texts(tmp_path / "in.txt", ROWS)
    assert [row.text for row in read_texts(path)] == [row.text for row in ROWS]
    path.write_bytes("\ufeffone\r\n\r\n two \nlast".encode())
    assert [row.text for row in read_texts(path)] == ["one", "", " two ", "last"]
    assert count_rows(path) == 4


def test_standard_input(monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO("α\nb".encode()), encoding="ascii"))
    assert list(read_texts("-")) == [Row(None, "α"), Row(None, "b")]
    assert count_rows("-") is None


def test_json_blank_lines_and_integer_ids(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text('\n{"id": 7, "text": "x"}\n  \n{"text": "y", "id": 8}')
    assert list(read_texts(path)) == [Row(7, "x"), Row(8, "y")]
    assert count_rows(path) == 2


@pytest.mark.parametrize("suffix", [".txt", ".jsonl", ".jsonl.gz", ".parquet"])
def test_empty_file(tmp_path, suffix):
    path = tmp_path / f"in{suffix}"
    if suffix == ".parquet":
        pq.write_table(pa.table({"text": pa.array([], pa.string())}), path)
    else:
        path.write_bytes(gzip.compress(b"") if suffix.endswith("gz") else b"")
    assert list(read_texts(path)) == []
    assert count_rows(path) == 0


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"text": "x"', "line 2: not JSON"),
        (b"[" * 100_000, "line 2: not JSON"),
        (b'{"id": 1, "text": NaN}', "line 2: not JSON: NaN"),
        (b'{"id": 1' + b"0" * 5000 + b', "text": ""}', "line 2: not JSON"),
        (b'["x"]', "line 2: a list, it must be a JSON object"),
        (
            b'{"id": 1, "body": "x"}',
            "line 2: no field 'text', it has id, body; name another with --text-field",
        ),
        (b'{"id": 1, "text": null}', "line 2: 'text' is null or missing, it must be a string"),
        (b'{"id": 1, "text": 5}', "line 2: 'text' is 5 of type int, it must be a string"),
        (b'{"text": "x"}', "line 2: 'id' is null or missing"),
        (b'{"id": true, "text": "x"}', "line 2: 'id' is True of type bool"),
        (b'{"id": 1.5, "text": "x"}', "line 2: 'id' is 1.5 of type float"),
        (b'{"id": "", "text": "x"}', "line 2: 'id' is '' of type str, it must be"),
        (b'{"id": "\\ud800", "text": "x"}', "line 2: 'id' has half a surrogate pair"),
        (b'{"id": 1, "text": "\xff"}', "line 2: not UTF-8 at byte 19"),
    ],
)
def test_bad_json_lines(tmp_path, line, message):
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'{"id": 0, "text": "fine"}\n' + line + b"\n")
    rows = read_texts(path)
    assert next(rows).text == "fine"
    with pytest.raises(DataFileError) as error:
        next(rows)
    assert f"{path}, {message}" in str(error.value)


def test_id_after_texts_without(tmp_path):
    path = tmp_path / "in.jsonl"
    path.write_text('{"text": "x"}\n{"text": "y", "id": 3}\n')
    with pytest.raises(DataFileError, match="line 2: 'id' is 3 of type int, but texts before it have no id"):
        list(read_texts(path))
    with pytest.raises(DataFileError, match="line 1: 'id' is null or missing"):
        list(read_texts(path, id_field="id"))


def test_text_that_is_not_utf8(tmp_path):
    path = tmp_path / "in.txt"
    path.write_bytes(b"fine\nn\xe4chster\n")
    with pytest.raises(DataFileError, match=r"in\.txt, line 2: not UTF-8 at byte 1"):
        list(read_texts(path))


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("none.txt", "does not exist"),
        ("folder", "is a folder"),
        ("in.pdf", "unknown type, it must end in .txt"),
    ],
)
def test_no_such_file(tmp_path, name, message):
    (tmp_path / "folder").mkdir()
    (tmp_path / "in.pdf").touch()
    with pytest.raises(DataFileError, match=message):
        read_texts(tmp_path / name)


@pytest.mark.parametrize("content", [b"no gzip", gzip.compress(b'{"text": "x"}\n' * 9999)[:-20]])
def test_broken_gzip(tmp_path, content):
    path = tmp_path / "in.jsonl.gz"
    path.write_bytes(content)
    with pytest.raises(DataFileError, match="no gzip file or was cut short"):
        list(read_texts(path))
    with pytest.raises(DataFileError, match="no gzip file or was cut short"):
        count_rows(path)


@pytest.mark.parametrize(
    ("column", "message"),
    [
        (pa.array(["x", None]), "row 2: 'text' is null or missing"),
        (pa.array([5, 6]), "row 1: 'text' is 5 of type int"),
        (pa.Array.from_buffers(pa.string(), 1, pa.array([b"\xff"]).buffers()), "not UTF-8"),
    ],
)
def test_bad_parquet_texts(tmp_path, column, message):
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"text": column}), path)
    with pytest.raises(DataFileError, match=message):
        list(read_texts(path))


def test_parquet_columns(tmp_path):
    path = tmp_path / "in.parquet"
    pq.write_table(pa.table({"text": pa.array(["x", "y"]).dictionary_encode(), "id": [None, None]}), path)
    assert list(read_texts(path)) == [Row(None, "x"), Row(None, "y")]
    with pytest.raises(DataFileError, match=r"in\.parquet: no field 'body', it has text, id"):
        read_texts(path, "body")
    with pytest.raises(DataFileError, match="no field 'key', it has text, id; name another with --id-field"):
        read_texts(path, id_field="key")
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(DataFileError, match="corrupt or no parquet file"):
        read_texts(path)


def test_parquet_without_pyarrow(tmp_path, monkeypatch):
    path = write_texts(tmp_path / "in.parquet", ROWS)
    monkeypatch.setitem(sys.modules, "pyarrow.parquet", None)
    with pytest.raises(MissingExtraError, match=r"jaspertc\[parquet\]"):
        read_texts(path)


def test_blocks_depend_only_on_their_own_rows():
    rows = [Row(None, "x" * (index % 9)) for index in range(100)]
    whole = list(blocks(rows, 8, characters=30))
    assert list(chain(*whole)) == rows
    assert {len(block) for block in whole[:-1]} == {5, 8}
    assert list(blocks(chain(*whole[3:]), 8, characters=30)) == whole[3:]


def test_identity_changes_with_the_file(tmp_path):
    path = tmp_path / "in.txt"
    path.write_text("one")
    before = source_identity(path)
    assert source_identity(path) == before
    path.write_text("two")
    changed = {key for key, value in source_identity(path).items() if value != before[key]}
    assert "input first MiB (sha256)" in changed
    assert "input size" not in changed
