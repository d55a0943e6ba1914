"""Units of a corpus, wherever it lies, and the rows that are wrong in it."""

import gzip
import json
import random
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zstandard
from cluster_corpus import rows_of, write_lines

from jaspertc.cluster.reading import Bad, Fields, read_unit
from jaspertc.cluster.units import Unit, cut, find_inputs, id_kind, identity_of, texts_by_file
from jaspertc.errors import DataFileError
from jaspertc.files.texts import Row, read_texts

fsspec = pytest.importorskip("fsspec")
MEBIBYTE = 1 << 20


def read_all(source: str, rows: int, most_bytes: int = MEBIBYTE) -> tuple[list[Row], list[Bad]]:
    urls = find_inputs(source)
    by_file = texts_by_file(source, urls)
    fields = Fields(text="text", id="id", ids=id_kind(urls[0], None, "text", by_file), most_bytes=most_bytes)
    units = cut(urls, rows, by_file)
    assert units == [Unit.from_json(unit.to_json()) for unit in units]
    assert [unit.number for unit in units] == list(range(len(units)))
    found = [read_unit(unit, fields) for unit in units]
    return [row for part, _ in found for row in part], [row for _, part in found for row in part]


def reasons(bad: list[Bad]) -> dict[object, str]:
    return {row.id: row.reason for row in bad}


def broken_rows() -> list[object]:
    rows: list[object] = list(rows_of(60))
    rows[10] = {"id": "null", "text": None}
    rows[20] = {"id": "huge", "text": "x" * 5_000_000}
    rows[30] = b"{nonsense"
    rows[40] = b'{"id": "latin", "text": "\xff"}'
    rows[50] = {"text": "without id"}
    return rows


@pytest.mark.parametrize("rows", [1, 7, 1000])
@pytest.mark.parametrize("kind", [".jsonl", ".jsonl.gz"])
def test_bad_lines_are_named_and_all_others_read(tmp_path: Path, kind: str, rows: int) -> None:
    path = write_lines(tmp_path / "texts.jsonl", broken_rows())
    if kind == ".jsonl.gz":
        path.with_suffix(".jsonl.gz").write_bytes(gzip.compress(path.read_bytes()))
        path = path.with_suffix(".jsonl.gz")
    found, bad = read_all(str(path), rows)
    sound = [row for number, row in enumerate(rows_of(60)) if number not in (10, 20, 30, 40, 50)]
    assert [(row.id, row.text) for row in found] == [(row["id"], row["text"]) for row in sound]
    assert sorted(row.reason for row in bad) == ["no id", "no text", "not JSON", "not UTF-8", "too long"]
    assert reasons(bad)["null"] == "no text"
    assert reasons(bad)["huge"] == "too long"


def test_every_line_is_in_one_unit_wherever_it_is_cut(tmp_path: Path) -> None:
    dice = random.Random(0)
    rows = [{"id": i, "text": "猫" * dice.randrange(40)} for i in range(200)]
    path = write_lines(tmp_path / "texts.jsonl", rows)
    path.write_bytes(path.read_bytes().removesuffix(b"\n"))
    for size in (1, 2, 3, 11, 50):
        found, bad = read_all(str(path), size)
        assert [row.id for row in found] == list(range(200))
        assert not bad


def damage(path: Path, group: int) -> None:
    """Overwrite the texts of a row group."""
    column = pq.ParquetFile(path).metadata.row_group(group).column(1)
    places = [place for place in (column.dictionary_page_offset, column.data_page_offset) if place]
    content = bytearray(path.read_bytes())
    content[min(places) : min(places) + 60] = bytes(60)
    path.write_bytes(content)


@pytest.mark.parametrize("rows", [10, 25, 100])
def test_a_broken_row_group_loses_only_itself(tmp_path: Path, rows: int) -> None:
    path, texts = tmp_path / "texts.parquet", rows_of(100)
    columns = {"id": [row["id"] for row in texts], "text": [row["text"] for row in texts]}
    columns["text"][3] = None  # type: ignore[call-overload]
    pq.write_table(pa.table(columns), path, row_group_size=25)
    damage(path, 2)
    found, bad = read_all(str(path), rows)
    assert [row.id for row in found] == [f"t{i}" for i in range(100) if i != 3 and not 50 <= i < 75]
    assert reasons(bad) == {"t3": "no text"} | {f"t{i}": "broken row group" for i in range(50, 75)}


def test_a_file_without_footer_is_one_bad_row_among_sound_files(tmp_path: Path) -> None:
    texts = rows_of(8)
    pq.write_table(pa.Table.from_pylist(texts), tmp_path / "a.parquet")
    (tmp_path / "b.parquet").write_bytes((tmp_path / "a.parquet").read_bytes()[:-20])
    (tmp_path / "_passed_over.parquet").write_bytes(b"")
    found, bad = read_all(str(tmp_path), 100)
    assert [row.id for row in found] == [row["id"] for row in texts]
    assert [row.reason for row in bad] == ["broken file"]
    assert "b.parquet" in bad[0].where


PACKED = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.ZstdCompressor().compress}
ROWS = [{"id": f"{number}", "text": f'text {number}, with \u2028 "quotes"'} for number in range(9)]
JSON = "".join(json.dumps(row, ensure_ascii=False) + "\r\n" for row in ROWS)
CSV = "id,text\n" + "".join(
    '{id},"{0}\nsecond line"\n'.format(row["text"].replace('"', '""'), **row) for row in ROWS
)
KINDS = {
    ".jsonl": JSON,
    ".csv": CSV,
    ".txt": "a\r\n\n\u2028b\nc",
    ".md": "# a\r\nb",
    ".html": "<p>a<script>no</script>",
}


@pytest.mark.parametrize("rows", [1, 4, 100])
@pytest.mark.parametrize("packed", PACKED)
@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_as_the_local_engine_reads_it(tmp_path: Path, kind: str, packed: str, rows: int) -> None:
    path = tmp_path / f"texts{kind}{packed}"
    path.write_bytes(PACKED[packed](b"\xef\xbb\xbf" + KINDS[kind].encode()))
    for source in (path, tmp_path / f"*{kind}{packed}"):
        found, bad = read_all(str(source), rows)
        local = list(read_texts(source))
        assert not bad
        assert [row.text for row in found] == [row.text for row in local]
        if local[0].id is not None:
            assert found == local


@pytest.mark.parametrize("rows", [1, 2, 100])
def test_a_folder_of_all_kinds_as_the_local_engine_reads_it(tmp_path: Path, rows: int) -> None:
    for number, (kind, content) in enumerate(KINDS.items()):
        for packed, pack in PACKED.items():
            path = tmp_path / f"part {number}" / f"a{packed.replace('.', '-')}{kind}{packed}"
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(pack(content.encode()))
    (tmp_path / ".hidden.md").write_text("no")
    (tmp_path / "picture.png").write_text("no")
    found, bad = read_all(str(tmp_path), rows)
    assert not bad
    assert sorted(found) == sorted(read_texts(tmp_path))
    assert len(found) == 2 * 3 * len(ROWS) + 9


def test_what_is_broken_in_other_kinds(tmp_path: Path) -> None:
    broken = {
        "a.csv": b"id,text\n1,one\n2,two,three\n4,four\n",
        "b.csv": b"id,text,text\n1,one,one\n",
        "c.html": b"<p>\xff",
        "d.md": b"nul \0",
        "e.jsonl": b'{"id": "n", "text": "\0"}\n{"id": "x", "text": "x"}\n',
        "f.jsonl.zst": PACKED[".zst"](JSON.encode() * 200)[:-5],
        "g.txt.gz": b"no gzip",
    }
    for name, content in broken.items():
        (tmp_path / name).write_bytes(content)
    found, bad = read_all(str(tmp_path), 100)
    assert [row.id for row in found][:2] == ["1", "x"]
    assert {row.id for row in found} <= {"1", "x", *(row["id"] for row in ROWS)}
    seen = " ".join(f"{row.where}: {row.reason}" for row in bad)
    for name in broken:
        assert name in seen, name
    assert "line 3: 3 fields, line 1 names 2" in seen
    assert {"broken file", "a NUL character"} == {row.reason for row in bad}


def test_a_store_that_does_not_answer_is_no_broken_file(tmp_path: Path) -> None:
    for name in ("a.csv", "a.md", "a.jsonl.gz"):
        path = tmp_path / name
        path.write_bytes(gzip.compress(b"{}") if name.endswith("gz") else b"id,text\n1,one\n")
        by_file = texts_by_file(str(path), find_inputs(str(path)))
        (unit,) = cut(find_inputs(str(path)), 10, by_file)
        path.unlink()
        with pytest.raises(DataFileError, match="does not exist"):
            read_unit(unit, Fields(text="text", id="id", ids="string", most_bytes=MEBIBYTE))


def test_object_stores_and_patterns() -> None:
    memory = fsspec.filesystem("memory")
    lines = b"".join(json.dumps(row).encode() + b"\n" for row in rows_of(20))
    memory.pipe_file("/corpus/1.jsonl", lines[: lines.index(b"\n", 500) + 1])
    memory.pipe_file("/corpus/2.jsonl", lines[lines.index(b"\n", 500) + 1 :])
    try:
        for source in ("memory://corpus", "memory://corpus/*.jsonl"):
            found, bad = read_all(source, 6)
            assert [row.id for row in found] == [f"t{i}" for i in range(20)]
            assert not bad
        before = identity_of(find_inputs("memory://corpus"))
        memory.pipe_file("/corpus/2.jsonl", b"{}\n")
        assert identity_of(find_inputs("memory://corpus")) != before
    finally:
        memory.rm("/corpus", recursive=True)


def test_ids_as_they_come(tmp_path: Path) -> None:
    plain = tmp_path / "plain.txt"
    plain.write_text("one\r\ntwo\n\nfour", encoding="utf-8")
    found, _ = read_all(str(plain), 100)
    assert [row.text for row in found] == ["one", "two", "", "four"]
    assert all(str(row.id).startswith("sha:") for row in found)
    numbers = write_lines(tmp_path / "numbers.jsonl", [{"id": 1, "text": "a"}, {"id": "b", "text": "b"}])
    found, bad = read_all(str(numbers), 100)
    assert ([row.id for row in found], reasons(bad)) == ([1], {"b": "id of another kind"})


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("-", "standard input"),
        ("{}/nothing.jsonl", "holds no"),
        ("{}/texts.docx", "unknown type"),
        ("nowhere://bucket", "nowhere"),
    ],
)
def test_what_cannot_be_read_is_said(tmp_path: Path, source: str, message: str) -> None:
    (tmp_path / "texts.docx").write_text("a,b\n")
    with pytest.raises(DataFileError, match=message):
        find_inputs(source.format(tmp_path))


def test_missing_columns(tmp_path: Path) -> None:
    pq.write_table(pa.table({"body": ["a"]}), tmp_path / "t.parquet")
    (url,) = find_inputs(str(tmp_path / "t.parquet"))
    with pytest.raises(DataFileError, match="'text'"):
        id_kind(url, None, "text")
    assert id_kind(url, None, "body") == "none"
    with pytest.raises(DataFileError, match="--id-field"):
        id_kind(url, "name", "body")
