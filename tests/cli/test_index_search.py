"""``jaspertc index`` and ``jaspertc search``, from files to a table."""

import json
from pathlib import Path

import pytest
from search_fakes import FakeEmbedder
from typer.testing import CliRunner

from jaspertc.cli import app
from jaspertc.cli.search import parse_where
from jaspertc.engine.embedder import Embedder
from jaspertc.errors import DataFileError, IndexFileError, InputError, RatioError
from jaspertc.search import upkeep
from jaspertc.search.index import SearchIndex


@pytest.fixture
def run(tmp_path, monkeypatch):
    def load(name: str = "mini", runtime: str = "auto") -> FakeEmbedder:
        return FakeEmbedder(name.removeprefix("fake-"))

    monkeypatch.setattr(Embedder, "load", load)
    monkeypatch.chdir(tmp_path)
    Path("notes.txt").write_text("a cat on the mat\n\n[bold]no markup[/] " + "long " * 60 + "\n")
    rows = [
        {"id": 1, "text": "一只猫", "lang": "zh", "year": 2024},
        {"id": 2, "text": "ein Hund", "lang": "de", "year": 2024, "tags": ["x"]},
    ]
    Path("rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return lambda *arguments: CliRunner().invoke(app, [str(argument) for argument in arguments])


def test_round_trip(run):
    result = run("index", "notes.txt", "rows.jsonl", "--output", "i.db", "--ratio", "0.5")
    assert result.exit_code == 0, result.output
    assert "4 added, 0 updated, 0 unchanged, 0 removed; 4 documents" in result.stdout
    assert "ratio 0.5" in result.stdout
    again = run("index", "notes.txt", "rows.jsonl", "--output", "i.db")
    assert "0 added, 0 updated, 4 unchanged" in again.stdout

    result = run("search", "一只猫", "--index", "i.db", "--json", "--k", "3", "--mode", "vector")
    assert result.exit_code == 0, result.output
    hits = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(hits) == 3
    assert hits[0]["score"] == pytest.approx(1, abs=1e-5)
    assert {key: hits[0][key] for key in ("id", "text", "metadata")} == {
        "id": "1",
        "text": "一只猫",
        "metadata": {"lang": "zh", "year": 2024},
    }
    result = run("search", "x", "--index", "i.db", "--where", "lang=de", "--where", "year=2024", "--json")
    assert [json.loads(line)["id"] for line in result.stdout.splitlines()] == ["2"]


def test_table(run):
    run("index", "notes.txt", "--output", "i.db")
    result = run("search", "a cat on the mat", "--index", "i.db", "--mode", "vector")
    assert result.exit_code == 0, result.output
    assert "1.0000" in result.stdout
    assert "notes.txt:" in result.stdout
    assert "[bold]no markup[/]" in result.stdout
    assert result.stdout.count("long") < 30
    result = run("search", "unheard", "--index", "i.db", "--mode", "text")
    assert (result.exit_code, result.stdout) == (0, "nothing found\n")


def test_looking_after_an_index(run):
    run("index", "notes.txt", "rows.jsonl", "--output", "i.db", "--ratio", "0.1")
    result = run("index", "--output", "i.db", "--refine", "0.5")
    assert "4 refined to ratio 0.5, 0 below it left" in result.stdout, result.output
    Path("rows.jsonl").unlink()
    result = run("index", "--output", "i.db", "--prune", "--compact", "--check", "--list")
    assert result.exit_code == 0, result.output
    assert "2 documents of files that are gone removed" in result.stdout
    assert "no damage" in result.stdout
    assert "by ratio: 0.5: 2" in result.stdout
    assert "notes.txt" in result.stdout
    assert "rows.jsonl" not in result.stdout
    assert "1 documents removed" not in run("index", "--output", "i.db", "--remove", "notes.txt").stdout


def test_an_export_replaces_only_an_earlier_one(run):
    arrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    Path("folder").mkdir()
    Path("folder/page.md").write_text("a page")
    table = arrow.table({"id": ["a", "b"], "text": ["a cat", "a dog"]})
    for name in ("input.parquet", "other.parquet"):
        parquet.write_table(table, name)
    Path("broken.parquet").write_text("x")
    new = ("index", "input.parquet", "folder", "--output", "i.db")
    for export, message in (
        ("input.parquet", "input.parquet is an input"),
        ("folder/new.parquet", "is in the folder folder, an input"),
    ):
        result = run(*new, "--export", export)
        assert isinstance(result.exception, DataFileError), result.output
        assert message in str(result.exception)
        assert not Path("i.db").exists()
    assert run(*new, "--export", "out.parquet").exit_code == 0
    for files in ((), ("notes.txt",)):
        for export, message in (
            ("input.parquet", "input.parquet is a source of i.db"),
            ("folder/new.parquet", "folder/new.parquet is in folder, a source of i.db"),
            ("other.parquet", "other.parquet exists already and is no export"),
            ("broken.parquet", "broken.parquet is corrupt or no parquet file"),
        ):
            result = run("index", *files, "--output", "i.db", "--export", export)
            assert isinstance(result.exception, DataFileError), result.output
            assert message in str(result.exception)
            assert "added" not in result.stdout
    assert parquet.read_table("input.parquet") == parquet.read_table("other.parquet") == table
    run("index", "notes.txt", "--output", "i.db")
    assert run("index", "--output", "i.db", "--export", "out.parquet").stdout == "out.parquet: 5 rows\n"


@pytest.mark.parametrize(
    ("name", "content", "place"),
    [
        ("again.jsonl", '{"id": 5, "text": "x"}\n\n{"id": 1, "text": "y"}\n', "again.jsonl, line 3"),
        ("again.csv", "id,text\n2,z\n", "again.csv, line 2"),
        ("again.md", "a page", "again.md"),
    ],
)
def test_an_id_that_comes_twice_is_placed_and_no_new_index_stays(run, name, content, place):
    Path(name).write_text(content)
    twice = [name, name] if name == "again.md" else ["rows.jsonl", name]
    result = run("index", *twice, "--output", "new.db")
    assert isinstance(result.exception, InputError), result.output
    assert str(result.exception).startswith(f"{place}: document id ")
    assert str(result.exception).endswith("comes twice; give each document its own id, or remove one")
    assert not list(Path().glob("new.db*"))


def test_an_index_that_failed_stays_where_it_has_documents_or_was_there(run):
    Path("many.jsonl").write_text(
        "".join(
            json.dumps({"id": min(number, 256), "text": f"text {number}"}) + "\n" for number in range(258)
        )
    )
    result = run("index", "many.jsonl", "--output", "many.db")
    assert str(result.exception).startswith("many.jsonl, line 258: document id '256' comes twice")
    assert "documents: 256" in run("index", "--output", "many.db", "--list").stdout
    Path("none.txt").touch()
    assert run("index", "none.txt", "--output", "old.db").exit_code == 0
    assert isinstance(run("index", "many.jsonl", "rows.jsonl", "--output", "old.db").exception, InputError)
    assert Path("old.db").exists()
    with SearchIndex.create_or_open("open.db", FakeEmbedder()):
        upkeep.remove_empty(Path("open.db"))
        assert Path("open.db").exists()
    upkeep.remove_empty(Path("open.db"))
    assert not list(Path().glob("open.db*"))


def test_control_characters_of_a_text_are_shown_not_sent(run):
    Path("evil.jsonl").write_text(json.dumps({"id": "e\x1b[2J", "text": "a\x1b[31mred\u202e \x07"}) + "\n")
    run("index", "evil.jsonl", "--output", "e.db")
    result = run("search", "red", "--index", "e.db")
    assert result.exit_code == 0, result.output
    assert not any(letter in result.stdout for letter in "\x1b\x07\u202e")
    assert "␛" in result.stdout


def test_mistakes_are_raised_for_main_to_print(run):
    run("index", "notes.txt", "--output", "i.db")
    refine = ("--refine", "0.5")
    for arguments, kind, message in (
        (("index", "notes.exe", "--output", "i.db"), DataFileError, "notes.exe does not exist"),
        (
            ("index", "rows.jsonl", "--output", "i.db", "--text-field", "body"),
            DataFileError,
            "no field 'body'",
        ),
        (("index", "notes.txt", "--output", "i.db", "--storage", "int8"), IndexFileError, "storage float32"),
        (("index", "notes.txt", "--output", "i.db", "--ratio", "1.9"), RatioError, "ratio is 1.9"),
        (("index", "--output", "i.db"), InputError, "--centring, --export"),
        (("index", "rows.jsonl", "--output", "new.db", "--passages", "-1"), InputError, "--passages is -1"),
        (("index", "notes.txt", "--output", "new.db", "--refine", "nan"), RatioError, "ratio is nan"),
        (
            ("index", "rows.jsonl", "--output", "new.db", *refine, "--seconds", "-1"),
            InputError,
            "seconds is -1",
        ),
        (
            ("index", "rows.jsonl", "--output", "new.db", "--export", "no/e.parquet"),
            DataFileError,
            "no is no folder",
        ),
        (("index", "--output", "i.db", "--export", "e.txt"), DataFileError, "must end in .parquet"),
        (("index", "--output", "i.db", "--remove", "x"), IndexFileError, "neither a document nor a file"),
        (("search", "x", "--index", "i.db", "--mode", "fast"), InputError, "mode is 'fast'"),
        (("index", "notes.txt", "--output", "i.db", "--model", "f2"), IndexFileError, "'fake-mini'"),
        (("search", "x", "--index", "none.db"), IndexFileError, "no index at none.db"),
        (("search", "x", "--index", "notes.txt"), IndexFileError, "not a jaspertc search index"),
        (("search", "x", "--index", "i.db", "--model", "f2"), IndexFileError, "'fake-mini'"),
        (("search", "", "--index", "i.db"), InputError, "query is ''"),
        (("search", "x", "--index", "i.db", "--k", "0"), InputError, "k is 0"),
        (("search", "x", "--index", "i.db", "--where", "lang"), InputError, "key=value"),
    ):
        result = run(*arguments)
        assert isinstance(result.exception, kind), (arguments, result.output)
        assert message in str(result.exception)
    assert not Path("new.db").exists()


def test_where_values():
    assert parse_where(["a=en", "b=2024", "c=true", "d=null", 'e="2024"', "f=x=y", "g=", "h=[1]"]) == {
        "a": "en",
        "b": 2024,
        "c": True,
        "d": None,
        "e": "2024",
        "f": "x=y",
        "g": "",
        "h": "[1]",
    }
    for bad in (["a"], ["=x"], ["a=1", "a=2"]):
        with pytest.raises(InputError, match="key=value"):
            parse_where(bad)
