"""What all kinds of teachers have in common: the keys of their tables, and what is asked of them.

Shape legend: N texts, E width of the vectors.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, ClassVar

import numpy as np

from jaspertc.config import Between, Count, require
from jaspertc.errors import ConfigError
from jaspertc.teachers.fusion import Reducer, build_reducer
from jaspertc.types import FloatArray

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{,99}")
PROBE = "A text to find out how wide the vectors are."


def check_name(name: str) -> None:
    """Raise ConfigError unless a folder can have this name everywhere."""
    require(
        NAME.fullmatch(name) is not None,
        f"name is {name!r:.80}, it must be letters, digits, '_', '-' and '.', at most 100 of them",
    )


@dataclass(frozen=True, kw_only=True)
class TeacherConfig:
    """A ``[[teachers]]`` table; each kind adds its own keys.

    Args:
        name: names the teacher's folder in the cache.
        kind: a name of ``teachers.TEACHERS``.
        prompt: text put before every text.
        prompts: instead of ``prompt``: one text for each role (``query``, ``document``, ...).
        dims: the expected width of its vectors; another is an error.
        reducers: what its vectors pass through on their way into the target, such as ``{kind = "centre"}``.
        weight: its weight in the target, > 0.
        skip: a regular expression; texts in which it is found are not this teacher's, and its part of their
            target is zero. ``"[\\u3400-\\u9fff]"`` is for one that knows no Chinese.
    """

    name: str
    kind: str
    prompt: str = ""
    prompts: Mapping[str, str] = field(default_factory=dict)
    dims: Count | None = None
    reducers: tuple[Mapping[str, Any], ...] = ()
    weight: Annotated[float, Between(0)] = 1.0
    skip: str = ""

    def __post_init__(self) -> None:
        check_name(self.name)
        if self.prompt and self.prompts:
            raise ConfigError("prompt and prompts are both given; keep one of them")
        for role in self.prompts:
            if not NAME.fullmatch(role):
                raise ConfigError(f"prompts names the role {role!r}; use letters, digits, '_', '-' and '.'")
        if not self.weight > 0:
            raise ConfigError(f"weight is {self.weight}, it must be > 0; leave the teacher out instead")
        try:
            re.compile(self.skip)
        except re.error as error:
            raise ConfigError(f"skip is {self.skip!r}, no regular expression: {error}") from error
        self.build_reducers()

    def skips(self, text: str) -> bool:
        """Whether a text is not this teacher's."""
        return bool(self.skip) and re.search(self.skip, text) is not None

    def where_given(
        self, texts: Sequence[str], dims: int, encode: Callable[[Sequence[str]], FloatArray]
    ) -> FloatArray:
        """Vectors of N texts, shape (N, E): those that ``encode`` gives, and zeros for texts it skips.

        Args:
            dims: E.
        """
        given = [not self.skips(text) for text in texts]
        vectors = np.zeros((len(texts), dims), np.float32)
        if any(given):
            vectors[given] = encode([text for text, here in zip(texts, given) if here])
        return vectors

    def prompt_of(self, role: str) -> str:
        """The text put before texts of this role.

        Raises:
            ConfigError: the teacher has ``prompts`` but none for it.
        """
        if not self.prompts:
            return self.prompt
        if role not in self.prompts:
            raise ConfigError(
                f"teacher {self.name!r} has prompts for {', '.join(self.prompts)} but texts have the role "
                f'{role!r}; add it to prompts ("" for none) or change role'
            )
        return self.prompts[role]

    def folder_of(self, role: str) -> str:
        """The name of the cache folder for texts of this role."""
        return f"{self.name}@{role}" if self.prompts else self.name

    def build_reducers(self) -> tuple[Reducer, ...]:
        """The reducers, not fitted yet."""
        return tuple(build_reducer(table) for table in self.reducers)


class Teacher:
    """A model whose vectors are learnt. To add a kind: a class in a file, a line in ``teachers.TEACHERS``.

    Attributes:
        Config: a frozen dataclass derived from ``TeacherConfig`` with the kind's own keys.
        dims: E.
        identity: what its vectors depend on besides texts and prompt; JSON values. ``content hash`` is
            ``None`` where it cannot be computed.
    """

    Config: ClassVar[type[TeacherConfig]] = TeacherConfig
    dims: int
    identity: dict[str, Any]

    def __init__(self, config: Any) -> None:
        """The teacher of a table of ``Config``'s, ready to encode."""

    def encode(self, texts: Sequence[str], prompt: str) -> FloatArray:
        """Vectors of texts with ``prompt`` before each, shape (N, E), float32."""
        raise NotImplementedError
