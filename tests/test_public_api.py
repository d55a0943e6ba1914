"""What ``import jaspertc`` gives: its names, at no cost, typed, and used as the README does."""

import dataclasses
import inspect
import json
import random
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, get_type_hints

import pytest

import jaspertc
from jaspertc import Embedder, LongTextWarning
from jaspertc.engine.options import EncodeArguments, EncodeOptions, LoadArguments, StreamArguments

README = Path(__file__).parents[1] / "README.md"
NAMES = {
    "Document",
    "Embedder",
    "JasperError",
    "LongTextWarning",
    "SearchIndex",
    "__version__",
    "distil",
    "evaluate",
    "teach",
}
HEAVY = ("torch", "numpy", "transformers", "openvino", "sentence_transformers", "mteb", "tokenizers", "rich")

RECIPE = """
[[texts.files]]
path = "texts.jsonl"

[[teachers]]
name = "small"
kind = "jaspertc"
model = "./model"

[cache]
folder = "vectors"

[student]
model = "./model"
layers = 1
max_length = 64

[training]
folder = "run"
held_out = 10
expected_texts = 60

[[stages]]
name = "distil"
compressor = "disjoint"
ratio = 0.33
threshold = 8
objective = { cosine = 10 }
learning_rate = 1e-4
steps = 2
batch_size = 8
"""


def test_the_names():
    assert set(jaspertc.__all__) == set(dir(jaspertc)) == NAMES
    for name in NAMES - {"__version__"}:
        assert inspect.getdoc(getattr(jaspertc, name)), name
    assert issubclass(LongTextWarning, UserWarning)
    with pytest.raises(AttributeError, match="no attribute 'Embeder'"):
        _ = jaspertc.Embeder


def test_the_import_is_cheap():
    script = f"import jaspertc, sys; print([name for name in {HEAVY!r} if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def keywords(function):
    hints = get_type_hints(function)
    parameters = inspect.signature(function).parameters.values()
    return {item.name: hints[item.name] for item in parameters if item.kind is item.KEYWORD_ONLY}


def test_typed_arguments_are_those_of_the_methods():
    assert get_type_hints(EncodeArguments) == keywords(Embedder.encode)
    assert get_type_hints(LoadArguments) == keywords(Embedder.load)
    options = get_type_hints(EncodeOptions)
    assert {field.name: options[field.name] for field in dataclasses.fields(EncodeOptions)} == get_type_hints(
        StreamArguments
    )


def test_keywords_of_the_public_names_are_typed():
    owners = [getattr(jaspertc, name) for name in NAMES - {"__version__"}]
    methods = [item for owner in owners if inspect.isclass(owner) for item in vars(owner).values()]
    functions = [
        item.__func__ if isinstance(item, classmethod) else item
        for item in [*owners, *methods]
        if inspect.isfunction(item) or isinstance(item, classmethod)
    ]
    assert len(functions) > 30
    for function in functions:
        for parameter in inspect.signature(function).parameters.values():
            if parameter.kind is parameter.VAR_KEYWORD:
                assert parameter.annotation not in (Any, "Any", parameter.empty), (function, parameter)


def test_the_readme_runs(tmp_path, monkeypatch, model_folder, capsys):
    pytest.importorskip("mteb")
    monkeypatch.chdir(tmp_path)
    shutil.copytree(model_folder, tmp_path / "model")
    (tmp_path / "recipe.toml").write_text(RECIPE, encoding="utf-8")
    rng = random.Random(0)
    texts = [
        " ".join(rng.choices(["river", "stone", "bread", "光", "moon"], k=rng.randint(3, 12)))
        for _ in range(40)
    ]
    write_lines(
        tmp_path / "texts.jsonl", [{"id": f"t{place}", "text": text} for place, text in enumerate(texts)]
    )
    pairs = [
        {"sentence1": a, "sentence2": b, "score": n % 5} for n, (a, b) in enumerate(zip(texts, texts[::-1]))
    ]
    write_lines(tmp_path / "tasks" / "sts" / "own.jsonl", pairs)

    blocks = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), re.DOTALL)
    assert len(blocks) == 2
    names = {}
    for block in blocks:
        exec(block, names)
    printed = capsys.readouterr().out
    assert "Bread rises because yeast" in printed
    student = Embedder.load(names["student"], device="cpu")
    assert student.config.backbone.num_layers == 1
    assert names["student"] == Path("run") / "model"
    assert -1 <= float(printed.splitlines()[-1]) <= 1
    assert len(list((tmp_path / "evaluation-results" / "measures").rglob("own.json"))) == 2


def write_lines(path, rows):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
