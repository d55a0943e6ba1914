"""Reading documents from files."""

import pytest

from jaspertc.errors import DataFileError
from jaspertc.search.documents import Document, read_documents


def test_text_file(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_bytes("\ufefffirst\r\n\n  \n 第二\u2028still second \nlast".encode())
    assert list(read_documents([path])) == [
        Document("notes.txt:1", "first"),
        Document("notes.txt:4", " 第二\u2028still second "),
        Document("notes.txt:5", "last"),
    ]


def test_json_lines(tmp_path):
    path = tmp_path / "a.JSONL"
    path.write_text(
        '{"key": 7, "body": "x", "lang": "en", "n": 1.5, "ok": true, "no": null, "tags": ["a"], "o": {}}\n\n'
        '{"body": "", "key": "b"}\n'
    )
    assert list(read_documents([str(path)], text_field="body", id_field="key")) == [
        Document("7", "x", {"lang": "en", "n": 1.5, "ok": True, "no": None}),
        Document("b", ""),
    ]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"id": "a", "text": "x"', "line 2: not JSON"),
        (b'{"id": "a", "text": "x", "n": NaN}', "line 2: not JSON: NaN is not"),
        (b"[" * 100_000, "line 2: not JSON"),
        (b'{"id": "a", "text": "x", "n": ' + b"1" * 5000 + b"}", "line 2: not JSON"),
        (b'["a"]', "line 2: a list, it must be a JSON object"),
        (b'{"id": "a", "body": "x"}', "line 2: no field 'text', it has id, body; .*--text-field"),
        (b'{"text": "x"}', "line 2: no field 'id'.*--id-field"),
        (b'{"id": "a", "text": 5}', "line 2: 'text' is 5, it must be a string"),
        (b'{"id": "a", "text": null}', "line 2: 'text' is None"),
        (b'{"id": 1.5, "text": "x"}', "line 2: 'id' is 1.5"),
        (b'{"id": true, "text": "x"}', "line 2: 'id' is True"),
        (b'{"id": "", "text": "x"}', "line 2: 'id' is ''"),
        (b"\xff", "line 2: not UTF-8 at byte 0"),
    ],
)
def test_broken_lines(tmp_path, line, message):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"id": "ok", "text": "x"}\n' + line + b"\n")
    rows = read_documents([path])
    assert next(rows).id == "ok"
    with pytest.raises(DataFileError, match=message) as caught:
        next(rows)
    assert str(path) in str(caught.value)


def test_files_are_checked_before_anything_is_read(tmp_path):
    good = tmp_path / "a.txt"
    good.write_text("x\n")
    (tmp_path / "folder.txt").mkdir()
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "a.txt").write_text("y\n")
    for bad, message in (
        (tmp_path / "a.csv", "not a .txt or .jsonl file"),
        (tmp_path / "none.txt", "does not exist"),
        (tmp_path / "folder.txt", "is a folder"),
        (tmp_path / "other" / "a.txt", "would give the same ids"),
    ):
        with pytest.raises(DataFileError, match=message):
            read_documents([good, bad])
