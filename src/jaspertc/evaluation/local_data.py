"""Local files as mteb's own task objects: the data are injected, the metrics are mteb's."""

import hashlib
import json
import random
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jaspertc.errors import DataFileError
from jaspertc.evaluation.library import mteb
from jaspertc.evaluation.local_tasks import LocalTask, unknown
from jaspertc.evaluation.subsets import SEED
from jaspertc.files.json_lines import ID, LABEL, NUMBER, SUFFIXES, TEXT, Row, named_rows, new_id, read_rows

SPLIT = "test"  # what mteb calls the scored rows, whatever the file calls them
TRAIN = "train"
SCORED = ("test", "dev", "valid", "validation")
DOCUMENTS = 2048  # texts clustered, as many as in MTEB(eng, v2)
HIGHEST_GRADE = 10_000  # what measures nDCG needs memory for each grade up to the highest
WEB_SEARCH = "Given a web search query, retrieve relevant passages that answer the query"


@dataclass(frozen=True)
class _Kind:
    """What mteb calls a kind of task, and how its rows become data."""

    group: str
    base: str
    type: str
    main_score: str
    load: Callable[["Injected"], tuple[Any, dict[str, Any], list[str]]]


@dataclass
class Injected:
    """A task's files, read and checked.

    Attributes:
        task: the table of ``tasks.toml``.
        path: its file or folder.
        names: which columns the class of mteb wants, by our names.
    """

    task: LocalTask
    path: Path
    names: dict[str, str]

    def rows(self, *args: Any, **kwargs: Any) -> list[Row]:
        return read_rows(self.path, *args, **kwargs)

    def scored(self, rows: list[Row]) -> list[Row]:
        """The rows of the split that is scored.

        Raises:
            DataFileError: no row has the split that the task names, or all are for training.
        """
        splits = {row.get("split") for row in rows}
        split = self.task.split or next((name for name in SCORED if name in splits), "all")
        if self.task.kind == "classification" and not self.task.split and split == "all":
            rest = [row for row in rows if row["split"] != TRAIN]  # classifiers learn from the others
            if not rest:
                raise DataFileError(
                    f"{self.path}: all rows have the split {TRAIN!r}; add some with {SPLIT!r}"
                )
            return rest
        if split == "all":
            return rows
        scored = [row for row in rows if row.get("split") == split]
        if not scored:
            have = ", ".join(sorted(str(item) for item in splits))
            raise DataFileError(f"{self.path}: no row has the split {split!r}, there are {have}")
        return scored


def build_task(task: LocalTask, folder: Path) -> Any:
    """An mteb task, with ``group`` (its kind, for tables); its data are read and checked now.

    Raises:
        DataFileError: a file is missing or has another schema; file, line and key are named.
        InputError: ``mteb`` names no MTEB task.
    """
    library = mteb()
    kind = KINDS[task.kind]
    base = getattr(library.abstasks, kind.base)
    if task.mteb is not None:
        base = _published_class(task.mteb, base)
    injected = Injected(task, folder / task.path, _column_names(base))
    dataset, attributes, texts = kind.load(injected)
    metadata = _metadata(task, kind, base, _content_hash(injected), _languages(texts))

    def load_data(self: Any, *args: Any, **kwargs: Any) -> None:
        self.dataset = dataset
        self.data_loaded = True

    body = {"metadata": metadata, "load_data": load_data, "group": kind.group, **attributes}
    task_class = type("Local" + "".join(part.title() for part in task.name.split("_")), (base,), body)()
    task_class.load_data()
    return task_class


def _published_class(name: str, base: type) -> type:
    library = mteb()
    try:
        published: type = type(library.get_task(name))
    except KeyError:
        raise unknown(name, [task.metadata.name for task in library.get_tasks()], "MTEB task") from None
    if not issubclass(published, base):
        raise DataFileError(f"mteb is {name!r}, a {published.__name__}, but the kind says {base.__name__}")
    return published


def _column_names(base: Any) -> dict[str, str]:
    names = {
        "first": getattr(base, "input1_column_name", "sentence1"),
        "second": getattr(base, "input2_column_name", "sentence2"),
        "text": getattr(base, "input_column_name", "text"),
        "label": getattr(base, "label_column_name", "label"),
    }
    return {key: value if isinstance(value, str) else key for key, value in names.items()}


def _metadata(task: LocalTask, kind: _Kind, base: Any, revision: str, languages: list[str]) -> Any:
    from mteb.abstasks.task_metadata import TaskMetadata

    source = {"path": f"local/{task.name}", "revision": revision}
    if task.mteb is not None:
        changed = {"dataset": source, "eval_splits": [SPLIT], "eval_langs": languages}
        return base.metadata.model_copy(update=changed)
    prompt: Any = task.prompt or base.abstask_prompt
    if kind.type == "Retrieval":
        prompt = {"query": task.prompt or WEB_SEARCH}
    return TaskMetadata(
        dataset=source,
        name=task.name,
        description=f"{kind.group} on local data.",
        type=kind.type,
        category="t2t" if kind.type != "Classification" else "t2c",
        eval_splits=[SPLIT],
        eval_langs=languages,
        main_score=kind.main_score,
        prompt=prompt,
    )


def _languages(texts: list[str]) -> list[str]:
    """English and Chinese, by the share of texts with Chinese characters."""
    sample = texts[:: max(1, len(texts) // 500)]
    share = sum(any("\u4e00" <= letter <= "\u9fff" for letter in text) for text in sample) / len(sample)
    return ["zho-Hans"] if share > 0.9 else ["eng-Latn"] if share < 0.1 else ["eng-Latn", "zho-Hans"]


def _content_hash(injected: Injected) -> str:
    """Changes when the data, what is taken of them, or the task's prompt and settings do."""
    task, path = injected.task, injected.path
    digest = hashlib.sha256(f"{task.kind} {task.split}".encode())
    if task.prompt or task.mteb:  # without them as ever: results that are there count
        digest.update(json.dumps([task.prompt, task.mteb]).encode())
    for file in [path] if path.is_file() else sorted(filter(Path.is_file, path.iterdir())):
        digest.update(file.name.encode() + file.read_bytes())
    return digest.hexdigest()[:16]


def _sts(data: Injected) -> tuple[Any, dict[str, Any], list[str]]:
    pair = {"sentence1": TEXT, "sentence2": TEXT}
    rows = data.scored(data.rows(pair, one_of={"score": NUMBER, "label": NUMBER}))
    key = "score" if "score" in rows[0] else "label"
    scores = [float(row[key]) for row in rows]
    columns = {name: [row[name] for row in rows] for name in pair} | {"score": scores}
    limits = {"min_score": min(scores), "max_score": max(scores)}
    if limits["min_score"] == limits["max_score"]:
        raise DataFileError(f"{data.path}: all scores are {scores[0]}, a correlation needs different ones")
    return _splits(columns), limits, columns["sentence1"] + columns["sentence2"]


def _pair(data: Injected) -> tuple[Any, dict[str, Any], list[str]]:
    rows = data.scored(data.rows({"sentence1": TEXT, "sentence2": TEXT, "label": NUMBER}))
    labels = [row["label"] for row in rows]
    if set(labels) != {0, 1}:
        raise DataFileError(f"{data.path}: labels are {sorted(set(labels))[:5]}, they must be 0 and 1")
    first, second = ([row[key] for row in rows] for key in ("sentence1", "sentence2"))
    names = data.names
    columns = {names["first"]: first, names["second"]: second, names["label"]: labels}
    return _splits(columns), {}, first + second


def _classification(data: Injected) -> tuple[Any, dict[str, Any], list[str]]:
    rows = data.rows({"text": TEXT, "label": LABEL, "split": TEXT})
    train = [row for row in rows if row["split"] == TRAIN]
    scored = data.scored(rows)
    if not train:
        raise DataFileError(f"{data.path}: no row has the split {TRAIN!r}, which classifiers learn from")
    known = sorted({str(row["label"]) for row in train})
    if len(known) < 2:
        raise DataFileError(
            f"{data.path}: all {TRAIN!r} rows have the label {known[0]!r}; a classifier needs two or more"
        )
    numbers = {label: number for number, label in enumerate(known)}
    for row in scored:
        if str(row["label"]) not in numbers:
            raise DataFileError(
                f"{data.path}: the label {row['label']!r} is scored but not in {TRAIN!r} rows"
            )

    def columns(part: list[Row]) -> dict[str, list[Any]]:
        labels = [numbers[str(row["label"])] for row in part]
        return {data.names["text"]: [row["text"] for row in part], data.names["label"]: labels}

    texts = [row["text"] for row in rows]
    return _splits(columns(scored), columns(train)), {"train_split": TRAIN}, texts


def _clustering(data: Injected) -> tuple[Any, dict[str, Any], list[str]]:
    rows = data.scored(data.rows({"text": TEXT, "label": LABEL}))
    if len(rows) > DOCUMENTS:
        chosen = random.Random(SEED).sample(range(len(rows)), DOCUMENTS)
        rows = [rows[place] for place in sorted(chosen)]
    numbers = {label: number for number, label in enumerate(sorted({str(row["label"]) for row in rows}))}
    if len(numbers) < 2:
        raise DataFileError(f"{data.path}: all labels are {next(iter(numbers))!r}; clusters need two or more")
    texts = [row["text"] for row in rows]
    labels = [numbers[str(row["label"])] for row in rows]
    columns = {data.names["text"]: texts, data.names["label"]: labels}
    attributes = {"max_document_to_embed": None, "max_fraction_of_documents_to_embed": None}
    return _splits(columns), attributes, texts


def _bitext(data: Injected) -> tuple[Any, dict[str, Any], list[str]]:
    rows = data.scored(data.rows({"en": TEXT, "zh": TEXT}))
    columns = {"sentence1": [row["en"] for row in rows], "sentence2": [row["zh"] for row in rows]}
    return _splits(columns), {}, columns["sentence1"] + columns["sentence2"]


def _retrieval(data: Injected) -> tuple[Any, dict[str, Any], list[str]]:
    from datasets import Dataset

    parts = {name: _part(data.path, name) for name in ("corpus", "queries", "qrels")}
    corpus, queries = _by_id(parts["corpus"]), _by_id(parts["queries"])
    relevant: dict[str, dict[str, int]] = {}
    for where, row in named_rows(parts["qrels"], {"qid": ID, "did": ID, "score": NUMBER}):
        for key, name, ids in (("qid", "queries", queries), ("did", "corpus", corpus)):
            if str(row[key]) not in ids:
                raise DataFileError(f"{where}: key {key!r} is {row[key]!r}, but no row of {name} has this id")
        if row["score"] % 1 or abs(row["score"]) > HIGHEST_GRADE:
            raise DataFileError(
                f"{where}: key 'score' is {row['score']!r:.60}, it must be an integer from "
                f"-{HIGHEST_GRADE} to {HIGHEST_GRADE}: 0 for what is not relevant, "
                "1 or a higher grade for what is"
            )
        query, document, grade = str(row["qid"]), str(row["did"]), int(row["score"])
        before = relevant.setdefault(query, {}).setdefault(document, grade)
        if before != grade:
            raise DataFileError(
                f"{where}: the score of document {document!r} for query {query!r} is {grade}, "
                f"in an earlier line {before}; remove one of them"
            )
    texts = {
        name: Dataset.from_dict({"id": list(rows), "text": list(rows.values())})
        for name, rows in (("corpus", corpus), ("queries", queries))
    }
    split = {**texts, "relevant_docs": relevant, "top_ranked": None}
    return {"default": {SPLIT: split}}, {}, [*queries.values(), *corpus.values()]


def _by_id(path: Path) -> dict[str, str]:
    """Id -> text."""
    texts: dict[str, str] = {}
    for where, row in named_rows(path, {"id": ID, "text": TEXT}):
        texts[new_id(where, row["id"], texts)] = row["text"]
    return texts


def _part(folder: Path, name: str) -> Path:
    for suffix in SUFFIXES:
        if (folder / f"{name}{suffix}").is_file():
            return folder / f"{name}{suffix}"
    raise DataFileError(
        f"{folder} has no {name}.jsonl or {name}.jsonl.gz; retrieval needs corpus, queries, qrels"
    )


def _splits(scored: dict[str, list[Any]], train: dict[str, list[Any]] | None = None) -> Any:
    from datasets import Dataset, DatasetDict

    parts = {SPLIT: Dataset.from_dict(scored)}
    if train is not None:
        parts[TRAIN] = Dataset.from_dict(train)
    return DatasetDict(parts)


KINDS = {
    "sts": _Kind("STS", "AbsTaskSTS", "STS", "cosine_spearman", _sts),
    "pair": _Kind("PairClassification", "AbsTaskPairClassification", "PairClassification", "max_ap", _pair),
    "classification": _Kind(
        "Classification", "AbsTaskClassification", "Classification", "accuracy", _classification
    ),
    "clustering": _Kind("Clustering", "AbsTaskClustering", "Clustering", "v_measure", _clustering),
    "bitext": _Kind("BitextMining", "AbsTaskBitextMining", "BitextMining", "f1", _bitext),
    "retrieval": _Kind("Retrieval", "AbsTaskRetrieval", "Retrieval", "ndcg_at_10", _retrieval),
    "long-retrieval": _Kind("LongRetrieval", "AbsTaskRetrieval", "Retrieval", "ndcg_at_10", _retrieval),
}
