"""The vision stage of a recipe, on a tiny model and pictures drawn by code."""

import json
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from drawn import at_random, drawn, tiny_vit
from safetensors.torch import load_file, save_file

from jaspertc import Embedder
from jaspertc.checkpoint.vision import read_vision
from jaspertc.engine.precision import normalized
from jaspertc.errors import ConfigError, TrainingError
from jaspertc.losses import contrastive_loss, cosine_loss, similarity_loss
from jaspertc.recipe.objective import Objective, picture_losses
from jaspertc.recipe.recipe import read_recipe
from jaspertc.train.vision import VisionRun

SHAPES = {"circle": "圆", "rectangle": "方块"}
COLORS = {"red": "红", "blue": "蓝", "green": "绿", "black": "黑"}
STAGE = """
[[stages]]
kind = "vision"
name = "pictures"
pictures = ["train.jsonl"]
validation = ["validation.jsonl"]
encoder = "vit"
tokens = [1, 4, 16]
default_tokens = 4
objective = { cosine = 10, similarity = 100, contrastive = 1, temperature = 0.05 }
learning_rate = 5e-3
steps = 12
batch_size = 8
save_every = 4
validate_every = 6
"""
RECIPE = '[student]\nmodel = "./text"\n[training]\nfolder = "run"\n' + STAGE


@pytest.fixture(scope="module")
def source(make_model: Callable[..., Path]) -> Path:
    return make_model(tokenizer="unigram")


@pytest.fixture
def folder(tmp_path: Path, source: Path) -> Path:
    """A recipe's folder: text side, image encoder, pictures and captions."""
    (tmp_path / "text").symlink_to(source)
    encoder = tiny_vit()
    at_random(encoder)
    (tmp_path / "vit").mkdir()
    save_file(encoder.state_dict(), str(tmp_path / "vit" / "model.safetensors"))
    keys = {"model_type": "siglip_vision_model", "hidden_size": 16, "num_hidden_layers": 1, "patch_size": 4}
    keys |= {"num_attention_heads": 2, "intermediate_size": 24, "image_size": 16, "hidden_act": "gelu"}
    (tmp_path / "vit" / "config.json").write_text(json.dumps(keys))
    for name, sizes in (("train", (40, 48)), ("validation", (44,))):
        rows = []
        for size in sizes:
            for shape, chinese in SHAPES.items():
                for color, word in COLORS.items():
                    path = f"{name}-{size}-{shape}-{color}.png"
                    drawn(shape, color, size).save(tmp_path / path)
                    rows.append({"path": path, "captions": [f"a {color} {shape}", f"{word}色的{chinese}"]})
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "r.toml").write_text(RECIPE)
    return tmp_path


def run(recipe: Path, **options: Any) -> Path | None:
    vision = VisionRun(
        read_recipe(recipe),
        device="cpu",
        say=lambda line: None,
        progress=lambda name, total: nullcontext(lambda count: None),
    )
    return vision.run(**options)


def changed(folder: Path, old: str, new: str) -> Path:
    content = (folder / "r.toml").read_text()
    assert old in content
    (folder / "r.toml").write_text(content.replace(old, new))
    return folder / "r.toml"


def test_pictures_learn_and_the_text_side_stays_bit_for_bit(folder: Path, source: Path) -> None:
    result = run(changed(folder, "steps = 12", "steps = 60"))
    assert result == folder / "run" / "model"
    for path in source.iterdir():
        if path.is_file():
            assert (result / path.name).read_bytes() == path.read_bytes()
    rows = [
        json.loads(line) for line in (folder / "run/1-pictures/validation.jsonl").read_text().splitlines()
    ]
    first, last = rows[0]["scores"], rows[-1]["scores"]
    assert list(last) == ["1 tokens", "4 tokens", "16 tokens"]
    for tokens in last:
        assert last[tokens]["cosine to target"] > first[tokens]["cosine to target"] + 0.3
    losses = [
        json.loads(line)["losses"]
        for line in (folder / "run/1-pictures/metrics.jsonl").read_text().splitlines()
    ]
    assert set(losses[0]) == {"cosine", "similarity", "contrastive", "total"}
    assert (
        np.mean([row["total"] for row in losses[-10:]]) < np.mean([row["total"] for row in losses[:10]]) * 0.7
    )
    model, texts = Embedder.load(result, runtime="torch"), Embedder.load(source, runtime="torch")
    english = model.encode([f"a {color} {shape}" for shape in SHAPES for color in COLORS])
    chinese = model.encode([f"{color}色的{shape}" for shape in SHAPES.values() for color in COLORS.values()])
    said = texts.encode([f"a {color} {shape}" for shape in SHAPES for color in COLORS])
    assert np.array_equal(english, said)
    pictures = model.encode_image([drawn(shape, color, 44) for shape in SHAPES for color in COLORS])
    agreement = (pictures * normalized(english + chinese)).sum(1).mean()
    assert agreement == pytest.approx(last["4 tokens"]["cosine to target"], abs=0.01)


class KilledError(Exception):
    pass


@pytest.mark.parametrize("train_encoder", [False, True])
def test_a_killed_run_ends_as_an_unbroken_one(folder: Path, train_encoder: bool) -> None:
    if train_encoder:
        changed(folder, "steps = 12", "steps = 6\ntrain_encoder = true")
    else:
        changed(folder, "steps = 12", "steps = 10\nviews = 2")
    run(folder / "r.toml")
    unbroken = load_file(folder / "run/1-pictures/vision/model.safetensors")
    changed(folder, 'folder = "run"', 'folder = "again"')

    def kill(stage: object, report: Any) -> None:
        if report.step == 4:
            raise KilledError

    with pytest.raises(KilledError):
        run(folder / "r.toml", on_step=kill)
    assert run(folder / "r.toml") == folder / "again" / "model"
    for name, value in load_file(folder / "again/1-pictures/vision/model.safetensors").items():
        assert torch.equal(value, unbroken[name]), name
    start = tiny_vit()
    start.load_state_dict(load_file(folder / "vit/model.safetensors"))
    trained = read_vision(folder / "run/1-pictures", 32).encoder.state_dict()
    same = [torch.equal(value, trained[name]) for name, value in start.state_dict().items()]
    assert not any(same) if train_encoder else all(same)


def test_parts_of_a_batch_give_the_gradients_of_the_whole(folder: Path) -> None:
    changed(folder, "steps = 12", "steps = 3")
    run(folder / "r.toml")
    whole = load_file(folder / "run/1-pictures/vision/model.safetensors")
    changed(folder, "steps = 3", "steps = 3\ntoken_budget = 20\ngraph_tokens = 0")
    run(changed(folder, 'folder = "run"', 'folder = "parts"'))
    for name, value in load_file(folder / "parts/1-pictures/vision/model.safetensors").items():
        assert torch.allclose(value, whole[name], atol=1e-4), name


def test_a_second_stage_goes_on_where_the_first_ended(folder: Path) -> None:
    second = STAGE.replace('"pictures"', '"all"').replace('encoder = "vit"', "train_encoder = true")
    (folder / "r.toml").write_text((RECIPE + second).replace("steps = 12", "steps = 2"))
    run(folder / "r.toml", only=0)
    assert not (folder / "run/model").exists()
    result = run(folder / "r.toml")
    assert result is not None
    last = load_file(result / "vision/model.safetensors")
    first = load_file(folder / "run/1-pictures/vision/model.safetensors")
    moved = {name: float((last[name] - first[name]).abs().max()) for name in last}
    assert max(moved.values()) < 0.05  # two steps of Adam
    assert moved["encoder.embeddings.patch_embedding.weight"] > 0
    changed(folder, 'folder = "run"', 'folder = "other"')
    with pytest.raises(TrainingError, match="which is not complete"):
        run(folder / "r.toml", only=1)


def test_a_complete_stage_refuses_a_changed_recipe(folder: Path) -> None:
    recipe = folder / "r.toml"
    run(recipe)
    picture, as_it_was = folder / "run/model/vision/model.safetensors", recipe.read_text()
    before = picture.read_bytes()
    for old, new, difference in (
        ("learning_rate = 5e-3", "learning_rate = 1e-2", r"1-pictures\.learning_rate was 0\.005, is 0\.01"),
        ("tokens = [1, 4, 16]", "tokens = [1, 4]", r"1-pictures\.tokens was \[1, 4, 16\], is \[1, 4\]"),
        ('["train.jsonl"]', '["train.jsonl", "validation.jsonl"]', r"1-pictures\.data was"),
    ):
        with pytest.raises(TrainingError, match=difference):
            run(changed(folder, old, new))
        recipe.write_text(as_it_was)
    assert run(changed(folder, "validate_every = 6", "validate_every = 2")) == folder / "run" / "model"
    assert picture.read_bytes() == before
    with (folder / "vit/config.json").open("a") as file:
        file.write("\n")
    assert run(recipe) == folder / "run" / "model"
    weights = load_file(folder / "vit/model.safetensors")
    name = next(iter(weights))
    save_file({**weights, name: weights[name] + 1}, str(folder / "vit/model.safetensors"))
    with pytest.raises(TrainingError, match="image encoder was"):
        run(recipe)


def test_a_teacher_of_another_kind(folder: Path) -> None:
    teacher = '[[teachers]]\nname = "t"\nkind = "jaspertc"\nmodel = "./text"\n'
    changed(folder, "[training]", teacher + "[training]")
    changed(folder, "steps = 12", 'steps = 2\nteacher = "t"')
    assert run(folder / "r.toml") is not None
    changed(folder, 'teacher = "t"', 'teacher = "u"')
    with pytest.raises(ConfigError, match=r"teacher is 'u', no \[\[teachers\]\] has that name"):
        run(changed(folder, 'folder = "run"', 'folder = "other"'))


def test_losses_are_those_of_the_formulas() -> None:
    torch.manual_seed(0)
    pictures, targets, captions = (torch.randn(5, 8) for _ in range(3))
    unit = torch.nn.functional.normalize
    ours, wanted, said = unit(pictures, dim=-1), unit(targets, dim=-1), unit(captions, dim=-1)
    objective = Objective(cosine=10, similarity=100, contrastive=2, temperature=0.1)
    found = picture_losses(objective, pictures, wanted, said, seed=0)
    assert torch.allclose(found["cosine"], 10 * cosine_loss(ours, wanted))
    assert torch.allclose(found["similarity"], 100 * similarity_loss(ours, wanted))
    own = torch.arange(5)
    both = contrastive_loss(ours, said, own, temperature=0.1) + contrastive_loss(
        said, ours, own, temperature=0.1
    )
    assert torch.allclose(found["contrastive"], both)
    assert set(picture_losses(Objective(cosine=1), pictures, wanted, said, seed=0)) == {"cosine"}


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("tokens = [1, 4, 16]", "tokens = [2]", "square numbers"),
        ("contrastive = 1", "soft = 1", "pictures cannot learn"),
        ("steps = 12", "steps = 12\nratio = 0.5", "ratio is for kind 'text'"),
        ("steps = 12", "steps = 12\nviews = 2\ntrain_encoder = true", "views is for a frozen encoder"),
        ("steps = 12", "steps = 12\nveiws = 2", "did you mean 'views'"),
        ('kind = "vision"', 'kind = "visoin"', "did you mean 'vision'"),
        ("steps = 12", "steps = 12\ncrop = 0", "crop is 0"),
        ('pictures = ["train.jsonl"]\n', "", "pictures is missing"),
    ],
)
def test_recipe_mistakes(folder: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_recipe(changed(folder, old, new))


def test_mistakes_that_are_found_before_the_first_step(folder: Path) -> None:
    with pytest.raises(ConfigError, match="encoder is missing"):
        run(changed(folder, 'encoder = "vit"\n', ""))
    (folder / "r.toml").write_text(RECIPE.replace("batch_size = 8", "batch_size = 80"))
    with pytest.raises(ConfigError, match="batch_size is 80, there are 16 pictures"):
        run(folder / "r.toml")


def test_text_stages_come_first_and_need_texts(folder: Path) -> None:
    text = '[[stages]]\nname = "t"\nobjective = { cosine = 1 }\nlearning_rate = 1e-3\nsteps = 1\n'
    (folder / "r.toml").write_text(RECIPE + text)
    with pytest.raises(ConfigError, match="texts is missing"):
        read_recipe(folder / "r.toml")
    rest = '[[texts.files]]\npath = "a.txt"\n[cache]\nfolder = "v"\n'
    teacher = '[[teachers]]\nname = "t"\nkind = "jaspertc"\nmodel = "mini"\n'
    (folder / "r.toml").write_text(rest + teacher + RECIPE + text)
    with pytest.raises(ConfigError, match='of kind "vision" come last'):
        read_recipe(folder / "r.toml")
