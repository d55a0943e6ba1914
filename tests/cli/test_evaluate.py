"""``jaspertc evaluate`` and ``report``: results in mteb's format that survive a kill, and clear mistakes."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from typer.testing import CliRunner

pytest.importorskip("mteb")

from jaspertc.cli import app
from jaspertc.errors import ConfigError, DataFileError, InputError, JasperError, MissingExtraError

PEER = """
import os, time
import numpy as np

def embed(texts):
    time.sleep(float(os.environ.get("PEER_SECONDS", "0")))
    return np.array([[len(text), text.count("a"), text.count("的"), 1.0] for text in texts])
"""


@pytest.fixture
def folder(tmp_path, write_rows):
    """Two quick tasks and a peer."""
    rows = [
        {"sentence1": f"a day {'in ' * (n % 7)}", "sentence2": f"night {'by ' * (n % 5)}", "score": n % 4}
        for n in range(40)
    ]
    write_rows(tmp_path / "data/sts/first.jsonl", rows)
    write_rows(tmp_path / "data/sts/second.jsonl", [{**row, "score": 3 - row["score"]} for row in rows])
    write_rows(tmp_path / "data/bitext/third.jsonl", [{"en": f"n {n}", "zh": f"第 {n}"} for n in range(20)])
    (tmp_path / "slow_peer.py").write_text(PEER)
    return tmp_path


@pytest.fixture
def write_rows():
    def write(path, rows):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows), encoding="utf-8")

    return write


def run(command, *arguments):
    result = CliRunner().invoke(app, [command, *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def results(folder: Path) -> dict[str, bytes]:
    found = folder.glob("results/**/*.json")
    return {
        str(path.relative_to(folder)): path.read_bytes() for path in found if path.name != "model_meta.json"
    }


def test_evaluate_resume_report(folder, model_folder, monkeypatch):
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("COLUMNS", "120")
    out = folder / "out"
    arguments = [model_folder, "--data", folder / "data", "--output", out, "--name", "tiny"]
    sweep = ["--ratio", "1", "--ratio", "0.2", "--peer", "function=slow_peer:embed"]
    first = run("evaluate", *arguments, "--ratio", "1", "--tasks", "first", "--no-time")
    assert "1 tasks, 1 models or settings: 1 results, 1 to compute" in first.stderr
    kept = results(out)
    whole = run("evaluate", *arguments, *sweep)
    assert "3 tasks, 3 models or settings: 9 results, 8 to compute" in whole.stderr
    assert "tiny @ 0.2" in whole.stdout
    assert "slow_peer" in whole.stdout
    assert kept.items() <= results(out).items()  # not computed again
    assert len(results(out)) == 9
    again = run("evaluate", *arguments, *sweep)
    assert "9 results, 0 to compute" in again.stderr
    assert again.stdout == whole.stdout
    limited = run("evaluate", *arguments, "--limit", "20", "--no-time")
    assert "3 to compute" in limited.stderr
    assert "At most 20 items" in " ".join(limited.stdout.split())

    from mteb.results import TaskResult

    path = next(iter(sorted(out.glob("results/local__tiny/*/experiments/*ratio_0.2*/first.json"))))
    assert TaskResult.from_disk(path).task_name == "first"
    (folder / "data/sts/first.jsonl").write_text((folder / "data/sts/second.jsonl").read_text())
    changed = run("evaluate", *arguments, "--ratio", "1", "--no-time")
    assert "3 results, 1 to compute" in changed.stderr

    made = run("report", out, "--output", folder / "pages" / "tiny")
    assert [Path(line).name for line in made.stdout.split()] == ["tiny.html", "tiny.md"]
    page = (folder / "pages" / "tiny.html").read_text()
    assert str(folder) not in page
    assert "tiny @ 0.2" in page


def test_each_runtime_and_precision_has_its_own_results(folder, model_folder):
    out = folder / "out"
    arguments = [model_folder, "--data", folder / "data", "--output", out, "--name", "tiny"]
    arguments += ["--ratio", "1", "--tasks", "first,third", "--no-time", "--runtime", "torch"]
    run("evaluate", *arguments, "--dtype", "float32")
    first = results(out)
    assert "2 results, 2 to compute" in run("evaluate", *arguments, "--dtype", "bfloat16").stderr
    assert first.items() < results(out).items()
    assert "2 results, 0 to compute" in run("evaluate", *arguments, "--dtype", "float32").stderr

    for place in [path for path in out.glob("*/*/*/experiments/*float32*") if path.is_dir()]:
        old = place.with_name(place.name.replace("__runtime_torch_float32", ""))  # as without a runtime
        place.rename(old)
        for path in old.glob("*.json"):
            content = json.loads(path.read_text())
            content.pop("runtime", None)
            path.write_text(json.dumps(content))
    before = results(out)
    assert "2 results, 2 to compute" in run("evaluate", *arguments, "--dtype", "float32").stderr
    assert before.items() < results(out).items()
    run("report", out, "--output", folder / "tiny")
    page = (folder / "tiny.md").read_text()
    for runtime in ("not recorded", "torch float32", "torch bfloat16"):
        assert f"| tiny @ 1 (runtime {runtime}) |" in page


def test_a_killed_run_loses_the_task_in_hand_at_most(folder, model_folder, monkeypatch):
    monkeypatch.syspath_prepend(str(folder))
    out = folder / "out"
    arguments = [str(model_folder), "--data", str(folder / "data"), "--output", str(out)]
    arguments += ["--ratio", "1", "--peer", "function=slow_peer:embed", "--no-time"]
    process = subprocess.Popen(
        [sys.executable, "-m", "jaspertc", "evaluate", *arguments],
        env=os.environ | {"PYTHONPATH": str(folder), "PEER_SECONDS": "0.7"},
        stderr=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
    )
    deadline = time.monotonic() + 100
    while len(results(out)) < 2 and process.poll() is None and time.monotonic() < deadline:
        time.sleep(0.02)
    process.send_signal(signal.SIGKILL)
    process.wait()
    kept = results(out)
    assert 2 <= len(kept) < 6
    again = run("evaluate", *arguments)
    left = int(again.stderr.split(" to compute")[0].rsplit(" ", 1)[1])
    in_hand = left - (6 - len(kept))  # a task whose scores were written and its measures not yet
    assert in_hand in (0, 1)
    whole = [content for content in kept.values() if content.endswith(b"}")]
    assert len(kept) - len(whole) <= in_hand
    assert all(json.loads(content)["scores"] for content in whole)
    assert len(results(out)) == 6
    assert len(kept.items() - results(out).items()) <= in_hand


def test_without_mteb(monkeypatch):
    monkeypatch.setitem(sys.modules, "mteb", None)
    with pytest.raises(
        MissingExtraError, match=r"needs the package 'mteb': pip install 'jaspertc\[evaluate\]'"
    ):
        run("evaluate", "mini", "--local")


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (["--local", "--sweep", "--ratio", "1"], InputError, "--sweep and --ratio"),
        ([], InputError, "give one of --local, --data, --benchmark and --tasks"),
        (["--local", "--benchmark", "x"], InputError, "give one of"),
        (["--local", "--tasks", "passage"], InputError, r"unknown task 'passage'; did you mean passages"),
        (
            ["--tasks", "STSBenchmrk"],
            InputError,
            r"unknown MTEB task 'STSBenchmrk'; did you mean STSBenchmark",
        ),
        (["--benchmark", "MTEB(eng, v3)"], InputError, r"unknown benchmark .*did you mean .*MTEB\(eng, v2\)"),
        (["--data", "nowhere"], DataFileError, "nowhere does not exist"),
        (["--local", "--peer", "best=x"], ConfigError, "--peer is 'best=x', it must be KIND=PATH"),
        (["--local", "--peer", "nowhere.toml"], ConfigError, "nowhere.toml cannot be read"),
        (["--local", "--peer", "use=a/x", "--peer", "use=b/x"], ConfigError, "two peers are called 'x'"),
    ],
)
def test_mistakes_before_a_model_is_loaded(arguments, error, words, monkeypatch):
    monkeypatch.setattr("jaspertc.engine.embedder.Embedder.load", None)
    with pytest.raises(error, match=words):
        run("evaluate", "mini", *arguments)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--limit", "3"], "--limit is 3, it must be at least 20"),
        (["--ratio", "7"], "7"),
        (["--peer", "function=json:nothing"], r"'json:nothing', which cannot be imported"),
        (["--peer", "sentence-transformers=no/model"], r"cannot load 'no/model'"),
        (["--name", "json", "--ratio", "1", "--peer", "function=json:dumps"], "json"),
    ],
)
def test_mistakes_with_a_model(folder, model_folder, arguments, words):
    with pytest.raises(JasperError, match=words):
        run("evaluate", model_folder, "--data", folder / "data", "--output", folder / "out", *arguments)
    assert not results(folder / "out")


def test_data_of_mteb_that_are_not_here(folder, model_folder):
    with pytest.raises(DataFileError, match=r"data of task 'STS12' are not here.*--local or --data"):
        run("evaluate", model_folder, "--tasks", "STS12", "--output", folder / "out")


def test_a_file_of_peers(tmp_path, model_folder):
    from jaspertc.evaluation.contenders import load_peers, read_peers

    file = tmp_path / "peers.toml"
    file.write_text(
        f'[[peers]]\nname = "a"\nkind = "jaspertc"\nmodel = "{model_folder}"\n'
        'prompts = { query = "q: ", document = "d: " }\n'
    )
    (peer,) = load_peers(read_peers([str(file)]))
    assert peer.prompts == {"query": "q: ", "document": "d: "}
    assert (peer.label, peer.dims, peer.ratio) == ("a", 24, None)
    assert peer.megabytes > 0
    assert peer.embed(["x", "y"], "q: ").shape == (2, 24)
    file.write_text('[[peers]]\nname = "a"\nkind = "jaspertc"\nmodel = "m"\nmax_lenght = 3\n')
    with pytest.raises(ConfigError, match=r"max_lenght.*max_length"):
        read_peers([str(file)])
