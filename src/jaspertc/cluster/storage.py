"""Files in a folder on a path or an object store, over fsspec; each appears whole or not at all."""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from jaspertc.errors import DataFileError, MissingExtraError
from jaspertc.files.aside import ASIDE, unique_part, writing, written_aside

PARALLEL = 16

T = TypeVar("T")
R = TypeVar("R")


def open_url(url: str) -> tuple[Any, str]:
    """The file system of a path or URL, and the path on it.

    Raises:
        MissingExtraError: fsspec is not installed.
        DataFileError: the kind of URL is unknown, or its package is not installed.
    """
    try:
        import fsspec
    except ImportError as error:
        raise MissingExtraError("fsspec", "ray", "--engine ray") from error
    try:
        system, path = fsspec.core.url_to_fs(url)
    except (ImportError, ValueError) as error:
        raise DataFileError(
            f"{url} cannot be opened ({error}); install what its kind of URL needs"
        ) from error
    return system, str(path)


@dataclass(frozen=True)
class UrlFile:
    """A file on a path or URL, to be opened by the readers of ``jaspertc.files``."""

    url: str

    def __str__(self) -> str:
        return self.url

    @property
    def name(self) -> str:
        """Its last part."""
        return self.url.rstrip("/").rsplit("/", 1)[-1]

    def open(self, mode: str) -> Any:
        """A file of the URL's file system."""
        system, path = open_url(self.url)
        return system.open(path, mode)


def full_url(url: str) -> str:
    """The same, absolute and with its protocol, so that it means the same in every process."""
    system, path = open_url(url)
    return str(system.unstrip_protocol(path))


def is_local(url: str) -> bool:
    """Whether it names files of this machine."""
    protocol = open_url(url)[0].protocol
    return "file" in ((protocol,) if isinstance(protocol, str) else protocol)


def in_parallel(function: Callable[[T], R], items: Iterable[T]) -> list[R]:
    """Call ``function`` on each item, many at once, since an object store answers slowly; in order."""
    with ThreadPoolExecutor(PARALLEL) as threads:
        return list(threads.map(function, items))


class Folder:
    """A folder that is written by one command, from many processes.

    Args:
        url: a path or fsspec URL.

    Raises:
        DataFileError: here and below: it cannot be read or written.
    """

    def __init__(self, url: str) -> None:
        self.system, self.root = open_url(url)
        self.local = is_local(url)
        self.url = full_url(url)

    def path(self, name: str) -> str:
        """The path of a file on its file system."""
        return f"{self.root.rstrip('/')}/{name}"

    def read(self, name: str) -> bytes:
        """All of a file."""
        try:
            return bytes(self.system.cat_file(self.path(name)))
        except OSError as error:
            raise DataFileError(f"{self.url}/{name} cannot be read ({error})") from error

    def sizes(self, folder: str = "") -> dict[str, int]:
        """The files right in a folder and their bytes; none if there is no such folder."""
        path = self.path(folder) if folder else self.root
        self.system.invalidate_cache(path)
        try:
            entries = self.system.ls(path, detail=True)
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise DataFileError(f"{self.url} cannot be read ({error})") from error
        return {
            str(item["name"]).rsplit("/", 1)[-1]: item["size"] for item in entries if item["type"] == "file"
        }

    def write(self, name: str, content: bytes) -> None:
        """Put a file in place, whole: written under another name, then renamed.

        Two processes may write the same file at once: the last rename holds.
        """
        path = self.path(name)
        unique = unique_part()
        with writing(f"{self.url}/{name}"):
            self.system.makedirs(path.rsplit("/", 1)[0], exist_ok=True)
            if self.local:
                with written_aside(Path(path), unique=unique) as file:
                    file.write(content)
            else:
                self.system.pipe_file(f"{path}{unique}{ASIDE}", content)
                self.system.mv(f"{path}{unique}{ASIDE}", path)

    def remove(self, name: str) -> None:
        """Remove a file, if it is there."""
        try:
            self.system.rm_file(self.path(name))
        except FileNotFoundError:
            return
        except OSError as error:
            raise DataFileError(f"{self.url}/{name} could not be removed ({error})") from error
