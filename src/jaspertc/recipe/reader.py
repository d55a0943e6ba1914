"""Tables of a TOML file to dataclasses, as their annotations say; mistakes are named with file and key."""

import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

from jaspertc.config import FOLDER_OR_NAME, check_values, from_mapping, require_choice
from jaspertc.errors import ConfigError
from jaspertc.files.opening import STDIN

T = TypeVar("T")

SAMPLES = "samples:"
SAMPLE_FOLDER = Path(__file__).parents[1] / "samples"
FOLDER_START = (".", "/", "~")


Kinds = Mapping[type, Mapping[str, type]]


class Reader:
    """Makes sections from tables; ``where`` is the table's name within the file."""

    def __init__(self, file: Path, kinds: Kinds) -> None:
        """``kinds``: for a class whose tables have a ``kind``, the class of each."""
        self.file = file
        self.kinds = kinds
        self.folder = file.parent

    def section(self, cls: type[T], table: Any, where: str) -> T:
        if not isinstance(table, Mapping):
            raise self._error(where, f"is {table!r:.80}, it must be a table")
        base, cls = cls, self._chosen(cls, table, where)
        name = f"[{where}] of {self.file}" if where else str(self.file)
        hints = get_type_hints(cls, include_extras=True)
        unknown = {key: value for key, value in table.items() if key not in hints}
        for key in unknown:
            for kind, other in self.kinds.get(base, {}).items():
                if key in get_type_hints(other):
                    raise self._error(f"{where}.{key}", f"is for kind {kind!r}; leave it out here")
        if unknown:
            from_mapping(cls, unknown, name)  # raises, with the nearest key
        values = {}
        for item in fields(cls):  # type: ignore[arg-type]
            key = f"{where}.{item.name}".lstrip(".")
            if item.name in table:
                values[item.name] = self._value(hints[item.name], table[item.name], key)
            elif item.default is MISSING and item.default_factory is MISSING:
                raise self._error(key, f"is missing; add it{_example(item.name)}")
        check_values(cls, values, f"{self.file}: {where and f'{where}.'}")
        try:
            return from_mapping(cls, values, name)
        except ConfigError as error:
            raise ConfigError(f"{self.file}: {where and f'[{where}] '}{error}") from error

    def _chosen(self, cls: type[T], table: Mapping[str, Any], where: str) -> type[T]:
        """The class that the table's ``kind`` names, where there are several."""
        if cls not in self.kinds:
            return cls
        kinds = self.kinds[cls]
        kind = table.get("kind", getattr(cls, "kind", None))  # a default is an attribute of the class
        require_choice(f"{self.file}: {where}.kind", kind, tuple(kinds))
        return kinds[kind]

    def _value(self, hint: Any, value: Any, key: str) -> Any:
        if get_origin(hint) in (Union, types.UnionType):
            choices = [item for item in get_args(hint) if item is not type(None)]
            fitting = [item for item in choices if isinstance(item, type) and type(value) is item]
            hint = (fitting or choices)[0]
        origin, arguments = get_origin(hint), get_args(hint)
        if origin is Annotated:
            plain_value = self._value(arguments[0], value, key)
            return self._model(plain_value, key) if arguments[1] is FOLDER_OR_NAME else plain_value
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
            if arguments[1] is Any:
                return value
            return {name: self._value(arguments[1], item, f"{key}.{name}") for name, item in value.items()}
        if origin is Literal:
            hint = type(arguments[0])
        if hint is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        plain: type = str if hint is Path else hint
        if not isinstance(value, plain) or (isinstance(value, bool) and plain is not bool):
            names = {str: "a string", int: "an integer", float: "a number", bool: "true or false"}
            raise self._error(key, f"is {value!r:.80}, it must be {names[plain]}")
        if hint is Path:
            return self._path(str(value), key)
        return value

    def _path(self, value: str, key: str) -> Path:
        if value == STDIN:
            raise self._error(key, f"is {value!r}; a recipe cannot take standard input: name a file")
        if not value.startswith(SAMPLES):
            return self._beside(value, key)
        path = SAMPLE_FOLDER / f"{value.removeprefix(SAMPLES)}.jsonl"
        if not path.is_file():
            known = ", ".join(SAMPLES + item.stem for item in sorted(SAMPLE_FOLDER.glob("*.jsonl")))
            raise self._error(key, f"is {value!r}, the package has {known}")
        return path

    def _model(self, value: str, key: str) -> str:
        """A folder relative to the recipe, which starts with a dot; built-in and hub names stay."""
        return str(self._beside(value, key)) if value.startswith(FOLDER_START) else value

    def _beside(self, value: str, key: str) -> Path:
        if "\0" in value:
            raise self._error(key, f"is {value!r:.80}, no path has a NUL character; leave it out")
        try:
            return self.folder / Path(value).expanduser()
        except RuntimeError:  # there is no such user
            raise self._error(
                key, f"is {value!r:.80}, whose home is not known; give the whole path"
            ) from None

    def _error(self, key: str, message: str) -> ConfigError:
        return ConfigError(f"{self.file}: {key or 'the recipe'} {message}")


def _example(name: str) -> str:
    return {
        "teachers": ': a [[teachers]] table with name, kind ("jaspertc", "use", ...) and its model',
        "texts": ": [[texts.files]] tables, each with a path",
        "files": ": [[texts.files]] tables, each with a path",
        "cache": ': [cache] with folder = "where vectors are kept"',
    }.get(name, "")
