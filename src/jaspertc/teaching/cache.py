"""Vectors of one teacher and prompt on disk, by the ids of their texts. ``manifest.py`` has the layout.

Shape legend: N texts, n rows of a shard, E width of the vectors.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt

from jaspertc.errors import CacheError, DuplicateError
from jaspertc.files.aside import ASIDE, writing, written_aside
from jaspertc.files.hashes import sha256_of
from jaspertc.files.lock import locked
from jaspertc.teaching.keys import KeyIndex, keys_of
from jaspertc.teaching.manifest import (
    KEPT,
    MANIFEST,
    REPAIR,
    Manifest,
    Shard,
    damages,
    read_manifest,
    require_same_teacher,
    shard_paths,
)
from jaspertc.types import BoolArray, FloatArray, IntArray, KeyArray

STORED = "float16"


class VectorCache:
    """Cached vectors, memory-mapped.

    Args:
        folder: where they are.
        verify: compare the checksums of all files; ``False`` compares sizes, and checksums of the keys only.

    Raises:
        CacheError: there is no cache, or a shard is missing, truncated or edited; it is named.
    """

    def __init__(self, folder: str | Path, *, verify: bool = True) -> None:
        self.folder = Path(folder)
        self.manifest = read_manifest(self.folder)
        for _, damage in damages(self.folder, self.manifest, checksums=verify):
            if damage is not None:
                raise CacheError(damage)
        self.starts = np.cumsum([0, *(shard.rows for shard in self.manifest.shards)])
        self._maps: dict[int, npt.NDArray[np.float16]] = {}

    def __len__(self) -> int:
        return int(self.starts[-1])

    @property
    def identity(self) -> Mapping[str, Any]:
        """Whose vectors they are: model, content hash, prompt, maximum length, pooling, dims, dtype ..."""
        return self.manifest.identity

    @property
    def content_identity(self) -> Mapping[str, Any]:
        """The same without the model's name where its content is known: a folder may be renamed."""
        known = self.identity.get("content hash") is not None
        return {key: value for key, value in self.identity.items() if not (known and key == "model")}

    @property
    def dims(self) -> int:
        """E, the width of the vectors."""
        return self.manifest.dims

    @cached_property
    def keys(self) -> KeyArray:
        """Keys of all rows, shape (N, 3)."""
        tables = [np.load(shard.paths(self.folder)["texts"]) for shard in self.manifest.shards]
        return np.concatenate([np.zeros((0, 3), "<u8"), *tables])

    @cached_property
    def index(self) -> KeyIndex:
        """Rows by id.

        Raises:
            CacheError: two rows have one id.
        """
        try:
            return KeyIndex(self.keys)
        except DuplicateError as error:
            name, shards = self.id_of(error.rows[0]), [self.shard_of(row).name for row in error.rows]
            raise CacheError(
                f"{self.folder}: id {name!r} is both in {shards[0]} and {shards[1]}; {REPAIR}"
            ) from error

    def ids(self) -> Iterator[str]:
        """All ids, in the order of the rows."""
        for shard in self.manifest.shards:
            yield from _ids(self.folder, shard)

    def id_of(self, row: int) -> str:
        """The id of a row."""
        number = self._number(row)
        return _ids(self.folder, self.manifest.shards[number])[row - int(self.starts[number])]

    def shard_of(self, row: int) -> Shard:
        """The shard that holds a row."""
        return self.manifest.shards[self._number(row)]

    def _number(self, row: int) -> int:
        return int(np.searchsorted(self.starts, row, side="right")) - 1

    def covers(self, keys: KeyArray) -> BoolArray:
        """Which texts have a vector: keys with contents, (M, 3) -> (M,).

        Raises:
            CacheError: a text has changed since its vector was made; its shard and id are named.
        """
        rows, found = self.index.find(keys)
        changed = np.flatnonzero(found)
        changed = changed[self.keys[rows[changed], 2] != keys[changed, 2]]
        if len(changed):
            row = int(rows[changed[0]])
            raise CacheError(
                f"{self.shard_of(row).name} of {self.folder}: the text of id {self.id_of(row)!r} has changed "
                f"since its vector was made (so have {len(changed) - 1} others); "
                "give changed texts new ids, or another [cache] folder"
            )
        return found

    def vectors(self, ids: Sequence[str], dtype: npt.DTypeLike = np.float32) -> FloatArray:
        """Vectors of texts in the order given.

        Args:
            ids: N ids, in any order, also repeated.
            dtype: ``float32`` or ``float16``.

        Returns:
            Shape (N, E).

        Raises:
            CacheError: a text has no vector; its id is named.
        """
        rows, found = self.index.find(keys_of(ids))
        missing = np.flatnonzero(~found)
        if len(missing):
            raise CacheError(
                f"{self.folder} has no vector of text {ids[int(missing[0])]!r} ({len(missing)} of {len(ids)} "
                "texts have none); run `jaspertc teach RECIPE` with these texts in [texts]"
            )
        return self.take(rows, dtype)

    def vectors_of(self, keys: KeyArray, dtype: npt.DTypeLike = np.float32) -> FloatArray:
        """Vectors of texts that ``covers`` has found, by key: (N, 3) -> (N, E)."""
        return self.take(self.index.find(keys)[0], dtype)

    def take(self, rows: IntArray, dtype: npt.DTypeLike = np.float32) -> FloatArray:
        """Vectors by row number, shape (N,) -> (N, E)."""
        result: FloatArray = np.empty((len(rows), self.dims), dtype=dtype)
        numbers = np.searchsorted(self.starts, rows, side="right") - 1
        order = np.argsort(numbers, kind="stable")
        for rows_of_shard in np.split(order, np.flatnonzero(np.diff(numbers[order])) + 1):
            if len(rows_of_shard):
                number = int(numbers[rows_of_shard[0]])
                result[rows_of_shard] = self._map(number)[rows[rows_of_shard] - self.starts[number]]
        return result

    def _map(self, number: int) -> npt.NDArray[np.float16]:
        if number not in self._maps:
            path = self.manifest.shards[number].paths(self.folder)["vectors"]
            self._maps[number] = np.load(path, mmap_mode="r", allow_pickle=False)
        return self._maps[number]


class CacheWriter:
    """Adds shards to a cache, or starts one. Use as a context manager: one writer a folder at a time.

    Args:
        folder: made if it is not there.
        identity: whose vectors these are; ``dims`` in it is E.
        repair: forget damaged shards instead of refusing them.

    Attributes:
        cache: what is there at the start.

    Raises:
        CacheError: on entering: another writer is there, the cache has another identity (the message says
            what differs), or a shard is damaged.
    """

    cache: VectorCache

    def __init__(self, folder: Path, identity: Mapping[str, Any], *, repair: bool = False) -> None:
        self.folder = folder
        self.manifest = Manifest(identity={**identity, "dtype": STORED})
        self.repair = repair
        self._stack = ExitStack()

    def __enter__(self) -> Self:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            self._stack.enter_context(locked(self.folder))
            for path in self.folder.glob(f"*{ASIDE}"):
                path.unlink()
            self._open()
        except OSError as error:
            self._stack.close()
            raise CacheError(
                f"{self.folder} cannot be used ({error}); give another [cache] folder"
            ) from error
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    def _open(self) -> None:
        if not (self.folder / MANIFEST).exists():
            orphans = sorted(path.name for path in self.folder.glob("shard-*"))
            if orphans:
                raise CacheError(
                    f"{self.folder} has {orphans[0]} but no {MANIFEST}; restore it, or remove the folder"
                )
            self.manifest.write(self.folder)
        manifest = read_manifest(self.folder)
        require_same_teacher(self.folder, manifest.identity, self.manifest.identity)
        if self.repair:
            manifest = self._without_damaged(manifest)
        self.cache = VectorCache(self.folder)
        self.manifest = replace(self.manifest, shards=manifest.shards)

    def _without_damaged(self, manifest: Manifest) -> Manifest:
        damaged = [shard for shard, wrong in damages(self.folder, manifest) if wrong is not None]
        if damaged:
            manifest = replace(
                manifest, shards=tuple(shard for shard in manifest.shards if shard not in damaged)
            )
            manifest.write(self.folder)
            for shard in damaged:
                for path in shard.paths(self.folder).values():
                    path.unlink(missing_ok=True)
        return manifest

    def add(self, ids: Sequence[str], keys: KeyArray, vectors: FloatArray) -> None:
        """Make a shard; once this returns it is there for good.

        Args:
            ids: n >= 1 ids, none of which is in the cache.
            keys: their keys, shape (n, 3).
            vectors: shape (n, E), finite in float16.

        Raises:
            CacheError: it could not be written.
        """
        assert vectors.shape == (len(keys), self.manifest.dims)
        assert 0 < len(ids) == len(keys)
        name = self.manifest.next_name
        paths = shard_paths(self.folder, name)
        with writing(self.folder, KEPT, CacheError):
            with written_aside(paths["vectors"]) as file:
                np.save(file, np.ascontiguousarray(vectors, dtype="<f2"))
            with written_aside(paths["texts"]) as file:
                np.save(file, np.ascontiguousarray(keys, dtype="<u8"))
            with written_aside(paths["ids"]) as file:
                file.write(json.dumps(list(ids)).encode())
        sums = {part: sha256_of(path) for part, path in paths.items()}
        shard = Shard(name=name, rows=len(ids), **sums)
        self.manifest = replace(self.manifest, shards=(*self.manifest.shards, shard))
        self.manifest.write(self.folder)


def _ids(folder: Path, shard: Shard) -> list[str]:
    return [str(name) for name in json.loads(shard.paths(folder)["ids"].read_bytes())]
