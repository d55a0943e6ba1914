"""``jaspertc clean``, ``lengths`` and ``mine`` as commands: options, tables, mistakes."""

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jaspertc import Embedder
from jaspertc.cli import app
from jaspertc.errors import ConfigError, DataFileError, InputError, RatioError

TEXTS = [
    "The ferry leaves the harbour at noon, weather permitting, and is back before dark.",
    "THE FERRY leaves the harbour at noon weather permitting and is back before dark!",
    "&lt;b&gt; Rivers carry silt to the delta &amp; build new land.",
    "???",
    "图书馆每天早上九点开门,晚上八点关门。",
]


def run(*arguments):
    result = CliRunner().invoke(app, [str(item) for item in arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    path = tmp_path / "in.jsonl"
    path.write_text("".join(json.dumps({"id": n, "text": text}) + "\n" for n, text in enumerate(TEXTS)))
    return path


def test_clean(tmp_path, source):
    out, dropped = tmp_path / "out.jsonl", tmp_path / "dropped.jsonl"
    result = run("clean", source, "--output", out, "--html", "--dropped", dropped)
    rows = [json.loads(line) for line in out.read_text().splitlines()]
    assert [row["id"] for row in rows] == [0, 2, 4]
    assert rows[1]["text"] == "<b> Rivers carry silt to the delta & build new land."
    assert re.search(r"read +5 +100\.00%", result.stdout)
    assert re.search(r"too short +1 +20\.00%", result.stdout)
    assert re.search(r"exact duplicate +1 ", result.stdout)
    assert "near duplicate" not in result.stdout
    assert "3 of 5 texts in" in result.stderr
    assert len(dropped.read_text().splitlines()) == 2
    with pytest.raises(DataFileError, match="exists already"):
        run("clean", source, "--output", out)
    aside = tmp_path / "aside.txt"
    aside.write_text("he said that the ferry leaves the harbour at noon weather permitting or not\n")
    again = ["--overwrite", "--exclude", aside, "--min-characters", 3, "--min-letters", 0]
    result = run("clean", source, "--output", out, *again)
    assert [json.loads(line)["id"] for line in out.read_text().splitlines()] == [2, 3, 4]
    assert "1 texts to keep out" in result.stderr
    assert re.search(r"overlaps an excluded text +2 ", result.stdout)


@pytest.mark.parametrize(
    ("options", "error", "words"),
    [
        (["--output", "{}/out.txt"], DataFileError, r"must end in \.jsonl, \.jsonl\.gz, \.parquet"),
        (["--output", "{}/no/out.jsonl"], DataFileError, "no is no folder"),
        (["--output", "{}/in.jsonl", "--overwrite"], DataFileError, "is an input"),
        (["--output", "{}/o.jsonl", "--dropped", "{}/d.parquet"], DataFileError, "--dropped is"),
        (["--output", "{}/o.jsonl", "--dropped", "{}/o.jsonl"], InputError, "are both"),
        (["--output", "{}/o.jsonl", "--threshold", "7"], InputError, "threshold is 7"),
        (["--output", "{}/o.jsonl", "--exclude", "{}/no.txt"], DataFileError, "no.txt does not exist"),
        (["--output", "{}/o.jsonl", "--text-field", "body"], DataFileError, "line 1: no field 'body'"),
    ],
)
def test_clean_mistakes(tmp_path, source, options, error, words):
    with pytest.raises(error, match=words):
        run("clean", source, *(option.replace("{}", str(tmp_path)) for option in options))
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_what_is_written_is_not_read_by_a_pattern(tmp_path, source):
    (tmp_path / "out.jsonl").write_text('{"id": 1, "text": "a text"}\n')
    with pytest.raises(DataFileError, match=r"out\.jsonl is one of .*\*\.jsonl, an input"):
        run("clean", tmp_path / "*.jsonl", "--output", tmp_path / "out.jsonl", "--overwrite")


@pytest.mark.parametrize("name", ["o.jsonl", "o.parquet"])
def test_writing_aside_touches_no_other_file(tmp_path, source, name):
    (tmp_path / f"{name}.tmp").write_text("mine")
    run("clean", source, "--output", tmp_path / name)
    assert (tmp_path / f"{name}.tmp").read_text() == "mine"
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(["in.jsonl", name, f"{name}.tmp"])


def test_lengths_of_inputs_by_any_name(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("all").mkdir()
    Path("all/a.txt").write_text("one text")
    result = run("lengths", "all", "all")
    assert re.search(r"texts +1 +1 +2", result.stdout)


def test_lengths(tmp_path, source):
    other = tmp_path / "more.txt"
    other.write_text(f"{TEXTS[0]} {TEXTS[0]} {TEXTS[0]} {TEXTS[0]} {TEXTS[0]} {TEXTS[0]}\nshort\n")
    result = run("lengths", source, other, "--threshold", 20, "--ratio", 0.5)
    cells = {
        row[0].strip(): [cell.strip() for cell in row[1:]]
        for row in (re.split("  +", line.strip()) for line in result.stdout.splitlines())
        if len(row) == 4
    }
    embedder = Embedder.load("mini")
    prompt = embedder.prompt_text()
    rows = embedder.tokenize([*TEXTS, *other.read_text().splitlines()], prompt=prompt)
    counts = [len(row) for row in rows]
    assert cells["texts"] == ["5", "2", "7"]
    assert cells["tokens"] == [str(sum(counts[:5])), str(sum(counts[5:])), str(sum(counts))]
    assert cells["longest"] == [str(max(counts[:5])), str(max(counts[5:])), str(max(counts))]
    left = sum(count if count <= 20 else int(20 + (count - 20) * 0.5) for count in counts)
    assert cells["tokens left at 0.5"][2] == f"{left / sum(counts):.1%}"
    assert cells["texts over 20"][2] == f"{sum(count > 20 for count in counts) / 7:.1%}"
    with pytest.raises(RatioError, match=r"ratio is 2\.0"):
        run("lengths", source, "--ratio", 2)
    (tmp_path / "empty.txt").write_text("")
    with pytest.raises(InputError, match=r"empty\.txt holds no texts"):
        run("lengths", tmp_path / "empty.txt")
    with pytest.raises(DataFileError, match="does not exist"):
        run("lengths", tmp_path / "nowhere.txt")


RECIPE = """
[[texts.pairs]]
path = "pairs.jsonl"

[[teachers]]
name = "mini"
kind = "jaspertc"
model = "mini"
max_length = 32
reducers = [{ kind = "centre" }]

[cache]
folder = "cache"

[mining]
output = "mined/negatives.jsonl.gz"
negatives = 2
depth = 3
"""


def test_mine(tmp_path):
    from jaspertc.teaching.mining import read_mined

    pairs = [(f"What about {word}?", f"A text about {word}.") for word in ("tides", "bread", "silt", "snow")]
    (tmp_path / "pairs.jsonl").write_text(
        "".join(json.dumps({"id": n, "query": q, "positive": p}) + "\n" for n, (q, p) in enumerate(pairs))
    )
    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.split("[mining]")[0])
    with pytest.raises(ConfigError, match=r"no \[mining\]"):
        run("mine", recipe)
    recipe.write_text(RECIPE)
    run("teach", recipe)
    result = run("mine", recipe)
    assert "4 pairs, 4 documents" in result.stderr
    assert "have fewer than 2" in result.stderr
    mined = list(read_mined(tmp_path / "mined" / "negatives.jsonl.gz"))
    assert [pair.query_id for pair in mined] == [f"q:{number}" for number in range(4)]
    assert all(pair.positive_id not in pair.negative_ids for pair in mined)
    assert any(pair.negative_ids for pair in mined)
    with pytest.raises(DataFileError, match="exists already"):
        run("mine", recipe)
    run("mine", recipe, "--overwrite")
