"""Vectors of a corpus as a folder of parquet shards, one for each unit of the corpus.

    OUT/shard-000012.parquet    ids and vectors of unit 12; none where no row of it is sound
    OUT/_done/shard-000012.json what the shard holds, its checksum, and the rows that got no vector
    OUT/_manifest.json          what the vectors were made of; at the end: all shards with checksums
    OUT/_bad.jsonl              the rows without a vector: where, id, reason

A shard is there once its file in ``_done`` is. Readers of parquet folders pass over names with ``_``.
"""

import hashlib
import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jaspertc.cluster.reading import DUPLICATE, Bad
from jaspertc.cluster.storage import Folder, in_parallel
from jaspertc.corpus.formats import Block, write_output
from jaspertc.errors import DataFileError
from jaspertc.files.aside import ASIDE
from jaspertc.files.hashes import hash_of
from jaspertc.files.lock import LOCK
from jaspertc.files.made_of import MADE_OF, require_same
from jaspertc.files.made_of import made_of as as_stored
from jaspertc.files.texts import Id
from jaspertc.types import VectorArray

FORMAT = 1
MANIFEST, BAD, DONE, TRIES = "_manifest.json", "_bad.jsonl", "_done", "_tries"
FORMAT_KEY = "format"


@dataclass(frozen=True, kw_only=True)
class Shard:
    """What a shard holds.

    Args:
        number: of its unit.
        rows: vectors in it; 0 where there is no file.
        size: bytes of the file.
        sha256: of the file.
        tokens: of its texts, before compression.
        compressed: after it.
        bad: rows of the unit that got no vector.
    """

    number: int
    rows: int = 0
    size: int = 0
    sha256: str = ""
    tokens: int = 0
    compressed: int = 0
    bad: Sequence[Bad] = field(default_factory=tuple)

    @property
    def name(self) -> str:
        """The file's name."""
        return f"shard-{self.number:06d}.parquet"

    @property
    def note(self) -> str:
        """The name of the file that says it is there."""
        return f"{DONE}/shard-{self.number:06d}.json"


def write_shard(folder: Folder, shard: Shard, vectors: VectorArray, ids: Sequence[Id]) -> Shard:
    """Put a shard in place, then the note that it is there. ``shard`` says what the file does not.

    Args:
        vectors: shape (n, E).
        ids: n ids, all strings or all integers.
    """
    if len(ids):
        block = Block(vectors, list(ids))
        buffer = io.BytesIO()
        write_output(buffer, Path(shard.name), _only(block), [0], len(ids), vectors[:0])
        content = buffer.getvalue()
        folder.write(shard.name, content)
        sha256 = hashlib.sha256(content).hexdigest()
        shard = replace(shard, rows=len(ids), size=len(content), sha256=sha256)
    folder.write(shard.note, json.dumps(asdict(shard)).encode())
    return shard


def _only(block: Block) -> Any:
    return lambda index, ids_only=False: block


def read_shard(folder: Folder, shard: Shard) -> Block:
    """Its vectors, shape (n, E), and ids.

    Raises:
        DataFileError: the file is damaged.
    """
    import pyarrow
    import pyarrow.parquet

    try:
        table = pyarrow.parquet.read_table(pyarrow.BufferReader(folder.read(shard.name)))
        vectors = table["embedding"].combine_chunks()
        width = vectors.type.list_size
        values = vectors.values.to_numpy(zero_copy_only=False).reshape(-1, width)
        return Block(values, table["id"].to_pylist())
    except (ValueError, KeyError) as error:
        raise DataFileError(
            f"{folder.url}/{shard.name} is damaged ({error}); remove it and run again"
        ) from error


def _ids_of(folder: Folder, shard: Shard) -> list[Id]:
    import pyarrow.parquet

    with folder.system.open(folder.path(shard.name), "rb") as file:
        return list(pyarrow.parquet.read_table(file, columns=["id"])["id"].to_pylist())


class Output:
    """The folder of one command, taken up again if it is there.

    Args:
        url: a path or fsspec URL.
        made_of: what the vectors depend on, by the name that messages call it.
        resume: take up the shards of an earlier run; ``False`` removes them.

    Attributes:
        shards: those that are there, by the number of their unit.

    Raises:
        DataFileError: the folder holds something else, or shards that were made of something else; the
            message says of what.
    """

    def __init__(self, url: str, made_of: Mapping[str, Any], *, resume: bool = True) -> None:
        self.folder = Folder(url)
        self.made_of = as_stored(made_of)
        self.shards: dict[int, Shard] = {}
        there = self.folder.sizes()
        ours = ("_", "shard-") if MANIFEST in there else "_"  # the manifest is written before any shard
        foreign = [name for name in there if not name.startswith(ours)]
        if foreign:
            raise DataFileError(
                f"{self.folder.url} holds {sorted(foreign)[0]!r}, which this command has not written; give "
                "another --output"
            )
        if MANIFEST in there and resume:
            self._compare(json.loads(self.folder.read(MANIFEST)))
            self._take_up(there)
        else:
            self._clear(there)
        self._write_manifest([], {}, complete=False)

    def _compare(self, earlier: Mapping[str, Any]) -> None:
        before = {FORMAT_KEY: earlier.get(FORMAT_KEY), **earlier.get(MADE_OF, {})}
        require_same(
            f"{self.folder.url} holds vectors of another run",
            before,
            {FORMAT_KEY: FORMAT, **self.made_of},
            "give another --output, or --no-resume to start over",
        )

    def _take_up(self, there: Mapping[str, int]) -> None:
        notes = self.folder.sizes(DONE)
        finished = sorted(name for name in notes if name.endswith(".json"))
        for shard in in_parallel(self._read_note, finished):
            if not shard.rows or there.get(shard.name) == shard.size:
                self.shards[shard.number] = shard
        for name in there:
            if name.endswith(ASIDE) and name.startswith(("shard-", MANIFEST, BAD)):
                self.folder.remove(name)
        for folder, names in ((DONE, notes), (TRIES, self.folder.sizes(TRIES))):
            for name in names:
                if folder == TRIES or name.endswith(ASIDE):
                    self.folder.remove(f"{folder}/{name}")

    def _read_note(self, name: str) -> Shard:
        table = json.loads(self.folder.read(f"{DONE}/{name}"))
        return Shard(**{**table, "bad": [Bad(*row) for row in table["bad"]]})

    def _clear(self, there: Mapping[str, int]) -> None:
        """Notes first: a shard without one is not there."""
        for folder in (DONE, TRIES):
            names = [f"{folder}/{name}" for name in self.folder.sizes(folder) if name != LOCK]
            in_parallel(self.folder.remove, names)
        in_parallel(self.folder.remove, [name for name in there if name.startswith("shard-")])

    def drop_duplicates(self) -> int:
        """Keep the first of all rows with one id, and write the others down; how many were dropped.

        A shard that loses a row is written again. 16 bytes of memory a text.
        """
        ordered = [self.shards[number] for number in sorted(self.shards) if self.shards[number].rows]
        tables = in_parallel(lambda shard: _hashes(_ids_of(self.folder, shard)), ordered)
        hashes = np.concatenate([np.zeros(0, np.uint64), *tables])
        order = np.argsort(hashes, kind="stable")
        same = np.flatnonzero(hashes[order[1:]] == hashes[order[:-1]])
        if not len(same):
            return 0
        rows = np.unique(np.concatenate([order[same], order[same + 1]]))
        starts = np.cumsum([0, *(len(table) for table in tables)])
        shards = np.searchsorted(starts, rows, side="right") - 1
        seen: set[Id] = set()
        dropped = 0
        for place in np.unique(shards).tolist():
            shard = ordered[place]
            wrong: list[int] = []
            ids = _ids_of(self.folder, shard)
            for row in (rows[shards == place] - starts[place]).tolist():
                if ids[row] in seen:
                    wrong.append(row)
                seen.add(ids[row])
            if wrong:
                self._rewrite(shard, read_shard(self.folder, shard), wrong)
                dropped += len(wrong)
        return dropped

    def _rewrite(self, shard: Shard, block: Block, wrong: list[int]) -> None:
        self.folder.remove(shard.note)  # killed from here on, the next run makes the shard anew
        ids = block.ids or []
        keep = np.setdiff1d(np.arange(len(ids)), wrong)
        bad = [*shard.bad, *(Bad(shard.name, ids[row], DUPLICATE) for row in wrong)]
        if not len(keep):
            shard = Shard(number=shard.number, tokens=shard.tokens, compressed=shard.compressed)
        self.shards[shard.number] = write_shard(
            self.folder, replace(shard, bad=bad), block.vectors[keep], [ids[row] for row in keep.tolist()]
        )
        if not len(keep):
            self.folder.remove(shard.name)

    def finish(self) -> dict[str, int]:
        """Write the list of bad rows and the manifest; gives how many rows are bad, by reason."""
        shards = [self.shards[number] for number in sorted(self.shards)]
        bad = [row for shard in shards for row in shard.bad]
        counts: dict[str, int] = {}
        for row in bad:
            counts[row.reason] = counts.get(row.reason, 0) + row.rows
        lines = [json.dumps(row._asdict(), ensure_ascii=True) + "\n" for row in bad]
        self.folder.write(BAD, "".join(lines).encode())
        self._write_manifest(shards, counts, complete=True)
        return counts

    def _write_manifest(self, shards: list[Shard], bad: Mapping[str, int], *, complete: bool) -> None:
        content = {
            FORMAT_KEY: FORMAT,
            MADE_OF: self.made_of,
            "complete": complete,
            "rows": sum(shard.rows for shard in shards),
            "tokens": sum(shard.tokens for shard in shards),
            "compressed tokens": sum(shard.compressed for shard in shards),
            "bad": dict(bad),
            "shards": [
                {"name": shard.name, "rows": shard.rows, "size": shard.size, "sha256": shard.sha256}
                for shard in shards
                if shard.rows
            ],
        }
        self.folder.write(MANIFEST, json.dumps(content, indent=1).encode())

    def read(self, shard: Shard) -> Block:
        """Its vectors, shape (n, E), and ids; see ``read_shard``."""
        return read_shard(self.folder, shard)

    def reload(self) -> None:
        """Take notice of what workers have finished."""
        self._take_up(self.folder.sizes())


def _hashes(ids: list[Id]) -> npt.NDArray[np.uint64]:
    return np.frombuffer(b"".join(hash_of(repr(name), 8) for name in ids), dtype="<u8").astype(np.uint64)


def verify(url: str) -> list[str]:
    """What is wrong with the output of a finished run: a line a problem; none if every checksum is right.

    Raises:
        DataFileError: there is no manifest.
    """
    folder = Folder(url)
    manifest = json.loads(folder.read(MANIFEST))
    problems = [] if manifest["complete"] else [f"{folder.url} is not complete; run the same command again"]
    there = folder.sizes()

    def check(shard: Mapping[str, Any]) -> str | None:
        where = f"{folder.url}/{shard['name']}"
        if shard["name"] not in there:
            return f"{where} is missing; run the same command again"
        if hashlib.sha256(folder.read(shard["name"])).hexdigest() != shard["sha256"]:
            return f"{where} was changed; remove it and run the same command again"
        return None

    problems += [problem for problem in in_parallel(check, manifest["shards"]) if problem]
    listed = {shard["name"] for shard in manifest["shards"]}
    problems += [
        f"{folder.url}/{name} is not listed" for name in there if name[0] != "_" and name not in listed
    ]
    return problems
