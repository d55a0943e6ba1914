"""Folders of pictures on the command line."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from drawn import drawn, encoded, with_vision, write_folder
from typer.testing import CliRunner

from jaspertc import Embedder
from jaspertc.cli import app
from jaspertc.cli.pictures import BadList


@pytest.fixture(scope="module")
def folder(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return with_vision(tmp_path_factory.mktemp("commands") / "model", model_folder)


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    good = encoded(drawn("circle", "red"))
    return write_folder(
        tmp_path / "pictures",
        {
            "a.png": good,
            "b/broken.jpg": b"no picture",
            "b/c.JPG": encoded(drawn("rectangle", "blue"), "JPEG"),
            "d.png": good[: len(good) // 2],
            "e.gif": encoded(drawn("circle", "green"), "GIF"),
            ".hidden.png": good,
            "notes.md": b"no picture, and not meant as one",
        },
    )


def embed(*arguments: object) -> str:
    result = CliRunner().invoke(app, ["embed", *map(str, arguments)])
    assert result.exit_code == 0, result.output
    return result.output


def test_a_folder_is_embedded_without_its_bad_files_which_are_listed(
    folder: Path, pictures: Path, tmp_path: Path
) -> None:
    said = embed(pictures, "--output", tmp_path / "out.jsonl", "--model", folder, "--tokens", 9)
    assert "2 of 5 pictures got no vector" in said
    rows = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    assert [row["id"] for row in rows] == ["a.png", "b/c.JPG", "e.gif"]
    bad = [json.loads(line) for line in (tmp_path / "out.jsonl.bad.jsonl").read_text().splitlines()]
    assert [row["id"] for row in bad] == ["b/broken.jpg", "d.png"]
    assert "no picture that can be read" in bad[0]["error"]
    assert "damaged" in bad[1]["error"]
    expected = Embedder.load(folder).encode_image([pictures / row["id"] for row in rows], tokens=9)
    key = next(key for key in rows[0] if key != "id")
    assert np.abs(np.array([row[key] for row in rows]) - expected).max() < 1e-5


def test_where_an_interrupted_run_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "bad.jsonl"
    path.write_text("".join(json.dumps({"place": place}) + "\n" for place in (0, 3, 4, 9)))
    bad = BadList(path)
    # places: 0 bad, 1 2 good, 3 4 bad, 5 ... 8 good, 9 bad
    assert [bad.attempted(vectors) for vectors in (0, 1, 2, 3, 6)] == [1, 2, 5, 6, 10]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--ratio", "0.5"], "--ratio is for texts"),
        (["--tokens", "2"], "a picture has 1, 4, 9, 16"),
        (["--model", "mini"], "no folder 'vision'"),
    ],
)
def test_mistakes(
    folder: Path,
    pictures: Path,
    tmp_path: Path,
    arguments: list[str],
    message: str,
    run_command: Callable[..., str],
) -> None:
    model = [] if "--model" in arguments else ["--model", str(folder)]
    assert message in run_command(
        "embed", str(pictures), "--output", str(tmp_path / "o.npy"), *model, *arguments
    )


@pytest.fixture
def run_command() -> Callable[..., str]:
    """Runs a command that must fail; what it says."""
    from jaspertc.errors import JasperError

    def run(*arguments: str) -> str:
        result = CliRunner().invoke(app, list(arguments))
        assert result.exit_code != 0
        assert isinstance(result.exception, (JasperError, SystemExit)), result.exception
        return " ".join((result.output + str(result.exception)).split())

    return run


def test_an_index_of_pictures_is_searched_with_pictures_and_texts(
    folder: Path, pictures: Path, tmp_path: Path
) -> None:
    runner, index = CliRunner(), str(tmp_path / "i.db")
    made = runner.invoke(app, ["index", str(pictures), "--output", index, "--model", str(folder)])
    assert made.exit_code == 0, made.output
    assert "3 added" in made.output
    assert made.output.count("warning: left out") == 2
    again = runner.invoke(app, ["index", str(pictures), "--output", index, "--model", str(folder)])
    assert "0 added, 0 updated, 3 unchanged" in again.output
    (pictures / "a.png").write_bytes(encoded(drawn("rectangle", "black")))
    (pictures / "e.gif").unlink()
    third = runner.invoke(app, ["index", str(pictures), "--output", index, "--model", str(folder)])
    assert "0 added, 1 updated, 1 unchanged, 1 removed" in third.output
    found = runner.invoke(app, ["search", "--image", str(pictures / "a.png"), "--index", index, "--json"])
    hits = [json.loads(line) for line in found.output.splitlines()]
    assert hits[0]["id"] == "pictures/a.png"
    assert hits[0]["score"] == pytest.approx(1, abs=1e-4)
    by_text = runner.invoke(
        app, ["search", "a black rectangle", "--index", index, "--mode", "vector", "--json"]
    )
    assert len(by_text.output.splitlines()) == 2
    both = runner.invoke(app, ["search", "text", "--image", str(pictures / "a.png"), "--index", index])
    assert "leave the query and --mode out" in str(both.exception)
