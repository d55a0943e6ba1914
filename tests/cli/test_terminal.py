"""No command sends a control character of a text, a name or a value to the terminal: it shows a symbol."""

import json
import logging
import re
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from typer.testing import CliRunner

from jaspertc.cli import app, main
from jaspertc.cli.terminal import json_line, visible

NASTY = "title \x1b]0;owned\x07 red \x1b[31m c1 \x9b2J up \x1b[1A over\rwritten del \x7f \x08 \u202egnp.exe"
SENT = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def run(*arguments: str | Path, text: str | None = None, expect: int = 0) -> str:
    result = CliRunner().invoke(app, [str(item) for item in arguments], input=text, env={"COLUMNS": "200"})
    assert result.exit_code == expect, (result.output, result.exception)
    assert not SENT.search(result.output), repr(result.output)
    return result.output


@pytest.fixture
def mistake(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """What ``main`` says of a mistake on standard error."""

    def call(*arguments: str | Path) -> str:
        monkeypatch.setattr(sys, "argv", ["jaspertc", *map(str, arguments)])
        monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
        with pytest.raises(SystemExit) as ended:
            main()
        assert ended.value.code in (1, 2)
        found = capsys.readouterr()
        assert not SENT.search(found.out + found.err), repr(found)
        assert "Traceback" not in found.err
        return found.err

    return call


@pytest.fixture(scope="module")
def documents(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("nasty") / "texts.jsonl"
    rows = [{"id": f"id {NASTY}", "text": f"bread {NASTY}"}, {"id": "2", "text": "tides and the moon"}]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    return file


@given(st.text(st.characters(codec=None)))
def test_what_is_shown_holds_no_control_character(text: str) -> None:
    shown = visible(text)
    assert not SENT.search(shown)
    assert "\n" not in shown
    assert SENT.sub("", visible(text, keep="\n\t")) == visible(text, keep="\n\t")
    if not SENT.search(text) and not set(text) & set("\t\n\ufeff"):
        assert shown == text
    line = json_line({"text": text})
    assert not SENT.search(line)
    assert json.loads(line) == {"text": text}


def test_the_symbols() -> None:
    assert visible("a\x1b[0m\r\n\t\x7f\x9b\u202e猫") == "a␛[0m␍␊␉␡<U+009B><U+202E>猫"
    assert visible("a\nb\t", keep="\n") == "a\nb␉"


def test_search_and_index(documents: Path, tmp_path: Path, model_folder: Path) -> None:
    index = tmp_path / "index.db"
    run("index", documents, "--output", index, "--model", model_folder)
    for query in ("bread", NASTY):
        shown = run("search", query, "--index", index, "--k", "2")
        assert "␛]0;owned␇" in shown
        rows = [json.loads(line) for line in run("search", query, "--index", index, "--json").splitlines()]
        assert f"bread {NASTY}" in [row["text"] for row in rows]


def test_inspect(tmp_path: Path, model_folder: Path) -> None:
    run("inspect", NASTY, "--model", model_folder, "--svg", tmp_path / "drawn.svg")
    assert not SENT.search((tmp_path / "drawn.svg").read_text(encoding="utf-8"))
    run("inspect", "-", "--model", model_folder, text=f"two\nlines {NASTY}")


def test_demo(monkeypatch: pytest.MonkeyPatch, model_folder: Path) -> None:
    texts = {
        "passages": [{"id": lang, "lang": lang, "text": f"{lang} {NASTY}" * 3} for lang in ("en", "zh")],
        "questions": [{"question": NASTY, "lang": "en", "passage": "zh"}],
    }
    monkeypatch.setattr("jaspertc.samples.load_samples", texts.__getitem__)
    monkeypatch.setattr("jaspertc.cli.demo.ROUNDS", 1)
    assert "␛" in run("demo", "--model", model_folder)


def test_lengths_and_clean(documents: Path, tmp_path: Path) -> None:
    named = tmp_path / "texts \x1b]0;x\x07 \u202e.jsonl"
    named.write_bytes(documents.read_bytes())
    assert "␛]0;x␇" in run("lengths", named)
    run("clean", named, "--output", tmp_path / "out \x1b[2J.jsonl")


@pytest.mark.parametrize(
    "arguments",
    [
        ("embed", "no \x1b[2J file.txt", "--output", "x.npy"),
        ("embed", "x.txt", "--output", f"x {NASTY}"),
        ("search", "x", "--index", f"no {NASTY}"),
        ("inspect", "x", "--model", "no/model-\x1b[2J"),
        ("inspect", "x", "--ratio", "\x1b[2J"),
        ("teach", "no \u202e recipe.toml"),
        ("evaluate", "--tasks", "\x1b[2J\u202e"),
        ("\x1b[2J\x9b",),
        ("embed", "--\x1b[2J\x9b"),
    ],
)
def test_mistakes(mistake: Callable[..., str], arguments: tuple[str, ...]) -> None:
    assert mistake(*arguments)


def test_a_mistake_is_one_line(mistake: Callable[..., str]) -> None:
    assert mistake("inspect", "x", "--model", "two\nlines").count("\n") == 1


LONG = "a" * 300


@pytest.mark.parametrize(
    "command",
    [
        ("embed", f"{LONG}.txt", "--output", "x.npy"),
        ("embed", "texts.txt", "--output", f"{LONG}.npy"),
        ("export", "mini", f"{LONG}.onnx"),
        ("search", "x", "--index", f"{LONG}.db"),
        ("inspect", "x", "--model", LONG),
    ],
    ids=lambda command: f"{command[0]} {command[1][:5]}",
)
def test_a_name_that_is_too_long(
    mistake: Callable[..., str], command: tuple[str, ...], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("texts.txt").write_text("one\n")
    said = mistake(*command)
    assert said.startswith("jaspertc: error:")
    assert "a" * 90 in said
    assert said.count("\n") == 1


def test_errors_of_files_show_what_they_hold(mistake: Callable[..., str], tmp_path: Path) -> None:
    file = tmp_path / "bad.jsonl"
    file.write_text(json.dumps({f"key {NASTY}": 1}) + "\n", encoding="utf-8")
    assert mistake("embed", file, "--output", tmp_path / "x.npy")


def test_warnings_and_logs(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def warned() -> None:
        warnings.warn(NASTY, UserWarning, stacklevel=1)
        assert logging.lastResort is not None
        logging.lastResort.handle(logging.makeLogRecord({"msg": NASTY, "levelno": logging.WARNING}))

    monkeypatch.setattr("jaspertc.cli.app", lambda **_: warned())
    monkeypatch.setattr(warnings, "showwarning", warnings.showwarning)
    with pytest.raises(SystemExit):
        main()
    said = capsys.readouterr().err
    assert said.count("␛]0;owned␇") == 2
    assert not SENT.search(said)
