"""A folder of results becomes one page that needs nothing else, and Markdown that says the same."""

import json
import re

import pytest

pytest.importorskip("matplotlib")

from jaspertc.errors import DataFileError
from jaspertc.evaluation.report import write_report
from jaspertc.evaluation.store import Store, read_folder, write_json
from jaspertc.evaluation.summary import Summary, distinct

TASKS = {"STSBenchmark": "STS", "questions": "Retrieval", "pairs": "BitextMining"}


def put(folder, name, task, score, ratio=None, **facts):
    """One result, as an evaluation writes it."""
    label = name if ratio is None else f"{name} @ {ratio:g}"
    runtime = facts.get("runtime", "").replace(" ", "_")
    place = f"local__{name}/abc/experiments/ratio_{ratio}{runtime}/{task}.json"
    entry = {"main_score": score, "hf_subset": "default", "languages": ["eng-Latn"]}
    write_json(folder / "results" / place, {"task_name": task, "scores": {"test": [entry]}})
    strata = {"up to 80": {"items": 20, "score": score}, "over 512": {"items": 25, "score": score - 0.1}}
    cosines = [[0.9, 0.1 * score], [0.2, 0.8]]
    known = {
        "name": name,
        "label": label,
        "revision": "abc",
        "ratio": ratio,
        "threshold": None if ratio is None else 80,
        "dims": 8,
        "megabytes": 1.5,
        "group": TASKS.get(task, "STS"),
        "main_score": "main",
        "items": 45,
        "limit": None,
        "strata": strata if task != "pairs" else {},
        "similarity": {"texts": [["a", "<b>"], ["一", "二"]], "cosines": cosines}
        if task == "pairs"
        else None,
    }
    write_json(folder / "measures" / place, known | facts)
    return label


@pytest.fixture
def results(tmp_path):
    folder, latency = tmp_path / "results", {}
    for step, ratio in enumerate((1.0, 0.5, 0.1)):
        for task in TASKS:
            label = put(folder, "ours", task, 0.8 - 0.05 * step, ratio)
        latency[label] = step
    for task in TASKS:
        latency[put(folder, "peer", task, 0.7)] = 4
    times = {
        label: {
            "strata": {
                name: {"median": 9.0 - step, "low": 8.0 - step, "high": 10.0 - step}
                for name in ("up to 80", "over 512")
            },
            "ms_per_text": 9.0 - step,
            "texts_per_second": 100.0 + step,
        }
        for label, step in latency.items()
    }
    counts = {"up to 80": 4, "over 512": 2}
    write_json(
        folder / "latency.json", {"machine": "a machine", "rounds": 3, "texts": counts, "contenders": times}
    )
    run = {"command": "jaspertc evaluate ours --local", "model": "ours", "machine": "a machine"}
    write_json(folder / "run.json", run | {"versions": {"mteb": "2"}})
    write_json(
        folder / "tables" / "stages.json",
        {"title": "Stages", "columns": ["stage", "mean"], "rows": [["3", 65.53]]},
    )
    return folder


def test_the_page_needs_nothing_else(results, tmp_path):
    html, markdown = write_report(results, tmp_path / "out" / "page")
    page = html.read_text(encoding="utf-8")
    assert not re.findall(r"""(?:src|href)\s*=\s*["'](?!#|data:)""", page)
    assert not re.findall(r"url\((?!#)|@import|<script|<link", page)
    assert not re.findall(r"https?://(?!www\.w3\.org/)", page)
    assert "prefers-color-scheme: dark" in page
    assert 'name="viewport"' in page
    ids = re.findall(r' id="([^"]*)"', page)
    assert len(ids) == len(set(ids))
    assert page.count("<svg") == 1 + len(TASKS) + 2 + 2 + 1  # all, kinds, lengths, two ratios' maps, a peer's
    assert "#345678" not in page
    assert "currentColor" in page
    assert "&lt;b&gt;" in page
    for words in ("jaspertc evaluate ours --local", "a machine", "Stages", "65.53"):
        assert words in page
        assert words in markdown.read_text(encoding="utf-8")


def test_the_sentences_can_be_left_out(results, tmp_path):
    for texts in (True, False):
        for path in write_report(results, tmp_path / "page", texts=texts):
            content = path.read_text(encoding="utf-8")
            assert ("The sentences" in content) == texts
            assert "Similarity across languages" in content


def test_markdown_shows_the_same_numbers_and_pictures(results, tmp_path):
    html, markdown = write_report(results, tmp_path / "page.html", title="A title")
    assert html == tmp_path / "page.html"
    text, page = markdown.read_text(encoding="utf-8"), html.read_text(encoding="utf-8")
    pictures = re.findall(r"!\[.*?\]\((.*?)\)", text)
    assert len(pictures) == page.count("<svg")
    assert all((tmp_path / picture).read_bytes().startswith(b"\x89PNG") for picture in pictures)
    cells = set(re.findall(r"<td[^>]*>(\d+\.\d\d)</td>", page))
    assert {"80.00", "75.00", "70.00", "65.53"} <= cells <= set(re.findall(r"\d+\.\d\d", text))
    assert text.startswith("# A title\n")
    assert "| STSBenchmark | 80.00 |" in text  # beside published scores
    again = write_report(results, tmp_path / "page")[0].read_text(encoding="utf-8")
    assert again.replace("Evaluation of ours", "A title") == page


def test_means_are_over_common_tasks(results):
    put(results, "late", "questions", 0.1)
    summary = Summary(distinct(read_folder(results).scores))
    assert summary.common == {"questions"}
    assert summary.labels == ["ours @ 1", "ours @ 0.5", "ours @ 0.1", "peer", "late"]
    assert summary.mean("late") == pytest.approx(10)
    assert summary.groups == ["Retrieval"]


def test_results_with_other_settings_are_told_apart(results):
    put(results, "peer", "pairs", 0.2)
    place = results / "measures/local__peer/abc/experiments/ratio_None/pairs.json"
    other = json.loads(place.read_text()) | {"limit": 50}
    for part in ("results", "measures"):
        source = results / part / "local__peer/abc/experiments/ratio_None/pairs.json"
        target = results / part / "local__peer/abc/experiments/limit_50/pairs.json"
        write_json(target, other if part == "measures" else json.loads(source.read_text()))
    labels = Summary(distinct(read_folder(results).scores)).labels
    assert {"peer (limit None)", "peer (limit 50)"} <= set(labels)


def test_times_are_those_of_the_runtime_that_was_timed(results, tmp_path):
    for ratio in (1.0, 0.5):
        for task in TASKS:
            put(results, "ours", task, 0.6, ratio, runtime="torch float32")
    old = [f"ours @ {ratio:g} (runtime not recorded)" for ratio in (1, 0.5, 0.1)]
    new = [f"ours @ {ratio:g} (runtime torch float32)" for ratio in (1, 0.5)]
    contents = read_folder(results)
    summary = Summary(distinct(contents.scores))
    assert set(summary.labels) == {*old, *new, "peer"}
    assert set(map(tuple, summary.swept().values())) == {tuple(old), tuple(new)}  # two curves, not one
    assert set(summary.times(contents.latency)) == {"peer"}
    settings = {"revision": "abc", "runtime": "torch float32", "threshold": 80}
    timed = {label: settings | times for label, times in contents.latency["contenders"].items()}
    assert set(summary.times({"contenders": timed})) == set(new)
    for key, value in (("revision", "other"), ("runtime", "torch bfloat16"), ("threshold", 40)):
        other = {label: times | {key: value} for label, times in timed.items()}
        assert not summary.times({"contenders": other})
    write_json(results / "latency.json", contents.latency | {"contenders": timed})
    page = write_report(results, tmp_path / "page")[0].read_text(encoding="utf-8")
    assert "Quality and time" in page


def test_without_times_or_a_sweep(results, tmp_path):
    (results / "latency.json").unlink()
    page = write_report(results, tmp_path / "page")[0].read_text(encoding="utf-8")
    assert "Length of texts" in page
    assert "Quality and time" not in page


def test_a_page_without_common_tasks(results, tmp_path):
    put(results, "late", "another", 0.1)
    page = write_report(results, tmp_path / "page")[0].read_text(encoding="utf-8")
    assert "All tasks" in page
    assert "Quality and time" not in page


def test_a_peer_far_away_is_named_outside_the_picture(results, tmp_path):
    put(results, "peer", "questions", 0.1)
    put(results, "peer", "pairs", 0.1)
    page = write_report(results, tmp_path / "page")[0].read_text(encoding="utf-8")
    assert "Outside the picture: peer, " in page
    assert page.count("Outside the picture") == 1


@pytest.mark.parametrize(
    ("pattern", "content", "words"),
    [
        ("measures/**/pairs.json", {}, "has no key 'name'; remove it and evaluate again"),
        ("measures/**/pairs.json", [], "is a list, it must be a JSON object; remove it"),
        ("results/**/pairs.json", [], "is a list, it must be a JSON object; remove it"),
        (
            "results/**/pairs.json",
            {"task_name": "pairs", "scores": {}},
            "'scores' has no main scores; remove it",
        ),
        (
            "results/**/pairs.json",
            {"task_name": "pairs", "scores": []},
            "'scores' has no main scores; remove it",
        ),
        ("run.json", [], "run.json is a list, it must be a JSON object; remove it"),
        ("latency.json", 3, "latency.json is a int, it must be a JSON object; remove it"),
    ],
)
def test_a_damaged_file_is_named(results, tmp_path, pattern, content, words):
    path = next(results.glob(pattern))
    write_json(path, content)
    with pytest.raises(DataFileError, match=words) as caught:
        write_report(results, tmp_path / "page")
    assert str(path) in str(caught.value)


def test_a_file_where_the_results_should_be(tmp_path):
    pytest.importorskip("mteb")
    (tmp_path / "file").write_text("")
    with pytest.raises(DataFileError, match=r"file could not be written .*a file is where a folder"):
        Store(tmp_path / "file")


def test_a_damaged_result_is_not_taken_for_a_missing_one(tmp_path):
    pytest.importorskip("mteb")
    from types import SimpleNamespace

    path = tmp_path / "results" / "a" / "b" / "task.json"
    for folder in ("results", "measures"):
        write_json(tmp_path / folder / "a" / "b" / "task.json", [])
    store = Store(tmp_path)
    store.cache = SimpleNamespace(get_task_result_path=lambda name, meta: path)
    task = SimpleNamespace(metadata=SimpleNamespace(name="task", revision="1"))
    with pytest.raises(DataFileError, match=r"task\.json is a list"):
        store.done(None, task)


def test_a_file_where_the_pages_folder_should_be(results, tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(DataFileError, match=r"file/page could not be written .*a file is where a folder"):
        write_report(results, tmp_path / "file" / "page")


def test_mistakes(results, tmp_path):
    with pytest.raises(DataFileError, match=r"nowhere has no results; give the --output folder"):
        write_report(tmp_path / "nowhere", tmp_path / "page")
    table = tmp_path / "table.json"
    for content, words in [
        ([], "is a list, it must be an object"),
        ({"title": "x", "columns": ["a"]}, "key 'rows' is None, it must be a list"),
        ({"title": "x", "columns": ["a"], "rows": [[1, 2]]}, "key 'rows', row 1 must list 1 values"),
    ]:
        write_json(table, content)
        with pytest.raises(DataFileError, match=words):
            write_report(results, tmp_path / "page", more=[table])
    table.write_text("{")
    with pytest.raises(DataFileError, match=r"table.json cannot be read"):
        write_report(results, tmp_path / "page", more=[table])
