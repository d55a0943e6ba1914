"""Recipes are strict: a mistake is an error that names file, table, key, value and what is allowed."""

from pathlib import Path

import pytest

from jaspertc.errors import ConfigError
from jaspertc.recipe.recipe import read_recipe
from jaspertc.teachers import JaspertcTeacher, OpenAITeacher, USETeacher

RECIPES = sorted((Path(__file__).parents[2] / "recipes").glob("*.toml"))

GOOD = """
[[texts.files]]
path = "a.jsonl"
limit = 5

[[texts.files]]
path = "samples:questions"
text_field = "question"
role = "query"

[[teachers]]
name = "mini"
kind = "jaspertc"
model = "mini"
prompts = { query = "query: ", document = "" }
ratio = 1
reducers = [{ kind = "centre" }, { kind = "pca", m = 4 }]
weight = 2

[[teachers]]
name = "served"
kind = "openai"
url = "http://localhost:1/v1"
model = "./served/name"
prompt = "p"
extra = { truncate_prompt_tokens = 100 }

[[teachers]]
name = "folder"
kind = "jaspertc"
model = "./e5"

[[teachers]]
name = "use"
kind = "use"
path = "packages"

[cache]
folder = "vectors"

[[validation.sts]]
name = "dev"
path = "dev.jsonl"
where = { split = "dev" }
"""


def read(tmp_path, content):
    path = tmp_path / "r.toml"
    path.write_text(content)
    return read_recipe(path)


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_shipped_recipes_are_sound(path):
    recipe = read_recipe(path)
    assert recipe.teachers or recipe.pictures_only


def test_values(tmp_path):
    recipe = read(tmp_path, GOOD)
    mini, served, folder, use = recipe.teachers
    assert isinstance(mini, JaspertcTeacher.Config)
    assert isinstance(served, OpenAITeacher.Config)
    assert isinstance(use, USETeacher.Config)
    assert (mini.weight, mini.ratio, mini.model, len(mini.build_reducers())) == (2.0, 1.0, "mini", 2)
    assert served.model == "./served/name"
    assert folder.model == str(tmp_path / "e5")
    assert use.path == tmp_path / "packages"
    assert recipe.texts.files[0].path == tmp_path / "a.jsonl"
    assert recipe.texts.files[1].path.is_file()
    assert recipe.roles == ("document", "query")
    assert recipe.cache.folder == tmp_path / "vectors"
    assert (mini.folder_of("query"), served.folder_of("query")) == ("mini@query", "served")
    assert (mini.prompt_of("query"), served.prompt_of("query")) == ("query: ", "p")
    assert recipe.validation is not None
    assert recipe.validation.sts[0].where == {"split": "dev"}
    with pytest.raises(ConfigError, match=r"'mini' has prompts for query, document .*'passage'; add it"):
        mini.prompt_of("passage")


BAD = [
    ('kind = "use"\n', 'kind = "usee"\n', r"r\.toml: teachers\[3\]\.kind is 'usee', .*did you mean 'use'"),
    ('kind = "use"\n', "", r"teachers\[3\]\.kind is None, it must be one of jaspertc, sentence-tr"),
    ('model = "mini"', 'modle = "mini"', r"'modle' in \[teachers\[0\]\] of .*r\.toml; did you mean 'model'"),
    ('model = "mini"\n', "", r"r\.toml: teachers\[0\]\.model is missing; add it"),
    ("limit = 5", "limit = 0", r"texts\.files\[0\]\.limit is 0, it must be at least 1"),
    ("limit = 5", 'limit = "5"', r"texts\.files\[0\]\.limit is '5', it must be an integer"),
    ("limit = 5", "limit = true", r"limit is True, it must be an integer"),
    ("limit = 5", "limits = 5", r"unknown key 'limits' in \[texts\.files\[0\]\].*'limit'"),
    ("ratio = 1", "ratio = 1.5", r"teachers\[0\]\.ratio is 1\.5, it must be from 1e-06 to 1"),
    ("ratio = 1", "ratio = nan", r"ratio is nan"),
    ("weight = 2", "weight = 0", r"\[teachers\[0\]\] weight is 0\.0, it must be > 0"),
    ("weight = 2", "weight = inf", r"weight is inf, it must be at least 0"),
    ("weight = 2", "weight = -1", r"weight is -1\.0"),
    ('{ kind = "centre" }', '{ kind = "center" }', r"\[teachers\[0\]\] reducer kind is 'center'.*centre"),
    ('{ kind = "centre" }', "3", r"reducers\[0\] is 3, it must be a table"),
    ("m = 4", "n = 4", r"reducer 'pca' cannot take"),
    ("m = 4", "m = true", r"\[teachers\[0\]\] reducer 'pca': m is True, it must be of type int"),
    ("m = 4", 'm = "4"', r"reducer 'pca': m is '4', it must be of type int"),
    ('"centre" }', '"centre", mean = 1 }', r"reducer 'centre' learns mean by itself; leave it out"),
    ('"a.jsonl"', '"~no-such-user/x"', r"texts\.files\[0\]\.path is '~no-such-user/x', whose home is not"),
    ('"./e5"', '"~no-such-user/x"', r"teachers\[2\]\.model is '~no-such-user/x', whose home is not"),
    ('"a.jsonl"', '"-"', r"texts\.files\[0\]\.path is '-'; a recipe cannot take standard input: name a file"),
    ('"vectors"', '"v\\u0000"', r"cache\.folder is 'v\\x00', no path has a NUL character"),
    ('document = ""', "document = 3", r"teachers\[0\]\.prompts\.document is 3, it must be a string"),
    ('document = ""', '"a/b" = ""', r"names the role 'a/b'"),
    ('name = "served"', 'name = "mini"', r"teachers: the name 'mini' is used twice"),
    ('name = "served"', 'name = "a/b"', r"name is 'a/b', it must be letters"),
    ('name = "served"', 'name = "_validation"', r"name is '_validation'"),
    ("http://localhost:1/v1", "localhost:1", r"url is 'localhost:1', it must start with http"),
    ("truncate_prompt_tokens = 100", "input = 1", r"extra has 'input'"),
    ("samples:questions", "samples:nothing", r"'samples:nothing', the package has .*samples:passages"),
    ("[cache]\nfolder", "[cache]\nfoldr", r"unknown key 'foldr' in \[cache\].*'folder'"),
    ('[cache]\nfolder = "vectors"', "", r"r\.toml: cache is missing; add it: \[cache\] with folder"),
    ("[cache]\n", "[cahce]\n", r"unknown key 'cahce' in .*r\.toml; did you mean 'cache'"),
    ("[[validation.sts]]", "[[validation.stss]]", r"unknown key 'stss' in \[validation\].*'sts'"),
    (
        'where = { split = "dev" }',
        'where = "dev"',
        r"validation\.sts\[0\]\.where is 'dev', it must be a table",
    ),
    ('prompt = "p"', 'prompt = "p"\nprompts = { query = "q" }', r"prompt and prompts are both given"),
    ("[cache]", "[cache", r"cannot be read as TOML"),
]


@pytest.mark.parametrize(("old", "new", "words"), BAD, ids=[f"{item[1][:30]!r}" for item in BAD])
def test_mistakes(tmp_path, old, new, words):
    assert old in GOOD
    with pytest.raises(ConfigError, match=words):
        read(tmp_path, GOOD.replace(old, new, 1))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("", "texts is missing; add it: .*texts.files"),
        ('texts = 3\n[cache]\nfolder = "a"', "texts is 3, it must be a table"),
        ("[texts]\nfiles = []", r"texts\.files is empty"),
        (
            '[[texts.files]]\npath = "a.txt"\n[cache]\nfolder = "v"',
            r"teachers is missing; add it: .*teachers",
        ),
        ('teachers = []\n[[texts.files]]\npath = "a.txt"\n[cache]\nfolder = "v"', "teachers is empty"),
        (GOOD + "[validation.x]", "unknown key 'x'"),
        (GOOD.split("[[validation")[0] + "[validation]", "names no sts and no retrieval"),
    ],
)
def test_missing_parts(tmp_path, content, words):
    with pytest.raises(ConfigError, match=words):
        read(tmp_path, content)


TRAINING = """
[student]
model = "mini"
head_texts = 64
[training]
folder = "run"
device = "auto"
[[stages]]
name = "one"
objective = { cosine = 1 }
learning_rate = 1e-3
steps = 3
"""


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("steps = 3", 'steps = 3\ntrainable = ["("]', r"one: '\(' is no regular expression"),
        ("steps = 3", 'steps = 3\nunfreeze = [{ step = 1, parameters = "(" }]', r"one: '\(' is no regular"),
        ("steps = 3", "steps = 3\nseed = -1", r"seed is -1, it must be from 0 to 9223372036854775807"),
        (
            "steps = 3",
            f"steps = 3\nseed = {10**25}",
            r"seed is 10000000000000000000000000, it must be from 0",
        ),
        (
            "steps = 3",
            'steps = 3\ncompressor = "swiglu"\ncompressor_keys = 3',
            r"compressor_keys is 3, .*table",
        ),
        ("head_texts = 64", "head_texts = 1", r"head_texts is 1, it must be at least 2"),
        ('"auto"', '"gpu"', r"\[training\] device is 'gpu', it must be auto, cpu, cuda or cuda:N"),
        ('"run"', '"other/../vectors"', r"\[training\] folder and \[cache\] folder are both .*vectors"),
    ],
)
def test_mistakes_of_training(tmp_path, old, new, words):
    assert read(tmp_path, GOOD + TRAINING).stages[0].name == "one"
    with pytest.raises(ConfigError, match=words):
        read(tmp_path, GOOD + TRAINING.replace(old, new, 1))


def test_a_byte_order_mark_is_left_out(tmp_path):
    assert read(tmp_path, "\ufeff" + GOOD) == read(tmp_path, GOOD)


def test_no_file(tmp_path):
    with pytest.raises(ConfigError, match=r"no recipe .*nothing\.toml"):
        read_recipe(tmp_path / "nothing.toml")
    (tmp_path / "b.toml").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="cannot be read as TOML"):
        read_recipe(tmp_path / "b.toml")
