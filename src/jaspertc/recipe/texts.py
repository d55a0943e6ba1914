"""The sections of a recipe that name files: texts, pairs, and the sets of validation."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from jaspertc.config import Count, Share
from jaspertc.errors import ConfigError

Part = tuple[Share, ...]
WHOLE: Part = (0.0, 1.0)


@dataclass(frozen=True, kw_only=True)
class TextFile:
    """One file of texts.

    Args:
        path: .txt, .jsonl, .jsonl.gz or .parquet; ``samples:passages`` is a file of the package.
        text_field: JSON field or parquet column with the text.
        id_field: the one with the id; default ``id``, where there is one. Texts without ids are addressed
            by a hash of their content, and exact repeats among them count once.
        id_prefix: put before each id, to tell apart files that share ids.
        role: which of a teacher's ``prompts`` these texts get.
        part: only texts whose id (where there is none: content) hashes into this part of [0, 1), such as
            ``[0.0, 0.25]`` for a quarter of them. Whether a text is in depends on nothing else, so
            ``[0.0, 0.5]`` holds that quarter, and ``[0.25, 0.5]`` has nothing in common with it.
        limit: only the first so many of these texts.
        piece_characters: texts of more characters are cut into pieces of up to so many, at ends of paragraphs
            and sentences. Each piece is a text of its own, ``ID#1``, ``ID#2`` ..., for teachers and student;
            ``part`` and ``limit`` are still about whole texts.
    """

    path: Path
    text_field: str = "text"
    id_field: str | None = None
    id_prefix: str = ""
    role: str = "document"
    part: Part = WHOLE
    limit: Count | None = None
    piece_characters: Count | None = None

    def __post_init__(self) -> None:
        check_part(self.part)


@dataclass(frozen=True, kw_only=True)
class PairTexts:
    """A file of queries, each with a text that answers it. Both sides are texts like any other.

    The texts' ids are ``q:ID`` and ``p:ID`` with the row's id, after ``id_prefix``; without ids they
    are addressed by content, as in ``TextFile``.

    Args:
        query_role: which of a teacher's ``prompts`` queries get.
        positive_role: likewise for what answers them.
        parallel: both sides say the same, as a text and its translation do: for a side that a teacher skips
            it gives the vector of the other.
    """

    path: Path
    query_field: str = "query"
    positive_field: str = "positive"
    id_field: str | None = None
    id_prefix: str = ""
    query_role: str = "query"
    positive_role: str = "document"
    parallel: bool = False
    part: Part = WHOLE
    limit: Count | None = None

    def __post_init__(self) -> None:
        check_part(self.part)

    @property
    def sides(self) -> tuple[TextFile, TextFile]:
        """Queries and positives, in the same order."""
        query = TextFile(
            path=self.path,
            text_field=self.query_field,
            id_field=self.id_field,
            id_prefix=self.id_prefix + "q:",
            role=self.query_role,
            part=self.part,
            limit=self.limit,
        )
        positive = replace(
            query,
            text_field=self.positive_field,
            id_prefix=self.id_prefix + "p:",
            role=self.positive_role,
        )
        return query, positive


@dataclass(frozen=True, kw_only=True)
class Texts:
    """The texts that teachers embed, in order: ``files``, then both sides of ``pairs``."""

    files: tuple[TextFile, ...] = ()
    pairs: tuple[PairTexts, ...] = ()

    @property
    def all_files(self) -> tuple[TextFile, ...]:
        """Each file and each side of a file of pairs."""
        return (*self.files, *(side for pair in self.pairs for side in pair.sides))


@dataclass(frozen=True, kw_only=True)
class PairFile:
    """Sentence pairs with graded similarity, .jsonl or .jsonl.gz; only rows with the values in ``where``."""

    name: str
    path: Path
    first_field: str = "sentence1"
    second_field: str = "sentence2"
    score_field: str = "score"
    role: str = "document"
    where: Mapping[str, Any] = field(default_factory=dict)
    limit: Count | None = None


@dataclass(frozen=True, kw_only=True)
class RetrievalFile:
    """Queries and what answers them, .jsonl or .jsonl.gz.

    Args:
        positive_field: the answer's text; with ``corpus``, its id there.
        corpus: file of the candidates; default: all answers of this file.
        id_field: what ``part`` goes by.
        part: see ``TextFile.part``: another part of a file of pairs than the one that is trained on.
    """

    name: str
    path: Path
    query_field: str = "query"
    positive_field: str = "positive"
    corpus: Path | None = None
    corpus_text_field: str = "text"
    corpus_id_field: str = "id"
    query_role: str = "query"
    document_role: str = "document"
    where: Mapping[str, Any] = field(default_factory=dict)
    id_field: str = "id"
    part: Part = WHOLE
    limit: Count | None = None

    def __post_init__(self) -> None:
        check_part(self.part)


@dataclass(frozen=True, kw_only=True)
class Validation:
    """What teachers and their fusion are scored on before any training."""

    sts: tuple[PairFile, ...] = ()
    retrieval: tuple[RetrievalFile, ...] = ()

    def __post_init__(self) -> None:
        if not self.sts and not self.retrieval:
            raise ConfigError("it names no sts and no retrieval file; give one, or remove [validation]")
        require_distinct(
            "validation", [item.name for item in self.sts] + [item.name for item in self.retrieval]
        )


def check_part(part: tuple[float, ...]) -> None:
    """Raise ConfigError unless it is [from, to] within [0, 1]."""
    if len(part) != 2 or not part[0] < part[1]:
        raise ConfigError(
            f"part is {list(part)}, it must be [from, to] with 0 <= from < to <= 1, such as [0.0, 0.25]"
        )


def require_distinct(where: str, names: Sequence[str]) -> None:
    """Raise ConfigError if a name comes twice."""
    for name in names:
        if names.count(name) > 1:
            raise ConfigError(f"{where}: the name {name!r} is used twice; names must differ")
