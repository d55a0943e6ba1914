"""Folders, patterns, pages and tables of texts, and their ids."""

import pytest

from jaspertc.errors import DataFileError
from jaspertc.files.html_text import html_text
from jaspertc.files.json_lines import read_log, read_objects, read_rows
from jaspertc.files.texts import Row, count_rows, expanded, read_texts, source_identity
from jaspertc.files.texts import read_rows as read_with_fields


@pytest.fixture
def folder(tmp_path):
    for name, content in {
        "a.txt": "one\ntwo",
        "b.md": "# three",
        "c/d.html": "<title>four</title><script>no</script>",
        "c/a.md": "five",
        ".hidden.md": "no",
        "e.png": "no",
    }.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(content)
    return tmp_path


def test_a_folder_of_several_kinds(folder):
    rows = [Row("a", "one\ntwo"), Row("b.md", "# three"), Row("c/a.md", "five"), Row("c/d.html", "four")]
    assert list(read_texts(folder)) == rows
    assert count_rows(folder) == 4


def test_standard_input_that_is_closed(monkeypatch):
    monkeypatch.setattr("sys.stdin", None)
    with pytest.raises(DataFileError, match="standard input is closed"):
        list(read_texts("-"))


def test_patterns(folder):
    assert list(read_texts(f"{folder}/*.txt")) == [Row(None, "one"), Row(None, "two")]
    assert count_rows(f"{folder}/*.txt") == 2
    assert list(read_texts(f"{folder}/**/a.md")) == [Row("c/a.md", "five")]
    assert expanded([f"{folder}/**/*.md", folder / "a.txt"]) == [
        folder / "b.md",
        folder / "c" / "a.md",
        folder / "a.txt",
    ]
    before = source_identity(f"{folder}/*.md")
    (folder / "a.txt").write_text("changed")
    assert source_identity(f"{folder}/*.md") == before
    (folder / "new.md").write_text("new")
    assert source_identity(f"{folder}/*.md") != before
    (folder / "[odd].txt").write_text("a name with wildcards is a file where it is there")
    assert count_rows(folder / "[odd].txt") == 1


def test_ids_for_all_texts_of_a_folder_or_for_none(folder):
    (folder / "z.jsonl").write_text('{"text": "six"}\n')
    assert [row.id for row, _ in read_with_fields(folder)][-1] is None
    with pytest.raises(DataFileError, match="give their texts ids, others do not"):
        list(read_texts(folder))


def test_csv(tmp_path):
    path = tmp_path / "in.csv"
    path.write_bytes('key,body,n\r\n1,"a, ""b""\r\nc",x\r\n\r\n2,\u2028,y\r\n'.encode())
    assert list(read_with_fields(path, "body", "key")) == [
        (Row("1", 'a, "b"\nc'), {"key": "1", "body": 'a, "b"\nc', "n": "x"}),
        (Row("2", "\u2028"), {"key": "2", "body": "\u2028", "n": "y"}),
    ]
    assert count_rows(path) == 2
    path.write_text("text\n" + "x" * 300_000 + "\n")  # the library's own limit is 131,072
    assert [len(row.text) for row in read_texts(path)] == [300_000]


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("<p>a<p>b", "a\nb"),
        ("a<b>b</b>c &lt; d&nbsp;e", "abc < d e"),
        ("<head><style>x<title>t</title></style><title>T</title>body", "T\nbody"),
        ("<ul><li>1<li>2</ul><br/>3", "1\n2\n3"),
        ("a\n  b<!-- c -->\n<script>if (a<b) {}</script> d", "a b d"),
        ("<svg><title>no</title></svg><noscript>no</noscript>yes", "yes"),
        ("<template>open<body>text", "text"),
        ("", ""),
        ("1 < 2 & 3", "1 < 2 & 3"),
    ],
)
def test_text_of_a_page(page, text):
    assert html_text(page) == text


def test_json_lines_of_joined_files_and_odd_line_ends(tmp_path):
    path = tmp_path / "in.jsonl"
    joined = '{"a": "\u2028\u2029\x85\ufeff"}\ufeff{"a": 2} \ufeff{"a": 3}'
    path.write_bytes(f'\ufeff{{"a": 1}}\r\n\r\n{joined}\n\ufeff{{"a": 4}}'.encode())
    assert [row["a"] for _, row in read_objects(path)] == [1, "\u2028\u2029\x85\ufeff", 2, 3, 4]
    assert [where.rpartition(" ")[2] for where, _ in read_objects(path)] == ["1", "3", "3", "3", "4"]


def test_rows_with_a_schema(tmp_path):
    path = tmp_path / "in.jsonl"
    for row, message in {
        '{"text": 5}': "line 2: key 'text' is 5, it must be a string",
        '{"body": "x"}': "line 2: no key 'text', it has body",
        '{"text": "x", "n": NaN}': "line 2: not JSON: NaN",
        '{"text": "x", "n": [-1e999]}': "line 2: not JSON: -1e999 is too large",
        "[1]": "line 2: a list, it must be a JSON object",
    }.items():
        path.write_text('{"text": "fine"}\n' + row)
        with pytest.raises(DataFileError, match=message):
            read_rows(path, {"text": "a string"})


def test_a_log_that_was_cut_short(tmp_path):
    path = tmp_path / "log.jsonl"
    assert read_log(path) == []
    path.write_text('{"step": 1}\n{"st\n{"step": 2}\n{"step', encoding="utf-8")
    assert read_log(path) == [{"step": 1}, {"step": 2}]
