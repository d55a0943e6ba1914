"""What a folder of cached vectors says of itself, and whether its files agree.

A folder holds for each shard ``shard-000000.npy`` (vectors, (n, E) float16), ``.keys.npy`` (hashes of ids
and contents, (n, 3) uint64; see ``keys.py``) and ``.ids.json`` (the ids), and ``manifest.json``: format,
identity of the teacher, and a checksum per file. A shard exists once the manifest lists it.
"""

from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np

from jaspertc.errors import CacheError
from jaspertc.files.aside import writing
from jaspertc.files.hashes import sha256_of
from jaspertc.files.json_files import read_json, write_json
from jaspertc.files.made_of import require_same

FORMAT = 1
MANIFEST = "manifest.json"
REPAIR = "restore it from a copy, or run `jaspertc teach RECIPE --repair` to compute its texts again"
KEPT = "run the same command again: finished shards are kept"
HEADER_BYTES = 4096


@dataclass(frozen=True, kw_only=True)
class Shard:
    """A shard as the manifest lists it: its rows, and the SHA-256 of its three files.

    ``texts`` is that of the keys, hence a hash of all ids and contents.
    """

    name: str
    rows: int
    vectors: str
    texts: str
    ids: str

    def paths(self, folder: Path) -> dict[str, Path]:
        """The files by the field that holds their checksum."""
        return shard_paths(folder, self.name)


def shard_paths(folder: Path, name: str) -> dict[str, Path]:
    """The files of the shard of a name: ``vectors``, ``texts`` (keys) and ``ids``."""
    endings = {"vectors": ".npy", "texts": ".keys.npy", "ids": ".ids.json"}
    return {part: folder / f"{name}{ending}" for part, ending in endings.items()}


@dataclass(frozen=True, kw_only=True)
class Manifest:
    """Whose vectors a folder holds, and its shards in the order of the rows."""

    identity: Mapping[str, Any]
    shards: tuple[Shard, ...] = ()

    @property
    def dims(self) -> int:
        """E, the width of the vectors."""
        return int(self.identity["dims"])

    @property
    def next_name(self) -> str:
        """The name of a shard to come."""
        return f"shard-{1 + max((int(shard.name[6:]) for shard in self.shards), default=-1):06d}"

    def write(self, folder: Path) -> None:
        """Put it in place, whole.

        Raises:
            CacheError: it could not be written.
        """
        shards = [asdict(shard) for shard in self.shards]
        content = {"format": FORMAT, "identity": dict(self.identity), "shards": shards}
        with writing(folder / MANIFEST, KEPT, CacheError):
            write_json(folder / MANIFEST, content)


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a folder.

    Raises:
        CacheError: it is missing, damaged, or of another format.
    """
    path = folder / MANIFEST
    if not path.exists():
        raise CacheError(f"there are no vectors in {folder}; run `jaspertc teach RECIPE`")
    content = read_json(path, f"restore it, or remove {folder}", CacheError)
    if isinstance(content, dict) and content.get("format") != FORMAT:
        raise CacheError(
            f"{path} has format {content.get('format')!r}, this version reads {FORMAT}; "
            f"remove {folder}, or use the version that wrote it"
        )
    try:
        shards = tuple(_shard(table) for table in content["shards"])
        manifest = Manifest(identity=dict(content["identity"]), shards=shards)
        if not (manifest.dims > 0 and len({shard.name for shard in shards}) == len(shards)):
            raise ValueError("a shard is listed twice, or dims is not positive")
    except (KeyError, TypeError, ValueError) as error:
        raise CacheError(f"{path} was edited ({error}); restore it, or remove {folder}") from error
    return manifest


def _shard(table: Mapping[str, Any]) -> Shard:
    shard = Shard(**table)
    for item in fields(Shard):
        if not isinstance(getattr(shard, item.name), int if item.name == "rows" else str):
            raise ValueError(f"{item.name} of a shard is {table[item.name]!r:.80}")
    if not (shard.name.startswith("shard-") and shard.name[6:].isdecimal() and shard.rows > 0):
        raise ValueError(f"a shard is named {shard.name!r:.80} with {shard.rows} rows")
    return shard


def damages(
    folder: Path, manifest: Manifest, *, checksums: bool = True
) -> Iterator[tuple[Shard, str | None]]:
    """Each shard and what is wrong with it, or ``None``, as they are read.

    Args:
        checksums: read all files; ``False`` compares the sizes, and the checksums of the keys only.
    """
    for shard in manifest.shards:
        yield shard, _damage(folder, shard, manifest.dims, checksums)


def _damage(folder: Path, shard: Shard, dims: int, checksums: bool) -> str | None:
    where = f"{shard.name} of {folder}"
    shapes = {"vectors": ((shard.rows, dims), 2), "texts": ((shard.rows, 3), 8)}
    try:
        for part, path in shard.paths(folder).items():
            if not path.is_file():
                return f"{where} lacks its file {path.name}; {REPAIR}"
            if part in shapes:
                shape, item_bytes = shapes[part]
                size, due = path.stat().st_size, shape[0] * shape[1] * item_bytes
                if size < due:
                    return f"{where} is truncated: {path.name} has {size} of over {due} bytes; {REPAIR}"
                actual = _shape(path)
                if actual is None:
                    return f"{where} is truncated, or {path.name} has a broken header; {REPAIR}"
                if actual != shape or size > due + HEADER_BYTES:
                    return f"{where} is misaligned: {path.name} has shape {actual}, {shape} is due; {REPAIR}"
            if (checksums or part == "texts") and sha256_of(path) != getattr(shard, part):
                return f"{where} was edited: {path.name} has another checksum than {MANIFEST} says; {REPAIR}"
    except OSError as error:
        return f"{where} cannot be read ({error}); {REPAIR}"
    return None


def _shape(path: Path) -> tuple[int, ...] | None:
    try:
        return tuple(np.load(path, mmap_mode="r", allow_pickle=False).shape)
    except (ValueError, EOFError):  # a header that is none
        return None


def require_same_teacher(folder: Path, earlier: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    """Raise CacheError, with what differs, unless both identities give the same vectors."""
    # A model with the same content is the same model, whatever its folder is called now.
    same_content = now.get("content hash") is not None and earlier.get("content hash") == now["content hash"]
    require_same(
        f"{folder} holds vectors of another teacher or setting",
        earlier,
        now,
        "change it back, name the teacher differently, or give another [cache] folder",
        error=CacheError,
        but=("model",) if same_content else (),
    )
