"""Reading the sets that teachers are scored on: sentence pairs with scores, and queries with answers."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from jaspertc.errors import ConfigError, DataFileError
from jaspertc.files.json_lines import check_suffix, is_finite, new_id, read_objects, value_of
from jaspertc.recipe.texts import PairFile, RetrievalFile, Validation
from jaspertc.teaching.keys import place_of


@dataclass(frozen=True, kw_only=True)
class PairSet:
    """N sentence pairs and how similar people found them."""

    name: str
    role: str
    first: list[str]
    second: list[str]
    scores: list[float]


@dataclass(frozen=True, kw_only=True)
class RetrievalSet:
    """Queries, documents, and the places of each query's relevant documents."""

    name: str
    query_role: str
    document_role: str
    queries: list[str]
    documents: list[str]
    relevant: list[set[int]]


def read_validation(validation: Validation) -> tuple[list[PairSet], list[RetrievalSet]]:
    """All sets of a recipe.

    Raises:
        ConfigError: a set is empty, or all its scores are the same.
        DataFileError: a file is missing or of another kind, or a row lacks a field; the line is named.
    """
    pairs = [_read_pairs(file) for file in validation.sts]
    return pairs, [_read_retrieval(file) for file in validation.retrieval]


def _read_pairs(file: PairFile) -> PairSet:
    pairs = PairSet(name=file.name, role=file.role, first=[], second=[], scores=[])
    for where, row in islice(_rows(file.path, file.where), file.limit):
        pairs.first.append(_text(where, row, file.first_field))
        pairs.second.append(_text(where, row, file.second_field))
        score = value_of(where, row, file.score_field)
        if isinstance(score, bool) or not isinstance(score, (int, float)) or not is_finite(score):
            raise DataFileError(f"{where}: {file.score_field!r} is {score!r:.80}, it must be a finite number")
        pairs.scores.append(float(score))
    if len(set(pairs.scores)) < 2:
        raise ConfigError(_nothing("sts", file) + ", or all have the same score")
    return pairs


def _read_retrieval(file: RetrievalFile) -> RetrievalSet:
    number_of: dict[str, int] = {}
    documents: list[str] = []
    if file.corpus is not None:
        for where, row in _rows(file.corpus, {}):
            name = new_id(where, value_of(where, row, file.corpus_id_field), number_of)
            number_of[name] = len(documents)
            documents.append(_text(where, row, file.corpus_text_field))
    relevant: dict[str, set[int]] = {}
    for where, row in islice(_in_part(file), file.limit):
        query = _text(where, row, file.query_field)
        if file.corpus is None:
            answer = _text(where, row, file.positive_field)
            if answer not in number_of:
                number_of[answer] = len(documents)
                documents.append(answer)
        else:
            answer = str(value_of(where, row, file.positive_field))
            if answer not in number_of:
                raise DataFileError(
                    f"{where}: {file.positive_field!r} is {answer!r:.80}, not in {file.corpus}"
                )
        relevant.setdefault(query, set()).add(number_of[answer])
    if not relevant:
        raise ConfigError(_nothing("retrieval", file))
    return RetrievalSet(
        name=file.name,
        query_role=file.query_role,
        document_role=file.document_role,
        queries=list(relevant),
        documents=documents,
        relevant=list(relevant.values()),
    )


def _in_part(file: RetrievalFile) -> Iterator[tuple[str, Mapping[str, Any]]]:
    low, high = file.part
    for where, row in _rows(file.path, file.where):
        if file.part == (0, 1) or low <= place_of(str(value_of(where, row, file.id_field))) < high:
            yield where, row


def _nothing(kind: str, file: PairFile | RetrievalFile) -> str:
    condition = f" where {dict(file.where)}" if file.where else ""
    if isinstance(file, RetrievalFile) and file.part != (0, 1):
        condition += f" in part {list(file.part)}"
    return f"validation.{kind} {file.name!r}: {file.path} has no rows{condition}; correct path or where"


def _rows(path: Path, where: Mapping[str, Any]) -> Iterator[tuple[str, Mapping[str, Any]]]:
    """Rows in which ``where`` holds, each with the name of its line."""
    check_suffix(path)
    for name, row in read_objects(path):
        if all(row.get(key) == value for key, value in where.items()):
            yield name, row


def _text(where: str, row: Mapping[str, Any], name: str) -> str:
    value = value_of(where, row, name)
    if not isinstance(value, str) or not value.strip():
        raise DataFileError(f"{where}: {name!r} is {value!r:.80}, it must be a text")
    return value


def texts_by_role(pairs: Sequence[PairSet], retrieval: Sequence[RetrievalSet]) -> dict[str, list[str]]:
    """The different texts that the sets need, by role."""
    by_role: dict[str, dict[str, None]] = {}
    for pair in pairs:
        by_role.setdefault(pair.role, {}).update(dict.fromkeys([*pair.first, *pair.second]))
    for item in retrieval:
        by_role.setdefault(item.query_role, {}).update(dict.fromkeys(item.queries))
        by_role.setdefault(item.document_role, {}).update(dict.fromkeys(item.documents))
    return {role: list(texts) for role, texts in by_role.items()}
