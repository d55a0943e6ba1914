"""``jaspertc bench``: each ratio's time, tokens and agreement, as a table, JSON and a picture."""

import json

import numpy as np
import pytest
from typer.testing import CliRunner

from jaspertc import Embedder
from jaspertc.cli import app
from jaspertc.errors import DataFileError, InputError, RatioError
from jaspertc.evaluation.dial import turn_dial

OPTIONS = ["--rounds", "2", "--threads", "1", "--ratio", "0.2"]


def run(*arguments):
    result = CliRunner().invoke(app, ["bench", *map(str, arguments)])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


@pytest.fixture
def texts(tmp_path, sentences):
    path = tmp_path / "texts.txt"
    path.write_text("\n".join([" ".join(sentences[:3]), *sentences[:2]]))
    return path


@pytest.mark.filterwarnings("ignore::jaspertc.engine.options.LongTextWarning")
def test_a_table_json_and_a_picture(model_folder, texts, tmp_path):
    pytest.importorskip("matplotlib")
    out = tmp_path / "out"
    result = run(model_folder, "--texts", texts, "--output", out, *OPTIONS)
    content = json.loads((out / "results.json").read_text())
    assert [row["ratio"] for row in content["ratios"]] == [1.0, 0.2]  # 1 is always measured
    embedder = Embedder.load(model_folder, device="cpu")
    rows = texts.read_text().split("\n")
    lengths = np.array([len(row) for row in embedder.tokenize(rows)])
    assert content["tokens"] == lengths.sum()
    for row in content["ratios"]:
        assert row["tokens computed"] == embedder.target_lengths(lengths, ratio=row["ratio"]).sum()
        assert (len(row["seconds"]), len(row["seconds of single texts"])) == (2, 2 * 3)
    whole, less = embedder.encode(rows, ratio=1.0), embedder.encode(rows, ratio=0.2)
    assert content["ratios"][1]["mean cosine"] == pytest.approx((whole * less).sum(1).mean(), abs=1e-5)
    assert content["ratios"][1]["lowest cosine"] == pytest.approx((whole * less).sum(1).min(), abs=1e-5)
    assert content["model"]["fingerprint"] == embedder.fingerprint
    assert str(tmp_path) not in json.dumps(content)
    assert (out / "dial.svg").read_text().startswith("<svg")
    assert (out / "dial.png").read_bytes().startswith(b"\x89PNG")
    assert f"{content['ratios'][1]['mean cosine']:.4f}" in result.stdout


def test_texts_are_drawn_with_a_fixed_seed(model_folder, tmp_path, monkeypatch):
    calls = []

    def noted(encode, texts, ratios, **options):
        calls.append(texts)
        return turn_dial(encode, texts, ratios, **options)

    monkeypatch.setattr("jaspertc.evaluation.dial.turn_dial", noted)
    for _ in range(2):
        run(model_folder, "--count", "3", "--rounds", "1", "--ratio", "1")
    assert len(calls[0]) == 3
    assert calls[0] == calls[1]


def test_turns_are_taken_after_a_warm_up():
    log = []

    def encode(texts, ratio):
        log.append((ratio, len(texts)))
        return np.ones((len(texts), 2))

    settings = turn_dial(encode, ["a", "b", "c"], [1.0, 0.5], rounds=2, singles=["a", "b"])
    turn = [(1.0, 3), (1.0, 1), (1.0, 1), (0.5, 3), (0.5, 1), (0.5, 1)]
    assert log == [(1.0, 3), (0.5, 3), *turn, *turn]
    assert [(len(item.seconds), len(item.singles)) for item in settings] == [(2, 4), (2, 4)]


def test_mistakes_are_named(model_folder, texts, tmp_path):
    with pytest.raises(DataFileError, match="nowhere"):
        run(model_folder, "--texts", tmp_path / "nowhere.txt")
    with pytest.raises(RatioError, match="2"):
        run(model_folder, "--texts", texts, "--ratio", "2")
    (tmp_path / "empty.jsonl").write_text("")
    with pytest.raises(InputError, match="no texts"):
        run(model_folder, "--texts", tmp_path / "empty.jsonl")


def test_more_threads_than_the_cores_can_have_use_for(model_folder, texts):
    with pytest.raises(InputError, match="--threads is 100000, it must be 1 to "):
        run(model_folder, "--texts", texts, "--threads", 100_000)


def test_a_file_where_the_folder_of_results_should_be_is_found_first(model_folder, texts):
    with pytest.raises(DataFileError, match=r"texts\.txt could not be written .*a file is where a folder"):
        run(model_folder, "--texts", texts.parent / "missing.jsonl", "--output", texts)
