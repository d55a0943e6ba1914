"""Help for every command, inspect, demo and graft on the real small model, and errors without tracebacks."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from jaspertc.cli import app
from jaspertc.errors import DataFileError, InputError
from jaspertc.samples import load_samples

README = Path(__file__).parents[2] / "README.md"
COMMANDS = [command.name for command in app.registered_commands]
run = CliRunner().invoke


def jaspertc(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "jaspertc", *arguments], capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize("command", COMMANDS)
def test_help_and_a_line_in_the_readme(command: str) -> None:
    result = run(app, [command, "--help"])
    assert result.exit_code == 0
    assert f"jaspertc {command}" in README.read_text(encoding="utf-8")


def test_inspect(tmp_path: Path) -> None:
    picture = tmp_path / "text.svg"
    text = "one two three four five six seven eight nine ten 十一 十二"
    result = run(app, ["inspect", text, "--threshold", "4", "--ratio", "0.5", "--svg", str(picture)])
    assert result.exit_code == 0, result.output
    length, target = map(int, re.findall(r"(\d+) tokens -> (\d+) compressed", result.output)[0])
    assert target == int(4 + (length - 4) * 0.5)
    assert "cosine to ratio 1" in result.output
    assert picture.read_text(encoding="utf-8").startswith("<svg")
    assert "@font-face" not in picture.read_text(encoding="utf-8")
    long = run(app, ["inspect", "a sentence of a long text. " * 120, "--ratio", "0.5"]).output
    tokens, count, target = map(int, re.findall(r"(\d+) tokens in (\d+) pieces -> (\d+) compressed", long)[0])
    pieces = re.findall(r"piece \d+: (\d+) tokens -> (\d+) compressed", long)
    assert len(pieces) == count > 1
    assert sum(int(piece) for piece, _ in pieces) >= tokens
    assert sum(int(piece) for _, piece in pieces) == target == int(80 + (tokens - 80) * 0.5)
    whole = run(app, ["inspect", "a short text"])
    assert "nothing is compressed" in whole.output


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("no/a.svg", "no is no folder; make it first, or give another --svg"),
        ("a.png", r"--svg is .*a\.png, it must end in \.svg"),
        ("folder.svg", r"folder\.svg is a folder; give a file name in --svg"),
    ],
)
def test_inspect_checks_where_it_draws_before_it_loads_the_model(
    tmp_path: Path, name: str, words: str
) -> None:
    (tmp_path / "folder.svg").mkdir()
    result = run(app, ["inspect", "a text", "--model", "no/such/model", "--svg", str(tmp_path / name)])
    assert isinstance(result.exception, DataFileError), result.output
    assert re.search(words, str(result.exception))
    assert not result.stdout


def test_inspect_names_a_picture_that_cannot_be_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    (tmp_path / "a.svg").write_text("before")
    result = run(app, ["inspect", "a text", "--svg", str(tmp_path / "a.svg")])
    assert isinstance(result.exception, DataFileError), result.output
    assert re.search(r"a\.svg could not be written .*the disk is full", str(result.exception))
    assert [path.read_text() for path in tmp_path.iterdir()] == ["before"]


def test_demo_shows_search_and_dial(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a few of the samples: all of them take a minute on one core."""
    chosen = [p for p in load_samples("passages") if 300 < len(p["text"]) < 900]
    ids = {passage["id"] for passage in chosen}
    few = {
        "passages": chosen,
        "questions": [row for row in load_samples("questions") if row["passage"] in ids],
    }
    monkeypatch.setattr("jaspertc.samples.load_samples", few.__getitem__)
    monkeypatch.setattr("jaspertc.cli.demo.ROUNDS", 1)
    result = run(app, ["demo"])
    assert result.exit_code == 0, result.output
    right, asked = map(int, re.findall(r"first result right for (\d+) of (\d+)", result.output)[0])
    assert asked == len(chosen)
    assert right >= asked / 3
    tokens = [
        int(row.replace(",", "")) for row in re.findall(r"(?m)^(?:[\d.]+) +([\d,]+) +[\d.]+ ", result.output)
    ]
    assert len(tokens) == 6
    assert tokens == sorted(tokens, reverse=True)


def test_graft_from_texts(tmp_path: Path) -> None:
    texts = tmp_path / "texts.txt"
    texts.write_text(
        "\n".join(row["text"].replace("\n", " ") for row in load_samples("passages")), encoding="utf-8"
    )
    out = tmp_path / "student"
    options = ["--layers", "2", "--vocabulary", str(texts), "--dims", "64", "--prompt", "query=q: "]
    result = run(app, ["graft", "mini", str(out), *options, "--weights", "int8"])
    assert result.exit_code == 0, result.output
    from jaspertc import Embedder

    student = Embedder.load(out)
    assert student.dims == 64
    assert student.config.backbone.num_layers == 2
    assert student.config.backbone.vocab_size < 25_000
    assert student.config.compressor.mlp == "residual-swiglu"
    assert student.prompts["query"] == "q: "
    assert student.piece_length == Embedder.load("mini").piece_length == 512
    assert student.long_texts == "pieces"
    assert student.encode("一只猫 a cat", ratio=0.3).shape == (64,)
    again = run(app, ["graft", "mini", str(out)])
    assert isinstance(again.exception, Exception)
    assert str(again.exception).endswith(
        "already exists; choose another folder, or --overwrite to replace it"
    )


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--prompt", "query"], "must be NAME=TEXT"),
        (["--default-prompt", "nope"], "--default-prompt is 'nope', there are the prompts"),
        (["--vocabulary", "empty.txt"], r"empty\.txt holds no texts"),
    ],
)
def test_graft_refuses(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("empty.txt").touch()
    wrong = run(app, ["graft", "mini", "x", *options])
    assert isinstance(wrong.exception, InputError)
    assert re.search(words, str(wrong.exception))
    assert not Path("x").exists()


@pytest.mark.parametrize("content", [None, "{"])
def test_a_table_of_a_report_is_the_users_own(tmp_path: Path, content: str | None) -> None:
    table = tmp_path / "table.json"
    if content is not None:
        table.write_text(content)
    result = run(app, ["report", str(tmp_path), "--output", str(tmp_path / "page"), "--table", str(table)])
    assert isinstance(result.exception, DataFileError), result.output
    assert re.search(
        r"table\.json cannot be read as JSON .*; correct it, or give another --table$", str(result.exception)
    )


@pytest.mark.parametrize(
    ("options", "name"),
    [
        (["export", "mini", "m.onnx", "--no-characters"], "--no-characters"),
        (["export", "mini", "m.onnx", "--min-count", "3"], "--min-count"),
        (["export", "mini", "m.onnx", "--script", "latin"], "--script"),
        (["graft", "mini", "student", "--text-field", "body"], "--text-field"),
    ],
)
def test_options_of_a_vocabulary_need_one(options: list[str], name: str, tmp_path: Path) -> None:
    options[2] = str(tmp_path / options[2])
    error = run(app, options).exception
    assert isinstance(error, InputError)
    assert f"{name} goes with --vocabulary only" in str(error)
    assert not any(tmp_path.iterdir())


def test_mistakes_are_one_line_without_a_traceback() -> None:
    result = jaspertc("inspect", "a text", "--model", "no/such/model")
    assert result.returncode == 1
    assert result.stderr.startswith("jaspertc: error: no model 'no/such/model'")
    assert "Traceback" not in result.stderr
    assert jaspertc("inspect", "x", "--ratio", "7").stderr.count("\n") == 1


def test_help_is_quick_to_import() -> None:
    """The heavy packages are imported by the commands, not before."""
    code = (
        "import jaspertc.cli, sys; print([m for m in ('torch', 'tokenizers', 'numpy') if m in sys.modules])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
