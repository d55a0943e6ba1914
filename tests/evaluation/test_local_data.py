"""Local files become mteb's tasks; what is wrong with them is named with file, line and key."""

import gzip
import hashlib
import json
import shutil

import pytest

pytest.importorskip("mteb")

from jaspertc.errors import ConfigError, DataFileError, InputError
from jaspertc.evaluation import subsets
from jaspertc.evaluation.local_data import TRAIN, build_task
from jaspertc.evaluation.local_tasks import LocalTask, choose, read_local_tasks

PAIR = {"sentence1": "a", "sentence2": "b"}


@pytest.fixture
def folder(local_folder, tmp_path):
    return shutil.copytree(local_folder, tmp_path / "tasks")


def build(folder, name, **settings):
    place, tasks = read_local_tasks(folder)
    (task,) = choose(tasks, [name])
    return build_task(LocalTask(**{**vars(task), **settings}), place)


def test_names_of_folders_say_what_is_a_task(folder):
    _, tasks = read_local_tasks(folder)
    assert [(task.name, task.kind) for task in tasks] == [
        (kind, kind) for kind in ("sts", "pair", "classification", "clustering", "bitext", "retrieval")
    ]
    (folder / "retrieval/retrieval").rename(folder / "retrieval/long_meetings")
    assert read_local_tasks(folder)[1][-1].kind == "long-retrieval"
    assert build(folder, "long_meetings").group == "LongRetrieval"


def test_splits(folder):
    assert subsets.items(build(folder, "sts")) == 30
    assert subsets.items(build(folder, "sts", split="all")) == 60
    with pytest.raises(DataFileError, match=r"sts.jsonl: no row has the split 'valid', there are dev, test"):
        build(folder, "sts", split="valid")


def test_what_classifiers_learn_from_is_not_scored(folder, write_rows):
    rows = [{"text": f"text {n}", "label": n % 2, "split": TRAIN if n < 8 else "eval"} for n in range(12)]
    path = folder / "classification/classification.jsonl"
    write_rows(path, rows)
    assert list(build(folder, "classification").dataset["test"]["text"]) == [
        f"text {n}" for n in range(8, 12)
    ]
    write_rows(path, rows[:8])
    with pytest.raises(DataFileError, match="all rows have the split 'train'; add some with 'test'"):
        build(folder, "classification")


def test_labels_instead_of_scores_and_gzip(folder, write_rows):
    (folder / "sts/sts.jsonl").unlink()
    rows = [{**PAIR, "label": n % 2, "split": "dev"} for n in range(6)]
    (folder / "sts/x.jsonl.gz").write_bytes(gzip.compress("\n".join(map(json.dumps, rows)).encode()))
    task = build(folder, "x")
    assert task.dataset["test"]["score"] == [0, 1, 0, 1, 0, 1]
    assert (task.min_score, task.max_score) == (0, 1)


def test_languages(folder, write_rows):
    assert build(folder, "bitext").metadata.languages == ["eng", "zho"]
    write_rows(
        folder / "sts/zh.jsonl", [{"sentence1": "你好", "sentence2": "早上好", "score": n} for n in (1, 2)]
    )
    assert build(folder, "zh").metadata.eval_langs == ["zho-Hans"]


def test_folders_beside_the_files_of_a_task_are_let_be(folder):
    before = build(folder, "retrieval").metadata.revision
    (folder / "retrieval/retrieval/.ipynb_checkpoints").mkdir()
    assert build(folder, "retrieval").metadata.revision == before


def test_revision_follows_the_data(folder, write_rows):
    before = build(folder, "bitext").metadata.revision
    assert build(folder, "bitext").metadata.revision == before
    write_rows(folder / "bitext/bitext.jsonl", [{"en": "a", "zh": "一"}, {"en": "b", "zh": "二"}])
    assert build(folder, "bitext").metadata.revision != before


def test_revision_follows_the_prompt_and_the_mteb_task(folder):
    settings = [{}, {"prompt": "Find"}, {"prompt": "Find more"}, {"mteb": "STSBenchmark"}, {"mteb": "SICK-R"}]
    revisions = [build(folder, "sts", **keys).metadata.revision for keys in settings]
    assert len(set(revisions)) == len(settings)
    digest = hashlib.sha256(b"sts Nonests.jsonl" + (folder / "sts/sts.jsonl").read_bytes())
    assert revisions[0] == digest.hexdigest()[:16]  # as before prompts counted


def test_data_of_an_mteb_task(folder):
    task = build(folder, "sts", mteb="STSBenchmark")
    assert task.metadata.name == "STSBenchmark"
    assert task.metadata.main_score == "cosine_spearman"
    assert task.metadata.dataset["path"] == "local/sts"
    with pytest.raises(InputError, match=r"unknown MTEB task 'STSBenchmrk'; did you mean STSBenchmark"):
        build(folder, "sts", mteb="STSBenchmrk")
    with pytest.raises(DataFileError, match=r"mteb is 'Banking77Classification'.*AbsTaskSTS"):
        build(folder, "sts", mteb="Banking77Classification")


@pytest.mark.parametrize(
    ("file", "line", "name", "words"),
    [
        ("sts/sts.jsonl", {"sentence1": "a"}, "sts", "line 61: no key 'sentence2', it has sentence1"),
        ("sts/sts.jsonl", {**PAIR, "score": "5"}, "sts", "line 61: key 'score' is '5', it must be a number"),
        (
            "pair/pair.jsonl",
            {**PAIR, "label": 2, "split": "test"},
            "pair",
            r"labels are \[0, 1, 2\].*0 and 1",
        ),
        (
            "classification/classification.jsonl",
            {"text": "x", "label": 1},
            "classification",
            "no key 'split'",
        ),
        (
            "classification/classification.jsonl",
            {"text": "x", "label": "new", "split": "test"},
            "classification",
            "the label 'new' is scored but not in 'train' rows",
        ),
        ("clustering/clustering.jsonl", {"text": 3, "label": 1}, "clustering", "line 61: key 'text' is 3"),
        ("bitext/bitext.jsonl", {"en": "x"}, "bitext", "line 26: no key 'zh', it has en"),
        (
            "retrieval/retrieval/qrels.jsonl",
            {"qid": "q1", "did": "nowhere", "score": 1},
            "retrieval",
            "line 25: key 'did' is 'nowhere', but no row of corpus has this id",
        ),
        ("sts/sts.jsonl", {**PAIR, "score": 10**400}, "sts", "line 61: key 'score' is 10{40}.*finite number"),
        (
            "retrieval/retrieval/qrels.jsonl",
            {"qid": "q1", "did": "d1", "score": 0.9},
            "retrieval",
            r"line 25: key 'score' is 0\.9, it must be an integer",
        ),
        (
            "retrieval/retrieval/qrels.jsonl",
            {"qid": "q1", "did": "d2", "score": 1e30},
            "retrieval",
            r"line 25: key 'score' is 1e\+30, it must be an integer from -10000 to 10000",
        ),
        (
            "retrieval/retrieval/corpus.jsonl",
            {"id": "d4", "text": "x"},
            "retrieval",
            "line 31: the id 'd4' comes twice; give each row its own",
        ),
        (
            "retrieval/retrieval/queries.jsonl",
            {"id": "q4", "text": "x"},
            "retrieval",
            "line 25: the id 'q4' comes twice; give each row its own",
        ),
        (
            "retrieval/retrieval/qrels.jsonl",
            {"qid": "q4", "did": "d4", "score": 0},
            "retrieval",
            "line 25: the score of document 'd4' for query 'q4' is 0, in an earlier line 1; remove one",
        ),
        ("bitext/bitext.jsonl", ["a"], "bitext", "line 26: a list, it must be a JSON object"),
    ],
)
def test_wrong_rows(folder, file, line, name, words):
    with (folder / file).open("a") as out:
        out.write(json.dumps(line) + "\n")
    with pytest.raises(DataFileError, match=words) as found:
        build(folder, name)
    assert file.split("/")[-1] in str(found.value)


def test_ids_of_retrieval_are_texts(folder):
    place = folder / "retrieval/retrieval"
    before = build(folder, "retrieval").dataset["default"]["test"]["relevant_docs"]
    with (place / "qrels.jsonl").open("a") as file:
        file.write(json.dumps({"qid": "q4", "did": "d4", "score": 1}) + "\n")  # the same once more
    assert build(folder, "retrieval").dataset["default"]["test"]["relevant_docs"] == before
    with (place / "corpus.jsonl").open("a") as file:
        file.writelines(json.dumps({"id": name, "text": "x"}) + "\n" for name in (7, "7"))
    with pytest.raises(DataFileError, match=r"corpus\.jsonl, line 32: the id '7' comes twice"):
        build(folder, "retrieval")


def test_wrong_files(folder, tmp_path, write_rows):
    (folder / "sts/sts.jsonl").write_text('{"sentence1": ')
    with pytest.raises(DataFileError, match=r"sts.jsonl, line 1: not JSON"):
        build(folder, "sts")
    write_rows(folder / "sts/none.jsonl", [{**PAIR, "stars": 1}])
    with pytest.raises(
        DataFileError, match=r"line 1: must have one of the keys score, label, it has .*stars"
    ):
        build(folder, "none")
    (folder / "sts/empty.jsonl").write_text("")
    with pytest.raises(DataFileError, match="has no rows"):
        build(folder, "empty")
    (folder / "bitext/cut.jsonl.gz").write_bytes(gzip.compress(b"{}" * 99)[:20])
    with pytest.raises(DataFileError, match=r"cut.jsonl.gz cannot be read"):
        build(folder, "cut")
    (folder / "retrieval/retrieval/queries.jsonl").unlink()
    with pytest.raises(DataFileError, match=r"has no queries.jsonl"):
        build(folder, "retrieval")
    (tmp_path / "nothing").mkdir()
    with pytest.raises(DataFileError, match=r"holds no tasks; it needs a tasks.toml, or folders named sts"):
        read_local_tasks(tmp_path / "nothing")
    with pytest.raises(DataFileError, match="does not exist"):
        read_local_tasks(tmp_path / "nowhere")


def test_a_table_of_tasks(folder, tmp_path):
    table = tmp_path / "own.toml"
    one = '[[tasks]]\nname = "mine"\nkind = "sts"\npath = "sts/sts.jsonl"\nsplit = "dev"\n'
    table.write_text(f'folder = "{folder.name}"\n{one}')
    place, tasks = read_local_tasks(table)
    assert [task.name for task in tasks] == ["mine"]
    assert subsets.items(build_task(tasks[0], place)) == 30
    table.write_text(one.replace("split", "splt"))
    with pytest.raises(ConfigError, match="splt"):
        read_local_tasks(table)
    table.write_text(one.replace('"sts"', '"stss"'))
    with pytest.raises(ConfigError, match=r"kind is 'stss'.*did you mean 'sts'"):
        read_local_tasks(table)
    table.write_text(one + one)
    with pytest.raises(ConfigError, match="'mine' is used twice"):
        read_local_tasks(table)


def test_unknown_local_task(folder):
    _, tasks = read_local_tasks(folder)
    with pytest.raises(InputError, match=r"unknown task 'clusterin'; did you mean clustering"):
        choose(tasks, ["clusterin"])


def test_limits_are_drawn_with_a_seed(folder):
    for name in ("sts", "pair", "classification", "clustering", "bitext", "retrieval"):
        task = build(folder, name)
        first, second = subsets.limited(task, 20), subsets.limited(task, 20)
        assert subsets.items(first) == 20
        assert subsets.items(task) > 20
        part = [cut.dataset.get("default", cut.dataset)["test"] for cut in (first, second)]
        if name == "retrieval":
            assert part[0]["queries"]["id"] == part[1]["queries"]["id"]
            assert set(part[0]["relevant_docs"]) == set(part[0]["queries"]["id"])
        else:
            assert part[0].to_dict() == part[1].to_dict()


def test_strata(folder, write_rows):
    lengths = dict.fromkeys(["short"], 10) | dict.fromkeys(["long"], 300)
    rows = [
        {"sentence1": "short", "sentence2": "long" if n % 3 else "short", "score": n % 5} for n in range(75)
    ]
    write_rows(folder / "sts/two.jsonl", rows)
    parts = subsets.strata(build(folder, "two"), lambda texts: [lengths[text] for text in texts])
    assert {name: count for name, (count, _) in parts.items()} == {"up to 80": 25, "257 to 512": 50}
    assert set(parts["257 to 512"][1].dataset["test"]["sentence2"]) == {"long"}
    few = subsets.strata(build(folder, "sts"), lambda texts: [600 if "snow" in text else 1 for text in texts])
    assert sum(count for count, _ in few.values()) == 30
    same = subsets.strata(task := build(folder, "retrieval"), lambda texts: [81] * len(texts))
    assert same == {"81 to 256": (24, task)}
