"""From raw files to a corpus: texts in order, poor ones and repeats left out, each with an id for good.

What is kept depends only on the texts before it, so that the same files give the same corpus. Memory for
a million texts: 0.2 GB, and 1.7 GB more to find near duplicates.
"""

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any, NamedTuple

from jaspertc.corpus.duplicates import ExactDuplicates, Excluded, NearDuplicates
from jaspertc.corpus.normalise import (
    Parts,
    normalise,
    parts_of,
    share_of_letters,
    share_of_repeated_lines,
)
from jaspertc.errors import DataFileError, InputError
from jaspertc.files.aside import unique_part, writing
from jaspertc.files.folders import files_of, is_pattern
from jaspertc.files.hashes import content_id, number_of
from jaspertc.files.json_lines import read_objects
from jaspertc.files.lines import json_line, lines_aside, rows_aside
from jaspertc.files.texts import (
    DEFAULT_ID_FIELD,
    FOLDER,
    SUFFIXES,
    Id,
    is_one_text,
    kind_of,
    read_rows,
    whole_text,
)

EMPTY, SHORT, LONG = "empty", "too short", "too long"
SYMBOLS, LINES = "mostly symbols", "repeated lines"
SAME_AS_EXCLUDED, OVERLAP = "equals an excluded text", "overlaps an excluded text"
EXACT, NEAR = "exact duplicate", "near duplicate"
REASONS = (EMPTY, SHORT, LONG, SYMBOLS, LINES, SAME_AS_EXCLUDED, OVERLAP, EXACT, NEAR)


@dataclass(frozen=True, kw_only=True)
class Rules:
    """Which texts are kept.

    Args:
        entities: resolve HTML's entities.
        min_characters: after normalisation, >= 0.
        max_characters: likewise; ``None`` for any.
        min_letters: least share of letters and digits among what is no white space, in [0, 1].
        max_repeated: largest share of characters in lines that came before in the same text, in [0, 1].
        near: likeness from which texts are near duplicates, in [0.1, 1], or ``None`` to keep these.
        content_ids: give each text an id from its content, in place of the one it has.

    Raises:
        InputError: a value is out of range.
    """

    entities: bool = False
    min_characters: int = 4
    max_characters: int | None = None
    min_letters: float = 0.5
    max_repeated: float = 0.3
    near: float | None = 0.8
    content_ids: bool = False

    def __post_init__(self) -> None:
        for name in ("min_letters", "max_repeated"):
            if not 0 <= getattr(self, name) <= 1:
                raise InputError(f"{name} is {getattr(self, name)}, it must be from 0 to 1")
        if self.min_characters < 0:
            raise InputError(f"min_characters is {self.min_characters}, it must be >= 0")
        if self.max_characters is not None and self.max_characters < max(1, self.min_characters):
            raise InputError(
                f"max_characters is {self.max_characters}, it must be at least min_characters "
                f"({self.min_characters}) and 1"
            )

    def fault_of(self, text: str) -> str | None:
        """What is wrong with a normalised text by itself, one of ``REASONS``."""
        if not text:
            return EMPTY
        if len(text) < self.min_characters:
            return SHORT
        if self.max_characters is not None and len(text) > self.max_characters:
            return LONG
        if share_of_letters(text) < self.min_letters:
            return SYMBOLS
        return LINES if share_of_repeated_lines(text) > self.max_repeated else None


class Verdict(NamedTuple):
    """Why a text is dropped: one of ``REASONS``, and the id of the text it repeats, if it does."""

    reason: str
    of: Id | None = None


class Cleaner:
    """Decides on texts one by one.

    Args:
        rules: which are kept.
        excluded: texts that must not be in the corpus.

    Raises:
        MissingExtraError: near duplicates are to be found and datasketch is not installed.
    """

    def __init__(self, rules: Rules, excluded: Excluded | None = None) -> None:
        self.rules = rules
        self.excluded = excluded
        self._exact = ExactDuplicates()
        self._near = None if rules.near is None else NearDuplicates(rules.near)
        self._kept: list[Id] = []

    def judge(self, text: str, name: Id) -> Verdict | None:
        """Why a normalised text is dropped; ``None`` keeps it and remembers it under its id."""
        fault = self.rules.fault_of(text)
        if fault is not None:
            return Verdict(fault)
        parts = parts_of(text)
        if self.excluded is not None and self.excluded.equals(parts):
            return Verdict(SAME_AS_EXCLUDED)
        if self.excluded is not None and self.excluded.overlaps(parts):
            return Verdict(OVERLAP)
        return self._repeated(text, parts, name)

    def _repeated(self, text: str, parts: Parts, name: Id) -> Verdict | None:
        letters = parts.letters or text
        same = self._exact.find(letters)
        if same is not None:
            return Verdict(EXACT, self._kept[same])
        number = len(self._kept)
        alike = None if self._near is None else self._near.find(parts, number)
        if alike is not None:
            self._exact.add(letters, alike)
            return Verdict(NEAR, self._kept[alike])
        self._exact.add(letters, number)
        self._kept.append(name)
        return None


@dataclass(kw_only=True)
class Counts:
    """How many texts were read and kept, and how many were dropped for each of ``REASONS``."""

    read: int = 0
    kept: int = 0
    changed: int = 0
    characters: int = 0
    dropped: dict[str, int] = field(default_factory=lambda: dict.fromkeys(REASONS, 0))


def clean_files(
    inputs: Sequence[str | Path],
    output: Path,
    cleaner: Cleaner,
    *,
    text_field: str = "text",
    id_field: str | None = None,
    dropped: Path | None = None,
    advance: Callable[[int], None] = lambda count: None,
) -> Counts:
    """Clean files, one after the other, into one.

    Rows of JSON keep their other fields where ``output`` is JSON, too; otherwise a row is id and text. A
    text without id gets one from its content.

    Args:
        inputs: what ``read_texts`` reads.
        output: ends in one of ``ROW_SUFFIXES``; it appears whole or not at all.
        dropped: a .jsonl or .jsonl.gz file with id, reason and ``of`` (the text it repeats) of each dropped
            text.
        advance: told of each text read.

    Raises:
        DataFileError: a file cannot be read or written, or two texts that are kept have the same id.
        MissingExtraError: a file is parquet and pyarrow is not installed.
    """
    counts, names, key = Counts(), _Names(), id_field or DEFAULT_ID_FIELD
    with writing(output), ExitStack() as stack:
        write = stack.enter_context(rows_aside(output, key, text_field))
        side = None if dropped is None else stack.enter_context(_written_beside(dropped))
        for path in inputs:
            for row, whole in read_rows(path, text_field, id_field):
                counts.read += 1
                advance(1)
                text = normalise(row.text, entities=cleaner.rules.entities)
                name = content_id(text) if row.id is None or cleaner.rules.content_ids else row.id
                verdict = cleaner.judge(text, name)
                if verdict is not None:
                    counts.dropped[verdict.reason] += 1
                    if side is not None:
                        _note(side, str(path), row.id, name, verdict)
                    continue
                names.add(name, str(path))
                counts.kept += 1
                counts.changed += text != row.text
                counts.characters += len(text)
                written = {key: name, text_field: text}
                write({**written, **whole, **written})  # fields stay where they were
    return counts


@contextmanager
def _written_beside(path: Path) -> Iterator[IO[bytes]]:
    """``lines_aside``; what goes wrong with opening the file is said of it, not of the corpus."""
    with ExitStack() as stack:
        with writing(path):
            file = stack.enter_context(lines_aside(path, unique=unique_part()))
        yield file


def _note(side: IO[bytes], path: str, given: Id | None, name: Id, verdict: Verdict) -> None:
    row: dict[str, Any] = {"id": name if given is None else given, "reason": verdict.reason}
    if verdict.of is not None:
        row["of"] = verdict.of
    side.write(json_line({**row, "file": path}))


class _Names:
    """Ids that are taken; 0.1 kB each."""

    def __init__(self) -> None:
        self._taken: set[int] = set()

    def add(self, name: Id, path: str) -> None:
        number = number_of(str(name))
        if number in self._taken:
            raise DataFileError(
                f"{path}: the id {name!r} came before; give each text its own, or --content-ids for new ones"
            )
        self._taken.add(number)


def read_excluded(
    paths: Sequence[str | Path], excluded: Excluded, *, advance: Callable[[int], None] = lambda count: None
) -> int:
    """Exclude all texts of files: each string of a JSON object, at any depth, but its own id; else as
    ``read_texts``.

    Returns:
        How many texts there were.

    Raises:
        DataFileError: a file cannot be read, or they hold no texts.
    """
    total = 0
    for path in paths:
        for text in _texts_to_exclude(path):
            excluded.add(parts_of(normalise(text)))
            advance(1)
            total += 1
    if not total:
        raise DataFileError(f"{', '.join(map(str, paths))}: no texts to exclude; give another file")
    return total


def _texts_to_exclude(path: str | Path) -> Iterator[str]:
    kind = kind_of(path)
    if kind == FOLDER:
        for file in files_of(Path(path), SUFFIXES):
            if is_one_text(path, file):
                yield whole_text(file)
            else:
                yield from _texts_to_exclude(file)
    elif kind == ".jsonl":
        for _, row in read_objects(path):
            yield from _strings([value for key, value in row.items() if key != DEFAULT_ID_FIELD])
    else:
        yield from (row.text for row, _ in read_rows(path))


def _strings(values: list[Any]) -> Iterator[str]:
    """The strings in values of JSON, in no order. Without recursion: rows may be nested deeply."""
    waiting = [*values]
    while waiting:
        value = waiting.pop()
        if isinstance(value, str):
            yield value
        elif isinstance(value, (list, dict)):
            waiting += value.values() if isinstance(value, dict) else value


def check_inputs(inputs: Sequence[str | Path], outputs: Sequence[Path | None]) -> None:
    """Raise DataFileError if a file is missing, of no known kind, or both read and written."""
    for path in inputs:
        kind_of(path)
        for output in outputs:
            if output is not None and output.exists() and Path(path).exists() and output.samefile(path):
                raise DataFileError(f"{output} is an input; give another name to write to")
            if (
                output is not None
                and kind_of(path) == FOLDER
                and output.name.lower().endswith(SUFFIXES)
                and Path(path).resolve() in output.resolve().parents
            ):
                raise DataFileError(f"{output} is in the folder {path}, an input; write to another folder")
            if (
                output is not None
                and output.exists()
                and is_pattern(path)
                and any(map(output.samefile, files_of(Path(path), SUFFIXES)))
            ):
                raise DataFileError(f"{output} is one of {path}, an input; give another name to write to")
