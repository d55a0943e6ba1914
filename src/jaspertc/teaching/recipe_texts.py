"""The texts of a recipe: checked in one pass, then read again, file by file, in constant memory."""

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import islice, pairwise
from typing import NamedTuple

import numpy as np

from jaspertc.errors import ConfigError
from jaspertc.files.texts import check_fields, read_texts
from jaspertc.recipe.recipe import Recipe
from jaspertc.recipe.texts import PairTexts, TextFile
from jaspertc.teaching.keys import content_id, keys_of, place_of
from jaspertc.text.pieces import piece_starts
from jaspertc.types import BoolArray, KeyArray

BLOCK = 4096
RECIPE = "in the recipe"  # where fields are named


class Text(NamedTuple):
    """An id, unique in the recipe, and its text."""

    id: str
    text: str


def read_file(file: TextFile, by: str = RECIPE) -> Iterator[Text]:
    """The texts of one file of a recipe, in order; a text without id gets a hash of its content.

    With ``piece_characters``, the pieces of a long text stand in its place.

    Args:
        by: as ``named`` of ``read_texts``.
    """
    rows = read_texts(file.path, file.text_field, file.id_field, named=by)
    named = ((content_id(row.text) if row.id is None else str(row.id), row.text) for row in rows)
    low, high = file.part
    chosen = (item for item in named if low <= place_of(item[0]) < high) if file.part != (0, 1) else named
    for name, text in islice(chosen, file.limit):
        if file.piece_characters is None or len(text) <= file.piece_characters:
            yield Text(file.id_prefix + name, text)
        else:
            for number, piece in enumerate(_pieces(text, file.piece_characters), 1):
                yield Text(f"{file.id_prefix}{name}#{number}", piece)


def _pieces(text: str, most: int) -> Iterator[str]:
    """Pieces of up to so many characters, cut where ``Embedder.encode`` would cut; none is blank."""
    ends = np.arange(1, len(text) + 1)
    starts = piece_starts(text, np.stack([ends - 1, ends], axis=1), most).tolist()
    pieces = (text[begin:end].strip() for begin, end in pairwise([*starts, len(text)]))
    return filter(None, pieces)


@dataclass(frozen=True, kw_only=True)
class FileTexts:
    """A file and its N texts.

    Attributes:
        keys: of the texts, shape (N, 3).
        repeats: marks those that came before, shape (N,).
        skipped: by a teacher's ``skip``, those it is found in, shape (N,).
    """

    file: TextFile
    keys: KeyArray
    repeats: BoolArray
    skipped: Mapping[str, BoolArray]

    def chosen(self, skip: str = "") -> BoolArray:
        """Marks the texts without repeats, and without those that a teacher of this ``skip`` leaves out."""
        return ~self.repeats & ~self.skipped[skip] if skip else ~self.repeats


class RecipeTexts:
    """All texts of a recipe, read once: 24 bytes of memory a text.

    Raises:
        ConfigError: a file has no texts, a text is blank or skipped by all teachers, or two texts have one
            id; file and id are named.
        DataFileError: a file cannot be read.
    """

    def __init__(self, recipe: Recipe) -> None:
        for index, pair in enumerate(recipe.texts.pairs):
            _check_pair(index, pair)
        files = recipe.texts.all_files
        skips = [teacher.skip for teacher in recipe.teachers]
        read = [_read_keys(index, file, skips) for index, file in enumerate(files)]
        tables = [keys for keys, _ in read]
        repeats = _repeats(files, tables)
        parts = np.split(repeats, np.cumsum([len(table) for table in tables])[:-1])
        self.files = [
            FileTexts(file=file, keys=keys, repeats=part, skipped=skipped)
            for file, (keys, skipped), part in zip(files, read, parts)
        ]

    def __len__(self) -> int:
        return sum(int((~item.repeats).sum()) for item in self.files)

    def keys(self, role: str | None = None, skip: str = "") -> KeyArray:
        """Keys of the texts of a role, or of all, without repeats and what ``skip`` is found in."""
        keys = [item.keys[item.chosen(skip)] for item in self.files if role in (None, item.file.role)]
        return np.concatenate([np.zeros((0, 3), "<u8"), *keys])

    def read(self, role: str, skip: str = "") -> Iterator[Text]:
        """The texts of a role, without repeats, in the order of ``keys(role, skip)``.

        Raises:
            ConfigError: a file has become shorter since.
        """
        for item in self.files:
            if item.file.role == role:
                count = 0
                for text, chosen in zip(read_file(item.file), item.chosen(skip)):
                    count += 1
                    if chosen:
                        yield text
                if count < len(item.keys):
                    raise ConfigError(
                        f"{item.file.path} was changed while it was read; run the command again"
                    )

    def sample(self, count: int) -> dict[str, list[Text]]:
        """At most ``count`` texts, by role: the same ones each time, those with the smallest hashes."""
        keys = self.keys()
        count = min(count, len(keys))
        limit = np.partition(keys[:, 0], count - 1)[count - 1]
        chosen: dict[str, list[Text]] = {}
        for item in self.files:
            wanted = (item.keys[:, 0] <= limit) & ~item.repeats
            for text, take in zip(read_file(item.file), wanted):
                if take:
                    chosen.setdefault(item.file.role, []).append(text)
        return chosen


def _check_pair(index: int, pair: PairTexts) -> None:
    """Without ids each side would be drawn by its own content, and they would not fit together."""
    check_fields(pair.path)
    if pair.part != (0.0, 1.0):
        row = next(read_texts(pair.path, pair.query_field, pair.id_field, named=RECIPE), None)
        if row is not None and row.id is None:
            raise ConfigError(
                f"texts.pairs[{index}] ({pair.path}) has a part but its rows have no ids to draw by; give "
                "each row an id, or use limit"
            )


def _read_keys(index: int, file: TextFile, skips: list[str]) -> tuple[KeyArray, dict[str, BoolArray]]:
    """Keys of a file's texts, and which of them the teachers skip, by what they look for."""
    where = f"texts.files[{index}] ({file.path})"
    tables = [np.zeros((0, 3), "<u8")]
    skipped: dict[str, list[bool]] = {skip: [] for skip in skips if skip}
    rows = read_file(file)
    while block := list(islice(rows, BLOCK)):
        for text in block:
            if not text.text.strip():
                raise ConfigError(f"{where}: the text of id {text.id!r} is empty; remove it from the file")
            for skip, marks in skipped.items():
                marks.append(re.search(skip, text.text) is not None)
            if skips and all(skip and skipped[skip][-1] for skip in skips):
                raise ConfigError(
                    f"{where}: all teachers skip the text of id {text.id!r}; change their skip, or remove it"
                )
        tables.append(keys_of([text.id for text in block], [text.text for text in block]))
    keys = np.concatenate(tables)
    if not len(keys):
        raise ConfigError(f"{where} holds no texts; give another path, or remove the file from the recipe")
    return keys, {skip: np.array(marks) for skip, marks in skipped.items()}


def _repeats(files: tuple[TextFile, ...], tables: list[KeyArray]) -> BoolArray:
    """Marks later copies of texts without ids, which have the same id only because they are the same."""
    keys = np.concatenate(tables)
    repeats = np.zeros(len(keys), np.bool_)
    order = np.lexsort((np.arange(len(keys)), keys[:, 1], keys[:, 0]))
    same = np.flatnonzero((keys[order[1:], :2] == keys[order[:-1], :2]).all(axis=1))
    if not len(same):
        return repeats
    first, second = order[same], order[same + 1]
    starts = np.cumsum([0, *(len(table) for table in tables)])
    owners = np.repeat(np.arange(len(files)), [len(table) for table in tables])
    without_ids = np.array([_has_no_ids(file) for file in files])
    roles = np.unique([file.role for file in files], return_inverse=True)[1]
    allowed = without_ids[owners[first]] & without_ids[owners[second]]
    allowed &= roles[owners[first]] == roles[owners[second]]
    wrong = np.flatnonzero(~allowed)
    if len(wrong):
        pair = wrong[np.argmin(first[wrong])]
        rows = (int(first[pair]), int(second[pair]))
        raise _same_id(files, [(int(owners[row]), row - int(starts[owners[row]])) for row in rows])
    repeats[second] = True
    return repeats


def _has_no_ids(file: TextFile) -> bool:
    """A file gives every text an id, or none."""
    return next(read_texts(file.path, file.text_field, file.id_field)).id is None


def _same_id(files: tuple[TextFile, ...], rows: list[tuple[int, int]]) -> ConfigError:
    index, row = rows[0]
    name = next(islice(read_file(files[index]), row, None)).id
    names = [f"text {row + 1} of texts.files[{index}] ({files[index].path})" for index, row in rows]
    return ConfigError(
        f"id {name!r} is used twice, by {names[0]} and {names[1]}; give each text an id of its own, or the "
        "files different id_prefix"
    )
