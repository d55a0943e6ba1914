"""Documents from files: ids that do not depend on what else is in a file, and the name of the file."""

from pathlib import Path

import pytest

from jaspertc.errors import DataFileError
from jaspertc.search.documents import Document
from jaspertc.search.reading import read_documents


def read(folder, *paths, **options):
    return list(read_documents([folder / path for path in paths], folder=folder, **options))


def test_lines_keep_their_ids_whatever_stands_around_them(tmp_path):
    path = tmp_path / "notes.txt"
    path.write_bytes("\ufefffirst\r\n\n  \n 第二\u2028still second \nlast\nfirst\n".encode())
    documents = read(tmp_path, "notes.txt")
    assert [document.text for document in documents] == ["first", " 第二\u2028still second ", "last", "first"]
    assert {document.source for document in documents} == {"notes.txt"}
    ids = [document.id for document in documents]
    assert ids[3] == f"{ids[0]}#2"
    assert all(name.startswith("notes.txt:") for name in ids)

    path.write_text("new\nlast\nfirst\n")
    assert [document.id for document in read(tmp_path, "notes.txt")][1:] == [ids[2], ids[0]]


def test_json_lines(tmp_path):
    (tmp_path / "a.jsonl").write_text(
        '{"key": 7, "body": "x", "lang": "en", "n": 1.5, "ok": true, "no": null, "tags": ["a"], "o": {}}\n\n'
        '{"body": "", "key": "b"}\n'
    )
    assert read(tmp_path, "a.jsonl", text_field="body", id_field="key") == [
        Document("7", "x", {"lang": "en", "n": 1.5, "ok": True, "no": None}, "a.jsonl"),
        Document("b", "", {}, "a.jsonl"),
    ]
    (tmp_path / "b.jsonl").write_text('{"text": "x", "n": 1}\n{"text": " "}\n{"text": "y"}\n')
    documents = read(tmp_path, "b.jsonl")
    assert [document.text for document in documents] == ["x", "y"]
    assert all(document.id.startswith("b.jsonl:") for document in documents)


def test_a_folder_is_a_document_a_file(tmp_path):
    (tmp_path / "docs" / "deep").mkdir(parents=True)
    (tmp_path / "docs" / "a.txt").write_text("one\ntwo\n")
    (tmp_path / "docs" / "deep" / "b.txt").write_text("three")
    documents = read(tmp_path, "docs")
    assert [(document.text, document.source) for document in documents] == [
        ("one\ntwo\n", "docs"),
        ("three", "docs"),
    ]
    assert [document.id.removesuffix(".txt") for document in documents] == ["docs/a", "docs/deep/b"]


def test_a_file_of_a_folder_that_cannot_be_read_is_left_out_and_named(tmp_path):
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs" / "a.md").write_text("one")
    (tmp_path / "docs" / "b.txt").write_bytes(b"caf\xe9")
    (tmp_path / "docs" / "c.md").write_bytes(b"U\0T\0F\0")
    (tmp_path / "docs" / "d.txt").write_text("four")
    told: list[str] = []
    names: list[str] = []

    def skip(why: str, name: str) -> None:
        told.append(why)
        names.append(name)

    documents = list(read_documents([tmp_path / "docs"], folder=tmp_path, skip=skip))
    assert [document.text for document in documents] == ["one", "four"]
    assert [Path(line.split(":")[0]).name for line in told] == ["b.txt", "c.md"]
    assert "not UTF-8 at byte 3" in told[0]
    (tmp_path / "docs" / "b.txt").write_text("two")
    (tmp_path / "docs" / "c.md").write_text("three")
    whole = {document.id for document in read_documents([tmp_path / "docs"], folder=tmp_path)}
    assert whole == {document.id for document in documents} | {*names}
    (tmp_path / "docs" / "b.txt").write_bytes(b"caf\xe9")
    with pytest.raises(DataFileError, match=r"b\.txt: not UTF-8"):
        list(read_documents([tmp_path / "docs"], folder=tmp_path))
    (tmp_path / "docs" / "rows.jsonl").write_text("{")
    with pytest.raises(DataFileError, match=r"rows\.jsonl, line 1: not JSON"):
        list(read_documents([tmp_path / "docs"], folder=tmp_path, skip=skip))


def test_files_of_one_name_in_two_folders(tmp_path):
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.txt").write_text("same\n")
    first, second = read(tmp_path, "x/a.txt", "y/a.txt")
    assert first.id != second.id
    assert (first.source, second.source) == ("x/a.txt", "y/a.txt")


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (b'{"id": "a", "text": "x"', "line 2: not JSON"),
        (b'{"id": "a", "text": "x", "n": NaN}', "line 2: not JSON: NaN is not"),
        (b"[" * 100_000, "line 2: not JSON"),
        (b'{"id": "a", "text": "x", "n": ' + b"1" * 5000 + b"}", "line 2: not JSON"),
        (b'["a"]', "line 2: a list, it must be a JSON object"),
        (b'{"id": "a", "body": "x"}', "line 2: no field 'text', it has id, body; .*--text-field"),
        (b'{"text": "x"}', "line 2: 'id' is null or missing"),
        (b'{"id": "a", "text": 5}', "line 2: 'text' is 5"),
        (b'{"id": "a", "text": null}', "line 2: 'text' is null"),
        (b'{"id": 1.5, "text": "x"}', "line 2: 'id' is 1.5"),
        (b'{"id": true, "text": "x"}', "line 2: 'id' is True"),
        (b"\xff", "line 2: not UTF-8 at byte 0"),
    ],
)
def test_broken_lines(tmp_path, line, message):
    path = tmp_path / "a.jsonl"
    path.write_bytes(b'{"id": "ok", "text": "x"}\n' + line + b"\n")
    rows = read_documents([path], folder=tmp_path)
    assert next(rows).id == "ok"
    with pytest.raises(DataFileError, match=message) as caught:
        next(rows)
    assert str(path) in str(caught.value)


@pytest.mark.parametrize(
    ("bad", "message"), [("a.exe", "a.exe has an unknown type"), ("none.txt", "does not exist")]
)
def test_files_are_checked_before_anything_is_read(tmp_path, bad, message):
    (tmp_path / "a.txt").write_text("x\n")
    (tmp_path / "a.exe").write_text("x\n")
    with pytest.raises(DataFileError, match=message):
        read_documents([tmp_path / "a.txt", tmp_path / bad], folder=tmp_path)


def test_pages_notes_and_tables(tmp_path):
    for folder in ("x", "y"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a.md").write_text(f"# {folder}")
    (tmp_path / "page.html").write_text("<title>T</title><script>no</script><p>text")
    (tmp_path / "table.csv").write_text("id,text,lang\n7,one,en\n8,zwei,de\n")
    assert read(tmp_path, "x/a.md", "y/a.md", "page.html", "table.csv") == [
        Document("x/a.md", "# x", {}, "x/a.md"),
        Document("y/a.md", "# y", {}, "y/a.md"),
        Document("page.html", "T\ntext", {}, "page.html"),
        Document("7", "one", {"lang": "en"}, "table.csv"),
        Document("8", "zwei", {"lang": "de"}, "table.csv"),
    ]
    assert [document.id for document in read(tmp_path, "x")] == ["x/a.md"]
