"""The texts of a recipe as the student's token ids, memory-mapped.

Shape legend: N texts, T tokens of all texts together.
"""

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from jaspertc.errors import DataFileError, TrainingError
from jaspertc.files.aside import folder_aside, writing
from jaspertc.files.made_of import require_same
from jaspertc.files.opening import read_lines
from jaspertc.recipe.recipe import Recipe
from jaspertc.recipe.student import Student
from jaspertc.teaching.keys import place_of
from jaspertc.teaching.recipe_texts import RecipeTexts
from jaspertc.text.tokenizer import Tokenizer
from jaspertc.types import IntArray

STATE = "tokens.json"
BLOCK = 4096


class Tokens:
    """Token ids of all texts, prompts included, in the order of ``RecipeTexts``: roles one after another.

    Attributes:
        identity: what they are made of: texts, prompts, tokenizer.
        ids: ids of the N texts.
        role_of: the place in ``roles`` of each text's role, shape (N,).
        places: a number in [0, 1) for each text, from its id, shape (N,); see ``TextFile.part``.
        spread: another such number, independent of it: draws texts from all parts, shape (N,).
        lengths: tokens of each text, shape (N,).
        numbers: the place of each id.

    Raises:
        TrainingError: a file of the folder is missing or damaged; it is named.
    """

    def __init__(self, folder: Path, roles: tuple[str, ...]) -> None:
        self.roles = roles
        with _whole(folder / STATE) as path:
            state = json.loads(path.read_text(encoding="utf-8"))
            self.identity: dict[str, Any] = state["identity"]
            self.prompt_spans: list[tuple[int, int]] = [tuple(state["prompts"][role]) for role in roles]
        with _whole(folder / "offsets.npy") as path:
            self._offsets: IntArray = np.load(path)
        with _whole(folder / "ids.npy") as path:
            self._flat = np.load(path, mmap_mode="r")
            _require_rows(len(self._flat), int(self._offsets[-1]))
        with _whole(folder / "roles.npy") as path:
            self.role_of = np.load(path)
            _require_rows(len(self.role_of), len(self._offsets) - 1)
        with _whole(folder / "names.json") as path:
            self.ids: list[str] = [json.loads(name) for _, name in read_lines(path)]
            _require_rows(len(self.ids), len(self._offsets) - 1)
        self.numbers = {name: number for number, name in enumerate(self.ids)}
        self.places = np.array([place_of(name) for name in self.ids])
        self.spread = np.array([place_of(f"spread {name}") for name in self.ids])
        self.lengths = np.diff(self._offsets)

    def __len__(self) -> int:
        return len(self.ids)

    def row(self, number: int, *, prompt: bool = True) -> IntArray:
        """Token ids of a text, with or without its prompt, shape (length,)."""
        row = np.asarray(self._flat[self._offsets[number] : self._offsets[number + 1]], dtype=np.int64)
        if prompt:
            return row
        begin, end = self.prompt_spans[self.role_of[number]]
        return np.delete(row, slice(begin, end))


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """What is wrong with a file becomes a TrainingError that names it."""
    try:
        yield path
    except (OSError, EOFError, ValueError, KeyError, TypeError, IndexError, DataFileError) as error:
        raise TrainingError(
            f"{path} is missing or damaged ({error}); delete {path.parent} to have it made again"
        ) from error


def _require_rows(have: int, need: int) -> None:
    if have != need:
        raise ValueError(f"it holds {have} in place of {need}")


def prepare_tokens(
    recipe: Recipe,
    texts: RecipeTexts,
    tokenizer: Tokenizer,
    folder: Path,
    *,
    advance: Callable[[int], None] = lambda count: None,
) -> Tokens:
    """The tokens of a recipe's texts, from ``folder`` if they were prepared there before.

    Args:
        advance: told of each so many texts done.

    Raises:
        TrainingError: the folder holds tokens of other texts, prompts or another tokenizer, or cannot be
            written.
    """
    student = recipe.student
    assert student is not None
    identity = _identity(recipe, texts, tokenizer)
    if folder.exists():
        with _whole(folder / STATE) as path:
            before = json.loads(path.read_text(encoding="utf-8"))["identity"]
        fix = "give [training] another folder, or delete this one to start anew"
        require_same(
            f"{folder} holds tokens made of something else", before, identity, fix, error=TrainingError
        )
        advance(len(texts))
        return Tokens(folder, recipe.roles)
    with writing(folder, error=TrainingError), folder_aside(folder) as aside:
        _write(recipe, texts, tokenizer, aside, identity, advance)
    return Tokens(folder, recipe.roles)


def tokenize(texts: list[str], role: str, student: Student, tokenizer: Tokenizer) -> list[IntArray]:
    """Token ids of texts of one role, the role's prompt first."""
    prompt = student.prompts.get(role, "")
    return tokenizer.encode_batch([prompt + text for text in texts], max_length=student.max_length)


def prompt_span(prompt: str, tokenizer: Tokenizer) -> tuple[int, int]:
    """Where a prompt's tokens stand in a text's: from, to."""
    plain = tokenizer.encode_batch(["a", "的"])
    prompted = tokenizer.encode_batch([prompt + "a", prompt + "的"])
    begin = _common(*plain)
    return begin, max(begin, _common(*prompted)) if prompt else begin


def _common(first: IntArray, second: IntArray) -> int:
    count = 0
    for a, b in zip(first.tolist(), second.tolist()):
        if a != b:
            break
        count += 1
    return count


def _identity(recipe: Recipe, texts: RecipeTexts, tokenizer: Tokenizer) -> dict[str, object]:
    student = recipe.student
    assert student is not None
    digest = hashlib.sha256()
    for role in recipe.roles:
        digest.update(role.encode() + texts.keys(role).tobytes())
    prompts: Mapping[str, str] = {role: student.prompts.get(role, "") for role in recipe.roles}
    return {
        "texts": digest.hexdigest()[:16],
        "tokenizer": hashlib.sha256(tokenizer.to_json().encode()).hexdigest()[:16],
        "prompts": prompts,
        "max_length": student.max_length,
    }


def _write(
    recipe: Recipe,
    texts: RecipeTexts,
    tokenizer: Tokenizer,
    folder: Path,
    identity: Mapping[str, object],
    advance: Callable[[int], None],
) -> None:
    student = recipe.student
    assert student is not None
    flat: list[IntArray] = []
    lengths: list[int] = []
    roles: list[IntArray] = []
    with (folder / "names.json").open("w", encoding="utf-8") as names:
        for number, role in enumerate(recipe.roles):
            waiting = texts.read(role)
            while block := list(islice(waiting, BLOCK)):
                rows = tokenize([text.text for text in block], role, student, tokenizer)
                flat.append(np.concatenate(rows).astype(np.uint32))
                lengths += [len(row) for row in rows]
                roles.append(np.full(len(rows), number, np.uint8))
                names.writelines(json.dumps(text.id) + "\n" for text in block)
                advance(len(block))
    np.save(folder / "ids.npy", np.concatenate(flat))
    np.save(folder / "offsets.npy", np.cumsum([0, *lengths]))
    np.save(folder / "roles.npy", np.concatenate(roles))
    spans = {role: prompt_span(student.prompts.get(role, ""), tokenizer) for role in recipe.roles}
    (folder / STATE).write_text(
        json.dumps({"identity": identity, "prompts": spans}, indent=1), encoding="utf-8"
    )
