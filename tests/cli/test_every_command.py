"""What a user of a command line expects of every command: help, version, completion, quiet, exit status."""

import inspect
import subprocess
import sys
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

import jaspertc
from jaspertc.cli import app
from jaspertc.cli.command import as_command
from jaspertc.cli.progress import say, warn, write
from jaspertc.evaluation.contenders import KINDS
from jaspertc.evaluation.subsets import LEAST_ITEMS

COMMANDS = {info.name: info.callback for info in app.registered_commands}


def run(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, "-m", "jaspertc", *arguments], capture_output=True, text=True, timeout=120
    )


def without_blanks(text: str) -> str:
    return "".join(text.split())


@pytest.mark.parametrize("name", COMMANDS)
def test_help_says_all_that_is_written(name: str) -> None:
    """Brackets too: markup would take [ray] of an extra for a style."""
    result = CliRunner().invoke(app, [name, "--help"])
    assert result.exit_code == 0
    shown = without_blanks(result.output)
    callback = COMMANDS[name]
    assert callback is not None
    assert without_blanks(inspect.getdoc(callback) or "") in shown
    for parameter in inspect.signature(callback).parameters.values():
        (described,) = parameter.annotation.__metadata__
        assert without_blanks(described.help) in shown, parameter.name
    assert "--quiet" in shown


def test_help_of_evaluate_names_every_kind_of_peer_and_the_least_limit() -> None:
    shown = without_blanks(CliRunner().invoke(app, ["evaluate", "--help"], env={"COLUMNS": "200"}).output)
    kinds = [kind for kind in KINDS if kind != "openai"]  # which needs more than a path
    assert "KINDis" + without_blanks(f"{', '.join(kinds[:-1])} or {kinds[-1]};") in shown
    assert without_blanks(f"at least {LEAST_ITEMS}") in shown


def test_help_shows_brackets() -> None:
    """So that the test above has something to find."""
    texts = [inspect.getdoc(callback) or "" for callback in COMMANDS.values()]
    assert sum("[" in text for text in texts) >= 2


def test_errors_show_brackets() -> None:
    found = run("inspect", "a", "--model", "[bold]no[/bold] [ray]")
    assert "[bold]no[/bold] [ray]" in found.stderr


def test_version_and_completion() -> None:
    assert run("--version").stdout == f"jaspertc {jaspertc.__version__}\n"
    assert "--install-completion" in run("--help").stdout


def small_app(function: object) -> typer.Typer:
    made = typer.Typer()
    made.callback()(lambda: None)
    made.command(name="work")(as_command(function))  # type: ignore[arg-type]
    return made


def work(name: str = "x") -> None:
    """Work."""
    say("a note")
    warn("a warning")
    write(f"result {name}")


def test_quiet_leaves_warnings_and_results() -> None:
    loud, quiet = (CliRunner().invoke(small_app(work), ["work", *more]) for more in ([], ["--quiet"]))
    assert (loud.stdout, loud.stderr) == ("result x\n", "a note\nwarning: a warning\n")
    assert (quiet.stdout, quiet.stderr) == ("result x\n", "warning: a warning\n")


def test_long_work_ends_with_its_time(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = iter((100.0, 250.0, 300.0, 450.0))
    monkeypatch.setattr("jaspertc.cli.command.time.monotonic", lambda: next(clock))
    loud, quiet = (CliRunner().invoke(small_app(work), ["work", *more]) for more in ([], ["--quiet"]))
    assert loud.stderr.endswith("jaspertc work: done in 2.5 min\n")
    assert "done in" not in quiet.stderr


def test_quiet_of_a_real_command(tmp_path: Path) -> None:
    source = tmp_path / "texts.txt"
    source.write_text("one\ntwo\n", encoding="utf-8")
    for quiet in (["--quiet"], []):
        found = run("embed", str(source), "--output", str(tmp_path / f"{len(quiet)}.npy"), *quiet)
        assert found.returncode == 0
        assert bool(found.stderr) == (not quiet)


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        (("--version",), 0),
        (("inspect", "a", "--model", "no/such"), 1),
        (("nope",), 2),
        (("inspect",), 2),
        (("inspect", "a", "--ratio", "many"), 2),
    ],
)
def test_exit_status(arguments: tuple[str, ...], status: int) -> None:
    assert run(*arguments).returncode == status


def test_exit_status_when_the_reader_leaves() -> None:
    script = (
        "import typer, jaspertc.cli as c; from jaspertc.cli.command import as_command\n"
        "def pour() -> None:\n  [print('x' * 1000) for _ in range(10000)]\n"
        "c.app.command(name='pour')(as_command(pour)); import sys; sys.argv = ['jaspertc', 'pour']; c.main()"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        process.stdout.read(10)
        process.stdout.close()
        assert process.wait(60) == 141
        assert process.stderr is not None
        assert process.stderr.read() == b""
