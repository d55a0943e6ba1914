"""Embedders and other processes: what a fork leaves behind, and how a pickled model is loaded again.

OpenMP's threads and the locks of native libraries do not survive a fork: a child that computes with them
waits for ever. So a fork waits until no other thread computes, and a forked child computes with one thread.
"""

import os
import threading
from concurrent.futures import thread  # noqa: F401  its lock must be registered for forks before ours
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast
from weakref import WeakValueDictionary

from jaspertc.errors import CheckpointError, InputError
from jaspertc.pytorch import HAS_TORCH, torch

if TYPE_CHECKING:
    from jaspertc.engine.embedder import Embedder
    from jaspertc.engine.options import LoadArguments

LONGEST_WAIT = 60.0  # seconds that a fork waits for other threads; then it goes on without them


class Computing:
    """``with computing:`` stands around everything that runs in native libraries; it nests."""

    def __init__(self) -> None:
        self._own = threading.local()  # of this thread: how deep it is inside, whether it was set up
        self._changed = threading.Condition()
        self._threads = 0  # that are inside
        self._forks = 0  # that wait
        self._is_child = False
        if hasattr(os, "register_at_fork"):  # not on Windows
            os.register_at_fork(
                before=self._wait, after_in_parent=self._release, after_in_child=self._start_again
            )

    def __enter__(self) -> None:
        if self._is_child and not hasattr(self._own, "one_thread"):
            self._own.one_thread = True
            if HAS_TORCH:
                torch.set_num_threads(1)  # of this very thread, whose OpenMP team may be the parent's
            os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")  # off in any case, but with a warning
        depth = self._depth
        if not depth:
            with self._changed:
                self._changed.wait_for(lambda: not self._forks, LONGEST_WAIT)
                self._threads += 1
        self._own.depth = depth + 1

    def __exit__(self, *_: object) -> None:
        self._own.depth -= 1
        if not self._own.depth:
            with self._changed:
                self._threads -= 1
                self._changed.notify_all()

    @property
    def _depth(self) -> int:
        return getattr(self._own, "depth", 0)

    def _wait(self) -> None:
        """Until no thread but this one is inside; holds the lock until the fork is done."""
        self._changed.acquire()
        self._forks += 1
        self._changed.wait_for(lambda: self._threads == bool(self._depth), LONGEST_WAIT)
        self._forks -= 1

    def _release(self) -> None:
        self._changed.notify_all()
        self._changed.release()

    def _start_again(self) -> None:
        self._changed = threading.Condition()
        self._threads = int(bool(self._depth))
        self._forks = 0
        self._is_child = True


computing = Computing()


class Origin(NamedTuple):
    """Where an embedder was loaded from, by which other processes know it.

    Attributes:
        name: as it was given.
        folder: the folder it stood for.
        arguments: those of ``Embedder.load`` that were given.
        stamps: of the files that were read.
    """

    name: str
    folder: Path
    arguments: tuple[tuple[str, Any], ...]
    stamps: tuple[tuple[str, int, int, int], ...]


_loaded: "WeakValueDictionary[Origin, Embedder]" = WeakValueDictionary()


def remember(embedder: "Embedder") -> None:
    """Give the embedder to whoever unpickles one of its origin, as long as it lives."""
    assert embedder.origin is not None
    _loaded[embedder.origin] = embedder


def pickled(embedder: "Embedder") -> tuple[Any, ...]:
    """What stands for an embedder in a pickle.

    Raises:
        InputError: it was not loaded from a folder.
        CheckpointError: the folder was changed since it was loaded.
    """
    if embedder.origin is None:
        raise InputError(
            f"{embedder!r} was made in memory, other processes cannot load it; write it with "
            "save_checkpoint, and Embedder.load the folder"
        )
    return loaded_again, (type(embedder), embedder.origin, embedder.fingerprint)


def loaded_again(kind: "type[Embedder]", origin: Origin, fingerprint: str) -> "Embedder":
    """The embedder that was pickled: the one of this process, or one loaded from the same folder or name.

    Raises:
        CheckpointError: the model is not here, or has other weights, tokens or settings than the pickled one.
    """
    return _loaded.get(origin) or _load_again(kind, origin, fingerprint)  # type: ignore[arg-type]


@lru_cache(maxsize=1)  # a pool's worker unpickles its function with each piece of its work
def _load_again(kind: "type[Embedder]", origin: Origin, fingerprint: str) -> "Embedder":
    name = origin.folder if origin.folder.is_dir() else origin.name
    found = kind.load(name, **cast("LoadArguments", dict(origin.arguments)))
    if found.fingerprint != fingerprint:
        raise CheckpointError(
            f"{name} is another model than the one that was pickled (fingerprint {found.fingerprint}, not "
            f"{fingerprint}); load it again where it is pickled"
        )
    found.checkpoint.name, found.origin = origin.name, origin
    return found
