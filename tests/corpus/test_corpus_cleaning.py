"""Cleaning as a whole: what is kept and why, ids, fields, and files that appear whole or not at all."""

import gzip
import json

import pyarrow.parquet as pq
import pytest

from jaspertc.corpus import cleaning
from jaspertc.corpus.cleaning import Cleaner, Rules, check_inputs, clean_files, read_excluded
from jaspertc.corpus.duplicates import Excluded
from jaspertc.errors import DataFileError, InputError
from jaspertc.files.hashes import content_id

LONG = "The quick brown fox jumps over the lazy dog while a small red boat drifts slowly past the old mill"
ROWS = [
    {"id": "a", "text": f"  {LONG}.\r\n", "source": "x", "lang": "en"},
    {"id": "b", "text": " \t"},
    {"id": "c", "text": "ab"},
    {"id": "d", "text": "==== ---- a"},
    {"id": "e", "text": "again\nagain\nagain\nmore"},
    {"id": "f", "text": LONG.upper() + "!!!"},
    {"id": "g", "text": LONG + " today"},
    {"id": "h", "text": "图书馆每天早上九点开门,晚上八点关门。"},
    {"id": "i", "text": LONG + ", today."},
    {"id": 10, "text": "A text that is kept, with a number for its id."},
]


def write(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")
    return path


def lines(path):
    data = path.read_bytes()
    return [
        json.loads(line) for line in (gzip.decompress(data) if path.suffix == ".gz" else data).splitlines()
    ]


def test_reasons_ids_and_fields(tmp_path):
    source = write(tmp_path / "in.jsonl", ROWS)
    told = []
    counts = clean_files(
        [source],
        tmp_path / "out.jsonl",
        Cleaner(Rules()),
        dropped=tmp_path / "dropped.jsonl",
        advance=told.append,
    )
    assert sum(told) == counts.read == 10
    kept = lines(tmp_path / "out.jsonl")
    assert [row["id"] for row in kept] == ["a", "h", 10]
    assert kept[0] == {"id": "a", "text": f"{LONG}.", "source": "x", "lang": "en"}
    dropped = lines(tmp_path / "dropped.jsonl")
    assert [(row["id"], row["reason"], row.get("of")) for row in dropped] == [
        ("b", "empty", None),
        ("c", "too short", None),
        ("d", "mostly symbols", None),
        ("e", "repeated lines", None),
        ("f", "exact duplicate", "a"),
        ("g", "near duplicate", "a"),
        ("i", "exact duplicate", "a"),  # of a text that was itself near to a
    ]
    assert {row["file"] for row in dropped} == {str(source)}
    assert counts.kept == 3
    assert counts.changed == 1
    assert {reason: number for reason, number in counts.dropped.items() if number} == {
        "empty": 1,
        "too short": 1,
        "mostly symbols": 1,
        "repeated lines": 1,
        "exact duplicate": 2,
        "near duplicate": 1,
    }


def test_a_clean_corpus_stays_as_it_is(tmp_path):
    clean_files([write(tmp_path / "in.jsonl", ROWS)], tmp_path / "once.jsonl.gz", Cleaner(Rules()))
    counts = clean_files([tmp_path / "once.jsonl.gz"], tmp_path / "twice.jsonl.gz", Cleaner(Rules()))
    assert counts.kept == counts.read
    assert counts.changed == 0
    assert (tmp_path / "once.jsonl.gz").read_bytes() == (tmp_path / "twice.jsonl.gz").read_bytes()


@pytest.mark.parametrize(
    ("rules", "ids"),
    [
        (Rules(near=None), ["a", "g", "h", 10]),
        (Rules(near=1.0), ["a", "g", "h", 10]),
        (Rules(min_characters=0, min_letters=0, max_repeated=1), ["a", "c", "d", "e", "h", 10]),
        (Rules(min_characters=40), ["a", 10]),
        (Rules(max_characters=40), ["h"]),
    ],
)
def test_rules(tmp_path, rules, ids):
    clean_files([write(tmp_path / "in.jsonl", ROWS)], tmp_path / "out.jsonl", Cleaner(rules))
    assert [row["id"] for row in lines(tmp_path / "out.jsonl")] == ids


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"min_letters": 1.5}, r"min_letters is 1\.5"),
        ({"max_repeated": -1}, "max_repeated is -1"),
        ({"min_characters": -1}, "min_characters is -1"),
        ({"max_characters": 3}, r"at least min_characters \(4\)"),
        ({"max_characters": 0, "min_characters": 0}, "max_characters is 0"),
    ],
)
def test_rules_out_of_range(options, words):
    with pytest.raises(InputError, match=words):
        Rules(**options)


def test_texts_without_ids_other_kinds_and_content_ids(tmp_path):
    (tmp_path / "in.txt").write_text(f"{LONG}\n\n  A second   line of text \n{LONG}\n")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "one.txt").write_text("First line.\nSecond line.\n")
    inputs = [tmp_path / "in.txt", folder]
    clean_files(inputs, tmp_path / "out.jsonl", Cleaner(Rules()))
    texts = [LONG, "A second line of text", "First line.\nSecond line."]
    ids = [content_id(texts[0]), content_id(texts[1]), "one"]
    assert lines(tmp_path / "out.jsonl") == [{"id": name, "text": text} for name, text in zip(ids, texts)]
    clean_files(inputs, tmp_path / "new.jsonl", Cleaner(Rules(content_ids=True)))
    assert [row["id"] for row in lines(tmp_path / "new.jsonl")] == [content_id(text) for text in texts]


def test_parquet_and_named_fields(tmp_path, monkeypatch):
    monkeypatch.setattr("jaspertc.files.lines.PARQUET_ROWS", 2)
    rows = [{"key": number, "body": f"{LONG} {'x' * number}", "more": 1} for number in range(5)]
    source = write(tmp_path / "in.jsonl", rows)
    options = {"text_field": "body", "id_field": "key"}
    clean_files([source], tmp_path / "out.parquet", Cleaner(Rules(near=None)), **options)
    table = pq.read_table(tmp_path / "out.parquet")
    assert table.to_pylist() == [{"key": str(row["key"]), "body": row["body"].strip()} for row in rows]
    again = tmp_path / "again.parquet"
    clean_files([tmp_path / "out.parquet"], again, Cleaner(Rules(near=None)), **options)
    assert pq.read_table(again) == table
    clean_files([source], tmp_path / "out.jsonl", Cleaner(Rules(near=None)), **options)
    assert lines(tmp_path / "out.jsonl")[0] == {**rows[0], "body": LONG}


def test_excluded_texts(tmp_path):
    aside = write(
        tmp_path / "eval.jsonl",
        [
            {"id": "a text that is kept with", "sentence1": "A small red boat.", "score": 3.5},
            {"id": "y", "sentence1": "x", "passage": "请问图书馆每天早上九点开门,晚上八点关门吗?"},
        ],
    )
    (tmp_path / "more.txt").write_text("jumps over the lazy dog while a small red boat")
    excluded = Excluded(characters=17)
    assert read_excluded([aside, tmp_path / "more.txt"], excluded) == 4
    rows = [
        *ROWS,
        {"id": "s", "text": "a SMALL red boat"},
        {"id": "t", "text": "jumps over the lazy dog alone"},
    ]
    counts = clean_files(
        [write(tmp_path / "in.jsonl", rows)], tmp_path / "out.jsonl", Cleaner(Rules(), excluded)
    )
    assert [row["id"] for row in lines(tmp_path / "out.jsonl")] == [10, "t"]
    assert counts.dropped["equals an excluded text"] == 1
    assert counts.dropped["overlaps an excluded text"] == 5  # a, f, g, i and h, of 17 characters
    (tmp_path / "none.txt").write_text("")
    with pytest.raises(DataFileError, match=r"none\.txt: no texts to exclude"):
        read_excluded([tmp_path / "none.txt"], Excluded())


def test_excluded_texts_in_lists_and_objects(tmp_path):
    row = {
        "id": ["its own id"],
        "positive": [LONG],
        "negatives": [{"id": "the id of a text in it", "title": {"en": "An old mill."}}, 3, None],
        "deep": None,
    }
    for _ in range(300):
        row["deep"] = [{"deeper": row["deep"] or "A small red boat."}]
    (tmp_path / "eval").mkdir()
    aside = write(tmp_path / "eval" / "eval.jsonl", [row])
    (tmp_path / "eval" / "page.txt").write_text("Boats and mills\nof old.")
    rows = [
        {"id": name, "text": text}
        for name, text in enumerate(
            [
                "its own id",
                LONG,
                "the id of a text in it",
                "an old mill",
                "a small red boat",
                "boats and mills of old",
            ]
        )
    ]
    source = write(tmp_path / "in.jsonl", rows)
    for path, found, kept in (
        (aside, 4, [0, 5]),
        (tmp_path / "eval", 5, [0]),
        (tmp_path / "*" / "*.jsonl", 4, [0, 5]),
    ):
        excluded = Excluded()
        assert read_excluded([path], excluded) == found
        clean_files([source], tmp_path / "out.jsonl", Cleaner(Rules(), excluded))
        assert [row["id"] for row in lines(tmp_path / "out.jsonl")] == kept


def test_one_id_twice(tmp_path):
    first = write(tmp_path / "one.jsonl", [{"id": 1, "text": "some text"}])
    second = write(tmp_path / "two.jsonl", [{"id": "1", "text": "another one"}])
    with pytest.raises(DataFileError, match=r"two\.jsonl: the id '1' came before; .*--content-ids"):
        clean_files([first, second], tmp_path / "out.jsonl", Cleaner(Rules()))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["one.jsonl", "two.jsonl"]


@pytest.mark.parametrize("name", ["out.jsonl", "out.jsonl.gz", "out.parquet"])
def test_a_failing_run_leaves_nothing_and_keeps_what_was_there(tmp_path, name):
    source = tmp_path / "in.jsonl"
    source.write_text(json.dumps(ROWS[0]) + "\nno json\n")
    (tmp_path / name).write_text("before")
    with pytest.raises(DataFileError, match="line 2: not JSON"):
        clean_files([source], tmp_path / name, Cleaner(Rules()), dropped=tmp_path / "dropped.jsonl")
    assert (tmp_path / name).read_text() == "before"
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl", name]


def test_a_full_disk_is_an_error_with_the_name(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(cleaning, "rows_aside", full)
    source = write(tmp_path / "in.jsonl", ROWS)
    with pytest.raises(DataFileError, match=r"out\.jsonl could not be written \(No space left"):
        clean_files([source], tmp_path / "out.jsonl", Cleaner(Rules()))


def test_the_file_that_could_not_be_written_is_named(tmp_path):
    source = write(tmp_path / "in.jsonl", ROWS)
    with pytest.raises(DataFileError, match=r"none/d\.jsonl could not be written"):
        clean_files([source], tmp_path / "o.jsonl", Cleaner(Rules()), dropped=tmp_path / "none" / "d.jsonl")
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_inputs_are_not_written(tmp_path):
    source = write(tmp_path / "in.jsonl", ROWS)
    with pytest.raises(DataFileError, match="is an input"):
        check_inputs([source], [source, None])
    with pytest.raises(DataFileError, match=r"nowhere\.jsonl does not exist"):
        check_inputs([tmp_path / "nowhere.jsonl"], [])
    (tmp_path / "x.txt").write_text("x")
    with pytest.raises(DataFileError, match="is in the folder"):
        check_inputs([tmp_path], [tmp_path / "out.jsonl"])
    check_inputs([source, "-"], [tmp_path / "out.jsonl", None])
