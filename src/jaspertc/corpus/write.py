"""Blocks of vectors kept aside until all are there, so that a killed run loses no finished block.

``OUT.partial/`` holds one file for each finished block, with its number and rows in its name, and
``state.json``, which says what the blocks were made of. A file there, and OUT itself, appears whole or
not at all: it is written under another name, flushed to disk and renamed.
"""

import json
import os
import re
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any, Self

import numpy as np

from jaspertc.corpus.formats import Block, check_output, write_output
from jaspertc.errors import DataFileError
from jaspertc.files.aside import sync_folder, writing, written_aside
from jaspertc.files.lock import LOCK, locked
from jaspertc.files.made_of import MADE_OF, require_same
from jaspertc.files.texts import Id
from jaspertc.types import VectorArray

STATE, ASSEMBLED = "state.json", "assembled"
FORMAT = 1
STDIN_NAME = "standard input"
BLOCK_NAME = re.compile(r"block-(\d{9})-(\d+)\.npz")
OURS = re.compile(rf"({BLOCK_NAME.pattern}|state\.json|assembled)(\.tmp)?|lock")

Setting = str | int | float | None


class BlockStore:
    """Finished blocks of one run, and the output made of them. Use as a context manager.

    Args:
        output: the file to make; ``.npy``, ``.jsonl`` or ``.parquet``.
        settings: what the vectors depend on, by the name that messages call it.
        source: what tells whether the input is the same (see ``source_identity``); ``None`` for an input
            that cannot be read twice, whose blocks are never taken up again.
        resume: take up the blocks of an earlier run; ``False`` removes them.
        overwrite: replace ``output`` if it is there.

    Attributes:
        rows: number of texts in the finished blocks.
        finished: an earlier run was killed after it had put ``output`` in place; nothing is left to do.

    Raises:
        DataFileError: ``output`` is there already or cannot be written, another run is writing it, or
            there are blocks of other settings or another input; the message says which.
    """

    def __init__(
        self,
        output: Path,
        settings: Mapping[str, Setting],
        source: Mapping[str, Setting] | None,
        *,
        resume: bool = True,
        overwrite: bool = False,
    ) -> None:
        check_target(output, overwrite=overwrite)
        self.output = output
        self.folder = partial_folder(output)
        self.resumable = source is not None
        self.state: dict[str, Any] = {
            "format": FORMAT,
            MADE_OF: {**settings, **(source or {"input": STDIN_NAME})},
        }
        self.finished = False
        self._names: list[str] = []
        self._locks = ExitStack()
        try:
            self._open(resume, overwrite)
        except BaseException:
            self._unlock()
            raise
        self.rows = sum(_rows_of(name) for name in self._names)

    def _open(self, resume: bool, overwrite: bool) -> None:
        with self._writing():
            self.folder.mkdir(exist_ok=True)
        foreign = sorted(path.name for path in self.folder.iterdir() if not OURS.fullmatch(path.name))
        if foreign:
            raise DataFileError(
                f"{self.folder} holds {foreign[0]!r}, which this command has not written; move that folder"
            )
        self._locks.enter_context(locked(self.folder, target=self.output, error=DataFileError))
        earlier = _read_state(self.folder)
        names = _block_names(self.folder)
        made_of = earlier.get(MADE_OF, {})
        same = made_of == self.state[MADE_OF] and earlier.get("format") == FORMAT
        if names and resume and not same and made_of.get("input") != STDIN_NAME:
            holds = f"{self.folder} holds {len(names)} finished blocks of another run"
            fix = "run with --no-resume to start over"
            if earlier.get("format") == FORMAT and MADE_OF in earlier:
                require_same(holds, made_of, self.state[MADE_OF], fix)
            raise DataFileError(
                f"{holds}: its state.json is missing or of another version of this program; {fix}"
            )
        go_on = same and resume and self.resumable
        if go_on and _is_finished(self.output, earlier):
            self.finished = True
            self._names = earlier["finished"]["names"]
            return
        if not overwrite:
            _check_absent(self.output)
        if go_on:
            self._names = names
        else:
            self._clear()
        self._write_state()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Keep the blocks if there is anything to take up again."""
        if not self.finished and not (self.resumable and self._names):
            self._remove_folder()
        self._unlock()

    @property
    def blocks(self) -> int:
        """Number of finished blocks."""
        return len(self._names)

    def add(self, vectors: VectorArray, ids: Sequence[Id] | None) -> None:
        """Finish a block: after this a killed run goes on behind it.

        Args:
            vectors: shape (n, E), n >= 1; E and type as in the blocks before.
            ids: n ids, or ``None`` for texts without.

        Raises:
            DataFileError: it could not be written; the disk is full, for example.
        """
        assert len(vectors)
        assert ids is None or len(ids) == len(vectors)
        name = f"block-{len(self._names):09d}-{len(vectors)}.npz"
        with self._writing(), written_aside(self.folder / name) as file:
            _save_block(file, Block(vectors, None if ids is None else list(ids)))
        self._names.append(name)
        self.rows += len(vectors)

    def finish(self, no_vectors: VectorArray) -> None:
        """Make the output of the blocks, put it in place and remove what was kept aside.

        Args:
            no_vectors: shape (0, E), gives width and type where there is no block.

        Raises:
            DataFileError: it could not be written; the blocks are kept.
        """
        if not self.finished:
            assembled = self.folder / ASSEMBLED
            with self._writing():
                with written_aside(assembled) as file:
                    write_output(file, self.output, self._read, range(self.blocks), self.rows, no_vectors)
                # Recorded before the rename: killed after it, the next run finds the output to be its own.
                status = assembled.stat()
                finished = {"size": status.st_size, "changed": status.st_mtime_ns, "names": self._names}
                self.state["finished"] = finished
                self._write_state()
                os.replace(assembled, self.output)
                sync_folder(self.output.parent)
        self.finished = True
        self._remove_folder()

    def _read(self, index: int, ids_only: bool = False) -> Block:
        path = self.folder / self._names[index]
        try:
            with np.load(path, allow_pickle=False) as stored:
                ids = json.loads(stored["ids"].tobytes())
                vectors = np.empty((0, 0), np.float32) if ids_only else stored["vectors"]
                return Block(vectors, ids)
        except Exception as error:  # whatever zipfile, numpy and json raise for damaged bytes
            raise DataFileError(f"{path} is damaged ({error}); run with --no-resume to start over") from error

    def _write_state(self) -> None:
        with self._writing(), written_aside(self.folder / STATE) as file:
            file.write(json.dumps(self.state, indent=1).encode())

    def _clear(self) -> None:
        """Remove all but the lock: the last blocks first, so that those left are always the first ones,
        and the state last, since the blocks mean nothing without it."""
        self._names = []
        with self._writing():
            names = [path.name for path in self.folder.iterdir() if path.name != LOCK]
            for name in sorted(names, key=lambda name: (name != STATE, name), reverse=True):
                (self.folder / name).unlink(missing_ok=True)

    def _remove_folder(self) -> None:
        names = self._names
        self._clear()
        self._names = names
        self._unlock()
        with suppress(OSError):  # another run may have come for the folder since
            (self.folder / LOCK).unlink(missing_ok=True)
            self.folder.rmdir()

    def _unlock(self) -> None:
        self._locks.close()

    def _writing(self) -> AbstractContextManager[None]:
        again = "run the command again"
        if self.resumable and self._names:
            again = (
                f"{len(self._names)} finished blocks are kept in {self.folder}: run the same command again"
            )
        return writing(self.output, again)


def partial_folder(output: Path) -> Path:
    """Where the blocks of ``output`` are kept until it is made."""
    return output.with_name(f"{output.name}.partial")


def check_target(output: Path, *, overwrite: bool) -> None:
    """Find out early whether ``output`` could be made.

    Raises:
        DataFileError: it has an unknown ending, its folder is missing or cannot be written, or it is there
            and neither ``overwrite`` is set nor is it the work of a run that was killed at its very end.
    """
    check_output(output)
    if not output.parent.is_dir():
        raise DataFileError(f"{output.parent} is no folder; make it first, or give another --output")
    if not os.access(output.parent, os.W_OK):
        raise DataFileError(f"{output.parent} cannot be written to; give another --output")
    if output.is_dir():
        raise DataFileError(f"{output} is a folder; give a file name in --output")
    if output.exists() and not overwrite:
        folder = partial_folder(output)
        if not (folder.is_dir() and _is_finished(output, _read_state(folder))):
            _check_absent(output)


def _check_absent(output: Path) -> None:
    if output.exists():
        raise DataFileError(f"{output} exists already; give another --output, or --overwrite to replace it")


def _is_finished(output: Path, state: Mapping[str, Any]) -> bool:
    """Whether ``output`` is the very file that the run with this state made."""
    finished = state.get("finished")
    if finished is None or not output.exists():
        return False
    status = output.stat()
    return (status.st_size, status.st_mtime_ns) == (finished["size"], finished["changed"])


def _read_state(folder: Path) -> dict[str, Any]:
    try:
        state = json.loads((folder / STATE).read_bytes())
    except (OSError, ValueError):
        return {}
    return state if isinstance(state, dict) else {}


def _block_names(folder: Path) -> list[str]:
    """The finished blocks, as far as they follow each other from the first on."""
    names = sorted(path.name for path in folder.iterdir() if BLOCK_NAME.fullmatch(path.name))
    return [name for index, name in enumerate(names) if name.startswith(f"block-{index:09d}-")]


def _rows_of(name: str) -> int:
    match = BLOCK_NAME.fullmatch(name)
    assert match
    return int(match[2])


def _save_block(file: IO[bytes], block: Block) -> None:
    ids = np.frombuffer(json.dumps(block.ids).encode(), np.uint8)
    np.savez(file, vectors=block.vectors, ids=ids)
