"""Turned vectors: whole cosines stay, prefixes find more."""

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from jaspertc import Embedder
from jaspertc.checkpoint import load_checkpoint
from jaspertc.cli import app
from jaspertc.config import HeadConfig
from jaspertc.errors import CheckpointError, DataFileError, InputError
from jaspertc.recipe.texts import PairTexts
from jaspertc.train import matryoshka
from jaspertc.train.matryoshka import Sides, check_widths, learned_turn, read_pairs, turn_checkpoint

WORDS = ["river", "stone", "bread", "light", "window", "garden", "letter", "面包", "河流", "石头", "花园"]


def unit(vectors: np.ndarray) -> np.ndarray:
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)


def hidden_meaning(count: int = 600, width: int = 24, meaning: int = 8) -> Sides:
    """Pairs that share weak values in a random plane, and strong ones elsewhere that both have by chance."""
    random = np.random.default_rng(0)
    plane, _ = np.linalg.qr(random.standard_normal((width, width)))
    shared = random.standard_normal((count, meaning))
    noise = [random.standard_normal((count, width - meaning)) for _ in range(2)]
    sides = [unit(np.concatenate([shared, part], axis=1) @ plane.T) for part in noise]
    return Sides(queries=sides[0], documents=sides[1])


def test_a_prefix_finds_what_was_learned_and_whole_vectors_what_they_found() -> None:
    sides = hidden_meaning()
    told: list[int] = []
    turn = learned_turn([sides], [8], steps=100, advance=told.append)
    assert sum(told) == 100
    np.testing.assert_allclose(turn @ turn.T, np.eye(24), atol=1e-4)
    assert sides.score(turn, 8) > sides.score(None, 8) + 0.2
    assert sides.score(turn, 24) == pytest.approx(sides.score(None, 24), abs=1e-3)
    np.testing.assert_array_equal(turn, learned_turn([sides], [8], steps=100))  # the same each time


def pairs_file(path: Path, count: int) -> Path:
    random = np.random.default_rng(0)
    rows = [
        {"query": " ".join(words[:3]), "positive": " ".join(words)}
        for words in (random.choice(WORDS, 6) for _ in range(count))
    ]
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    return path


def test_a_checkpoint_keeps_all_but_the_order_of_its_values(tmp_path: Path) -> None:
    checkpoint, before = load_checkpoint("mini"), Embedder.load("mini", device="cpu", runtime="torch")
    turn, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((384, 384)))
    widths = check_widths(checkpoint, [128, 64, 64])
    turn_checkpoint(checkpoint, turn.astype(np.float32), widths, tmp_path / "turned")
    after = Embedder.load(tmp_path / "turned", device="cpu", runtime="torch")
    texts = ["the river keeps a stone", "面包 早上 light", "word " * 700]
    old, new = before.encode(texts), after.encode(texts)
    np.testing.assert_allclose(before.similarity(old, old), after.similarity(new, new), atol=3e-3)
    np.testing.assert_allclose(unit(old @ turn.T), new, atol=4e-3)  # both heads are int8
    assert after.encode(texts, dims=64).shape == (3, 64)
    assert after.checkpoint.info.piece_length == before.checkpoint.info.piece_length
    assert after.fingerprint != before.fingerprint
    theirs = load_checkpoint(tmp_path / "turned").encoder.backbone.state_dict()
    for name, weight in checkpoint.encoder.backbone.state_dict().items():
        np.testing.assert_allclose(weight, theirs[name], rtol=1e-6, err_msg=name)


def test_a_model_without_a_head_gets_one(make_model, tmp_path: Path) -> None:
    folder = make_model(head=HeadConfig(dims=0))
    checkpoint = load_checkpoint(folder)
    whole = checkpoint.info.config.embedding_dims
    turn, _ = np.linalg.qr(np.random.default_rng(0).standard_normal((whole, whole)))
    turn_checkpoint(checkpoint, turn.astype(np.float32), [4], tmp_path / "turned")
    rows = [np.array([5, 6, 7]), np.array([8, 9])]
    old, new = (Embedder.load(path, device="cpu").encode_ids(rows) for path in (folder, tmp_path / "turned"))
    np.testing.assert_allclose(unit(old @ turn.T), new, atol=1e-5)


@pytest.mark.parametrize("widths", [[], [0], [384], [64, 400]])
def test_wrong_widths_are_named(widths: list[int]) -> None:
    with pytest.raises(InputError, match="they must be 1 to 383"):
        check_widths(load_checkpoint("mini"), widths)


def test_too_few_pairs_and_a_final_model_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InputError, match="holds 7 pairs; at least 100"):
        read_pairs(PairTexts(path=pairs_file(tmp_path / "few.jsonl", 7)), 1000)
    checkpoint = load_checkpoint("mini")
    monkeypatch.setitem(checkpoint.info.notes, matryoshka.NOTE, {})
    with pytest.raises(CheckpointError, match="optimised already"):
        check_widths(checkpoint, [64])


def test_pairs_need_fields(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("lines.txt").write_text("a line\n" * 200)
    Path("folder").mkdir()
    Path("folder/page.md").write_text("a page")
    found = []
    for name in ("lines.txt", "-", "folder"):
        with pytest.raises(
            DataFileError, match=r"has no fields; give a \.jsonl, \.csv or \.parquet file"
        ) as error:
            read_pairs(PairTexts(path=Path(name)), 1000)
        command = ["matryoshka", "no/such/model", "out", name, "--dims", "64"]  # before the model
        assert str(CliRunner().invoke(app, command).exception) == str(error.value)
        found.append(str(error.value).partition(" has")[0])
    assert found == ["lines.txt", "standard input", "folder/page.md"]


@pytest.mark.parametrize("kind", ["jsonl", "csv", "parquet"])
@pytest.mark.parametrize(("field", "option"), [("query", "--query-field"), ("positive", "--positive-field")])
def test_a_field_that_is_not_there_is_named_with_its_option(
    tmp_path: Path, kind: str, field: str, option: str
) -> None:
    path = tmp_path / f"pairs.{kind}"
    row = {name: "a text" for name in ("query", "positive") if name != field}
    if kind == "parquet":
        arrow = pytest.importorskip("pyarrow")
        pytest.importorskip("pyarrow.parquet").write_table(arrow.Table.from_pylist([row]), path)
    else:
        path.write_text(json.dumps(row) if kind == "jsonl" else f"{next(iter(row))}\na text\n")
    with pytest.raises(DataFileError, match=f"no field '{field}', it has .*; name another with {option}$"):
        read_pairs(PairTexts(path=path), 1000)


def test_drawn_pairs_do_not_depend_on_the_order_of_lines(tmp_path: Path) -> None:
    path = pairs_file(tmp_path / "pairs.jsonl", 150)
    drawn = read_pairs(PairTexts(path=path), 120)
    lines = path.read_text(encoding="utf-8").splitlines()
    path.write_text("\n".join(reversed(lines)), encoding="utf-8")
    assert read_pairs(PairTexts(path=path), 120) == drawn
    assert len(drawn[0]) == 120
