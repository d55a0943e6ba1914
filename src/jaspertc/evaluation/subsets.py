"""Parts of a task: some of its items, or those whose texts have a certain length.

A part is again a task of mteb with less data, so its score is mteb's too.
"""

import copy
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from jaspertc.errors import InputError
from jaspertc.evaluation.library import mteb

SEED = 42
STRATA = {"up to 80": (0, 80), "81 to 256": (81, 256), "257 to 512": (257, 512), "over 512": (513, None)}
LEAST_ITEMS = 20  # fewer give no score worth showing
DOCUMENTS_PER_QUERY = 10  # kept by a limit, at least those that answer


def stratum_of(length: int) -> str:
    """The name of the stratum of a text with so many tokens."""
    return next(name for name, (_, most) in STRATA.items() if most is None or length <= most)


def clone(task: Any, parts: Mapping[tuple[str | None, str], Any] | None = None) -> Any:
    """The task as it was before it ran, with the same data, or with some of its parts replaced.

    mteb's tasks carry random state that a run moves on; each run of ours starts with the same.

    Args:
        parts: (subset, split) -> data; the subset is ``None`` where the task has none.
    """
    copied = copy.copy(task)
    copied.rng_state, copied.np_rng = copy.deepcopy((task.rng_state, task.np_rng))
    if parts:
        copied.dataset = copy.copy(task.dataset)
        for (subset, split), data in parts.items():
            if subset is None:
                copied.dataset[split] = data
            else:
                copied.dataset[subset] = {**copied.dataset[subset], split: data}
    return copied


def limited(task: Any, limit: int) -> Any:
    """The task with at most ``limit`` items of each scored split, drawn with a fixed seed.

    Items are pairs, texts or queries; the texts classifiers learn from are all kept. Of a corpus, what
    answers the queries is kept, and others up to 10 documents for each query of the limit.

    Raises:
        InputError: the kind of task cannot be cut.
    """
    kinds = _kinds()
    kind = next((name for name, base in kinds.items() if isinstance(task, base)), None)
    if kind is None:
        raise InputError(
            f"--limit cannot cut the task {task.metadata.name!r}; leave the task or the limit out"
        )
    parts = {}
    for subset, split, data in _scored(task):
        cut = _limited_retrieval if kind == "retrieval" else _limited_rows
        parts[subset, split] = cut(data, limit, random.Random(SEED))
    return clone(task, parts)


def strata(task: Any, tokens: Callable[[Sequence[str]], Sequence[int]]) -> dict[str, tuple[int, Any]]:
    """Length stratum -> number of items, and the task with these items only.

    The length of an item is that of its longest text; of a query, of the longest document that answers it.
    Strata with too few items, or with one label only, have ``None`` for a task. When all items are in one
    stratum, it has the task itself.

    Args:
        tokens: the lengths of texts in tokens.
    """
    kinds = _kinds()
    kind = next((name for name, base in kinds.items() if isinstance(task, base)), None)
    scored = list(_scored(task))
    if kind is None or len(scored) != 1:
        return {}
    subset, split, data = scored[0]
    lengths = _item_lengths(task, kind, data, tokens)
    rows_of: dict[str, list[int]] = {name: [] for name in STRATA}
    for row, length in enumerate(lengths):
        rows_of[stratum_of(length)].append(row)
    strata_of: dict[str, tuple[int, Any]] = {}
    for name, chosen in rows_of.items():
        if not chosen:
            continue
        if len(chosen) == len(lengths):
            strata_of[name] = (len(chosen), task)
        elif len(chosen) < LEAST_ITEMS or not _scorable(task, kind, data, chosen):
            strata_of[name] = (len(chosen), None)
        else:
            part = _with_queries(data, chosen) if kind == "retrieval" else data.select(chosen)
            strata_of[name] = (len(chosen), clone(task, {(subset, split): part}))
    return strata_of


def items(task: Any) -> int:
    """Number of scored items; of queries, in retrieval."""
    return sum(len(data["queries"] if isinstance(data, dict) else data) for _, _, data in _scored(task))


def _kinds() -> dict[str, type]:
    tasks = mteb().abstasks
    return {
        "pair": tasks.AbsTaskPairClassification,
        "sts": tasks.AbsTaskSTS,
        "classification": tasks.AbsTaskClassification,
        "clustering": tasks.AbsTaskClustering,
        "bitext": tasks.AbsTaskBitextMining,
        "retrieval": tasks.AbsTaskRetrieval,
    }


def _scored(task: Any) -> Iterator[tuple[str | None, str, Any]]:
    for split in task.eval_splits:
        if split in task.dataset:
            yield None, split, task.dataset[split]
            continue
        for subset in task.hf_subsets:
            if split in task.dataset.get(subset, {}):
                yield subset, split, task.dataset[subset][split]


def _limited_rows(data: Any, limit: int, rng: random.Random) -> Any:
    if len(data) == 1:  # older pair classification keeps all pairs in one row
        data = type(data).from_dict(data[0])
    return data.select(sorted(rng.sample(range(len(data)), min(limit, len(data)))))


def _limited_retrieval(data: Any, limit: int, rng: random.Random) -> Any:
    asked = [row for row, name in enumerate(data["queries"]["id"]) if data["relevant_docs"].get(name)]
    part = _with_queries(data, sorted(rng.sample(asked, min(limit, len(asked)))))
    needed = {document for answers in part["relevant_docs"].values() for document in answers}
    for ranked in (part["top_ranked"] or {}).values():
        needed.update(ranked)
    ids = data["corpus"]["id"]
    others = [row for row, name in enumerate(ids) if name not in needed]
    room = max(0, DOCUMENTS_PER_QUERY * limit - len(needed))
    others_kept = set(rng.sample(others, min(room, len(others))))
    chosen = [row for row, name in enumerate(ids) if name in needed or row in others_kept]
    return {**part, "corpus": data["corpus"].select(chosen)}


def _with_queries(data: Any, rows: list[int]) -> Any:
    queries = data["queries"].select(rows)
    names = set(queries["id"])
    ranked = data["top_ranked"]
    return {
        **data,
        "queries": queries,
        "relevant_docs": {name: item for name, item in data["relevant_docs"].items() if name in names},
        "top_ranked": ranked and {name: item for name, item in ranked.items() if name in names},
    }


def _columns(task: Any, kind: str) -> tuple[str, ...]:
    if kind == "pair":
        return task.input1_column_name, task.input2_column_name
    if kind in ("classification", "clustering"):
        return (task.input_column_name,)
    return "sentence1", "sentence2"


def _item_lengths(
    task: Any, kind: str, data: Any, tokens: Callable[[Sequence[str]], Sequence[int]]
) -> list[int]:
    if kind == "retrieval":
        documents = dict(zip(data["corpus"]["id"], tokens(list(data["corpus"]["text"]))))
        relevant = data["relevant_docs"]
        return [
            max((documents[name] for name in relevant.get(query, {}) if name in documents), default=0)
            for query in data["queries"]["id"]
        ]
    columns = [tokens(list(data[name])) for name in _columns(task, kind)]
    return [max(lengths) for lengths in zip(*columns)]


def _scorable(task: Any, kind: str, data: Any, rows: list[int]) -> bool:
    name = {"sts": "score", "pair": "label_column_name", "clustering": "label_column_name"}.get(kind)
    if name is None:
        return True
    column = data[getattr(task, name, name)]
    return len({str(column[row]) for row in rows}) > 1
