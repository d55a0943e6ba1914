"""The fused target as a contender: its vectors are the cached targets."""

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from jaspertc.errors import ConfigError
from jaspertc.evaluation.contenders import load_peers, read_peers
from jaspertc.recipe.recipe import read_recipe
from jaspertc.teachers import JaspertcTeacher
from jaspertc.teaching.fill import Teaching
from jaspertc.teaching.targets import Targets

RECIPE = """
[[texts.files]]
path = "documents.jsonl"

[[texts.files]]
path = "queries.jsonl"
role = "query"

[[teachers]]
name = "prompted"
kind = "jaspertc"
model = "{model}"
prompts = {{ query = "Find: ", document = "{document}" }}
reducers = [{{ kind = "centre" }}]

[[teachers]]
name = "plain"
kind = "jaspertc"
model = "{model}"
weight = 0.5

[cache]
folder = "cache"
"""


def write(folder: Path, model: Path, document: str = "") -> Path:
    for role in ("documents", "queries"):
        rows = [{"id": f"{role}{i}", "text": f"{role} about number {i * i}"} for i in range(8)]
        (folder / f"{role}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    recipe = folder / "recipe.toml"
    recipe.write_text(RECIPE.format(model=model, document=document))
    with Teaching(read_recipe(recipe)) as teaching:
        for job in teaching.jobs:
            job.run(64)
    return recipe


def test_embeds_the_target(tmp_path: Path, model_folder: Path) -> None:
    recipe = write(tmp_path, model_folder)
    (peer,) = read_peers([f"fused={recipe}"])
    (contender,) = load_peers([peer])
    assert contender.prompts == {"document": "", "query": "Find: "}
    targets = Targets(read_recipe(recipe))
    for role, prompt in (("document", ""), ("query", "Find: ")):
        name = "documents" if role == "document" else "queries"
        texts = [f"{name} about number {i * i}" for i in range(8)]
        found = contender.embed(texts, prompt)
        assert found.shape == (8, contender.dims)
        expected = targets.vectors([f"{name}{i}" for i in range(8)], role)
        assert np.abs(found - expected).max() <= 2e-3  # the cache holds float16


def test_a_teacher_alone_and_in_the_target_embeds_once(
    tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    recipe = write(tmp_path, model_folder)
    fused, alone = load_peers(read_peers([f"fused={recipe}", f"jaspertc={model_folder}"]))
    texts = ["one text", "another text", "one text"]
    expected = [contender.fresh(texts, "") for contender in (fused, alone)]
    embedded: list[str] = []
    encode = JaspertcTeacher.encode

    def counted(adapter: JaspertcTeacher, given: Sequence[str], prompt: str) -> npt.NDArray[np.float32]:
        embedded.extend(given)
        return encode(adapter, given, prompt)

    monkeypatch.setattr(JaspertcTeacher, "encode", counted)
    for contender, vectors in zip((fused, alone), expected):
        assert np.abs(contender.embed(texts, "") - vectors).max() <= 1e-6
    assert sorted(embedded) == ["another text", "one text"]
    alone.forget()
    fused.embed(texts, "")
    assert len(embedded) == 4


def test_runtimes_share_no_vectors(
    tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("openvino")
    peers = tmp_path / "peers.toml"
    table = '[[peers]]\nname = "{0}"\nkind = "jaspertc"\nmodel = "{1}"\nruntime = "{0}"\ndtype = "float32"\n'
    peers.write_text("".join(table.format(name, model_folder) for name in ("torch", "openvino")))
    contenders = load_peers(read_peers([str(peers)]))
    assert [contender.runtime for contender in contenders] == ["torch float32", "openvino float32"]
    embedded: list[str] = []

    def counted(adapter: JaspertcTeacher, given: Sequence[str], prompt: str) -> npt.NDArray[np.float32]:
        embedded.extend(given)
        return np.ones((len(given), adapter.dims), np.float32)

    monkeypatch.setattr(JaspertcTeacher, "encode", counted)
    for contender in contenders:
        contender.embed(["a text"], "")
    assert len(embedded) == 2


def test_a_prompt_must_tell_the_role(tmp_path: Path, model_folder: Path) -> None:
    recipe = write(tmp_path, model_folder, document="Find: ")
    (peer,) = read_peers([f"fused={recipe}"])
    with pytest.raises(ConfigError, match="same prompt"):
        load_peers([peer])
