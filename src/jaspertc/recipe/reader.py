"""Tables of a TOML file to dataclasses, as their annotations say; mistakes are named with file and key."""

import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Annotated, Any, Literal, NamedTuple, TypeVar, Union, get_args, get_origin, get_type_hints

from jaspertc.config import from_mapping
from jaspertc.errors import ConfigError

T = TypeVar("T")

SAMPLES = "samples:"
SAMPLE_FOLDER = Path(__file__).parents[1] / "samples"
FOLDER_START = (".", "/", "~")
FOLDER_OR_NAME = object()  # marks a string that is a folder, a built-in model or a hub name


class Between(NamedTuple):
    """Marks the numbers a key may have, both ends included."""

    low: float
    high: float = math.inf


class Reader:
    """Makes sections from tables; ``where`` is the table's name within the file."""

    def __init__(self, file: Path, kinds: Mapping[type, Mapping[str, type]]) -> None:
        """``kinds``: for a class whose tables have a ``kind``, the class of each."""
        self.file = file
        self.kinds = kinds
        self.folder = file.parent

    def section(self, cls: type[T], table: Any, where: str) -> T:
        if not isinstance(table, Mapping):
            raise self._error(where, f"is {table!r:.80}, it must be a table")
        cls = self._chosen(cls, table, where)
        name = f"[{where}] of {self.file}" if where else str(self.file)
        hints = get_type_hints(cls, include_extras=True)
        unknown = {key: value for key, value in table.items() if key not in hints}
        if unknown:
            from_mapping(cls, unknown, name)  # raises, with the nearest key
        values = {}
        for item in fields(cls):  # type: ignore[arg-type]
            key = f"{where}.{item.name}".lstrip(".")
            if item.name in table:
                values[item.name] = self._value(hints[item.name], table[item.name], key)
            elif item.default is MISSING and item.default_factory is MISSING:
                raise self._error(key, f"is missing; add it{_example(item.name)}")
        try:
            return from_mapping(cls, values, name)
        except ConfigError as error:
            raise ConfigError(f"{self.file}: {where and f'[{where}] '}{error}") from error

    def _chosen(self, cls: type[T], table: Mapping[str, Any], where: str) -> type[T]:
        """The class that the table's ``kind`` names, where there are several."""
        if cls not in self.kinds:
            return cls
        kinds = self.kinds[cls]
        return kinds[
            self._one_of(tuple(kinds), table.get("kind", getattr(cls, "kind", None)), f"{where}.kind")
        ]

    def _value(self, hint: Any, value: Any, key: str) -> Any:
        if get_origin(hint) in (Union, types.UnionType):
            choices = [item for item in get_args(hint) if item is not type(None)]
            fitting = [item for item in choices if isinstance(item, type) and type(value) is item]
            hint = (fitting or choices)[0]
        origin, arguments = get_origin(hint), get_args(hint)
        if origin is Annotated:
            plain_value = self._value(arguments[0], value, key)
            if arguments[1] is FOLDER_OR_NAME:
                return self._model(plain_value)
            return self._within(arguments[1], plain_value, key)
        if origin is Literal:
            return self._one_of(arguments, value, key)
        if origin is tuple:
            if not isinstance(value, list):
                raise self._error(key, f"is {value!r:.80}, it must be a list")
            if not value:
                raise self._error(key, "is empty; give at least one, or leave the key out")
            return tuple(
                self._value(arguments[0], item, f"{key}[{index}]") for index, item in enumerate(value)
            )
        if is_dataclass(hint):
            return self.section(hint, value, key)  # type: ignore[arg-type]
        if origin is Mapping:
            if not isinstance(value, dict):
                raise self._error(key, f"is {value!r:.80}, it must be a table")
            if arguments[1] is str:
                return {name: self._value(str, item, f"{key}.{name}") for name, item in value.items()}
            return value
        if hint is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        plain: type = str if hint is Path else hint
        if not isinstance(value, plain) or (isinstance(value, bool) and plain is not bool):
            names = {str: "a string", int: "an integer", float: "a number", bool: "true or false"}
            raise self._error(key, f"is {value!r:.80}, it must be {names[plain]}")
        if hint is Path:
            return self._path(str(value), key)
        return value

    def _within(self, allowed: Between, value: Any, key: str) -> Any:
        if not (allowed.low <= value <= allowed.high and math.isfinite(value)):
            least = f"at least {allowed.low:g}"
            range_ = least if allowed.high == math.inf else f"from {allowed.low:g} to {allowed.high:g}"
            raise self._error(key, f"is {value}, it must be {range_}")
        return value

    def _one_of(self, choices: tuple[str, ...], value: Any, key: str) -> Any:
        if value not in choices:
            near = get_close_matches(str(value), choices, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise self._error(key, f"is {value!r:.80}, it must be one of {', '.join(choices)}{hint}")
        return value

    def _path(self, value: str, key: str) -> Path:
        if not value.startswith(SAMPLES):
            return self.folder / Path(value).expanduser()
        path = SAMPLE_FOLDER / f"{value.removeprefix(SAMPLES)}.jsonl"
        if not path.is_file():
            known = ", ".join(SAMPLES + item.stem for item in sorted(SAMPLE_FOLDER.glob("*.jsonl")))
            raise self._error(key, f"is {value!r}, the package has {known}")
        return path

    def _model(self, value: str) -> str:
        """A folder relative to the recipe, which starts with a dot; built-in and hub names stay."""
        return str(self.folder / Path(value).expanduser()) if value.startswith(FOLDER_START) else value

    def _error(self, key: str, message: str) -> ConfigError:
        return ConfigError(f"{self.file}: {key or 'the recipe'} {message}")


def _example(name: str) -> str:
    return {
        "teachers": ': a [[teachers]] table with name, kind ("jaspertc", "use", ...) and its model',
        "texts": ": [[texts.files]] tables, each with a path",
        "files": ": [[texts.files]] tables, each with a path",
        "cache": ': [cache] with folder = "where vectors are kept"',
    }.get(name, "")
