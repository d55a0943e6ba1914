"""Which files are which tasks: ``tasks.toml``, or the names of folders."""

import tomllib
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Literal

from jaspertc.errors import ConfigError, DataFileError, InputError
from jaspertc.files.json_lines import SUFFIXES
from jaspertc.recipe.reader import Reader

TABLE = "tasks.toml"
SAMPLES = Path(__file__).parent.parent / "samples" / "evaluation"
FOLDERS = ("sts", "pair", "classification", "clustering", "bitext", "retrieval")
LONG = "long"

Kind = Literal["sts", "pair", "classification", "clustering", "bitext", "retrieval", "long-retrieval"]


@dataclass(frozen=True, kw_only=True)
class LocalTask:
    """One task of a folder; a ``[[tasks]]`` table of ``tasks.toml``.

    Args:
        name: what results call it.
        kind: which of mteb's kinds of task it is; ``long-retrieval`` is retrieval, reported apart.
        path: its file, for retrieval its folder; relative to the folder of the tasks.
        split: only rows with this ``split`` are scored; ``all``: every row. Default: ``test``, else ``dev``,
            ``valid`` or ``validation``, whichever the file has, else every row (of
            classification: but those of ``train``).
        prompt: the instruction given to models that follow instructions.
        mteb: name of the MTEB task that this is the data of: its name, prompt and settings are used, and its
            published scores compared. Only for data that are those of that task.
    """

    name: str
    kind: Kind
    path: str
    split: str | None = None
    prompt: str = ""
    mteb: str | None = None


@dataclass(frozen=True, kw_only=True)
class LocalTasks:
    """A whole ``tasks.toml``. ``folder`` is where paths start; default: the file's own."""

    tasks: tuple[LocalTask, ...]
    folder: Path | None = None

    def __post_init__(self) -> None:
        names = [task.name for task in self.tasks]
        for name in names:
            if names.count(name) > 1:
                raise ConfigError(f"the task name {name!r} is used twice; names must differ")


def read_local_tasks(folder: Path = SAMPLES) -> tuple[Path, tuple[LocalTask, ...]]:
    """The folder of the tasks, and the tasks.

    Args:
        folder: a folder, or a TOML file such as ``tasks.toml``.

    Raises:
        DataFileError: there is no such folder, or nothing in it is a task.
        ConfigError: the TOML file has an unknown, missing or wrong key.
    """
    if folder.is_dir():
        table = folder / TABLE
        return _from_table(table) if table.is_file() else (folder, _from_names(folder))
    if not folder.is_file():
        raise DataFileError(
            f"{folder} does not exist; give a folder of tasks or a TOML file with [[tasks]] tables"
        )
    return _from_table(folder)


def choose(tasks: tuple[LocalTask, ...], names: list[str]) -> tuple[LocalTask, ...]:
    """The tasks with these names, in the order of ``tasks``; all of them for no names.

    Raises:
        InputError: there is no task of a name; the nearest ones are named.
    """
    known = [task.name for task in tasks]
    for name in names:
        if name not in known:
            raise unknown(name, known)
    return tuple(task for task in tasks if not names or task.name in names)


def unknown(name: str, known: list[str], what: str = "task") -> InputError:
    """The error for a name that is none of the known ones."""
    near = get_close_matches(name, known, n=3, cutoff=0.5)
    if not near:
        near = [item for item in known if name.lower() in item.lower()][:3]
    hint = f"did you mean {' or '.join(near)}?" if near else f"there are {', '.join(known[:8])}"
    return InputError(f"unknown {what} {name!r}; {hint}")


def _from_table(file: Path) -> tuple[Path, tuple[LocalTask, ...]]:
    try:
        content = tomllib.loads(file.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise ConfigError(f"{file} cannot be read as TOML: {error}") from error
    read = Reader(file, {}).section(LocalTasks, content, "")
    return read.folder or file.parent, read.tasks


def _from_names(folder: Path) -> tuple[LocalTask, ...]:
    tasks: list[LocalTask] = []
    for kind in FOLDERS:
        for path in sorted((folder / kind).glob("*")):
            name = path.name
            if kind == "retrieval" and path.is_dir():
                long = name.startswith(LONG)
                tasks.append(_named(name, "long-retrieval" if long else "retrieval", path, folder))
            elif kind != "retrieval" and name.endswith(SUFFIXES):
                tasks.append(_named(name.split(".jsonl")[0], kind, path, folder))
    if not tasks:
        raise DataFileError(
            f"{folder} holds no tasks; it needs a {TABLE}, or folders named {', '.join(FOLDERS)} with data"
        )
    return LocalTasks(tasks=tuple(tasks)).tasks


def _named(name: str, kind: str, path: Path, folder: Path) -> LocalTask:
    return LocalTask(name=name, kind=kind, path=path.relative_to(folder).as_posix())  # type: ignore[arg-type]
