"""What runs in a worker: a model, made once, and the work on one unit or shard at a time."""

import json
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from typing import Any

import numpy as np

from jaspertc.cluster.counting import count_tokens
from jaspertc.cluster.output import TRIES, Shard, write_shard
from jaspertc.cluster.reading import Bad, Fields, read_unit
from jaspertc.cluster.session import ERROR, use_threads
from jaspertc.cluster.storage import Folder
from jaspertc.cluster.units import Unit
from jaspertc.errors import DataFileError, JasperError
from jaspertc.teachers import TeacherConfig, load_teacher
from jaspertc.teaching.fill import BLOCK, encode_checked
from jaspertc.teaching.keys import keys_of
from jaspertc.teaching.recipe_texts import Text

MOST_TRIES = 20  # of a unit whose worker dies each time
KEPT_SHARDS = 256

Batch = Mapping[str, Any]
Answer = dict[str, list[Any]]


class EmbedWorker:
    """Embeds units of a corpus and writes their shards.

    Args:
        output: URL of the folder.
        model: see ``Embedder.load``, likewise ``device`` and ``dtype``.
        fingerprint: what the model's must be.
        options: keyword arguments of ``Embedder.encode``.
        threads: of matrix products.
    """

    def __init__(
        self,
        *,
        output: str,
        model: str,
        device: str,
        dtype: str,
        fingerprint: str,
        options: Mapping[str, Any],
        fields: Fields,
        threads: int,
    ) -> None:
        from jaspertc.engine.embedder import Embedder

        use_threads(threads)
        self.folder = Folder(output)
        self.fields, self.options = fields, dict(options)
        self.embedder = Embedder.load(model, device=device, dtype=dtype)
        self.counts = count_tokens(self.embedder)
        self.same = self.embedder.fingerprint == fingerprint
        self.model = model

    def __call__(self, batch: Batch) -> Answer:
        """``{"unit": [a unit as JSON]}`` in, a row about its shard out."""
        unit = Unit.from_json(str(batch["unit"][0]))
        try:
            shard, warning = self._embed(unit)
        except (JasperError, OSError) as error:
            return _wrong(f"unit {unit.number} ({unit.url}): {error}", unit.number)
        bad = sum(row.rows for row in shard.bad)
        row = {"number": shard.number, "rows": shard.rows, "tokens": shard.tokens, "bad": bad}
        return {name: [value] for name, value in {**row, "warning": warning, ERROR: ""}.items()}

    def _embed(self, unit: Unit) -> tuple[Shard, str]:
        if not self.same:
            raise DataFileError(f"{self.model} is another model on this machine; put the same files on all")
        self._count_try(unit)
        rows, bad = read_unit(unit, self.fields)
        tokens, compressed = self.counts.tokens, self.counts.compressed
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            vectors = self.embedder.encode([row.text for row in rows], **self.options)
        shard = Shard(
            number=unit.number,
            tokens=self.counts.tokens - tokens,
            compressed=self.counts.compressed - compressed,
            bad=[Bad(*row) for row in bad],
        )
        ids = [row.id for row in rows if row.id is not None]
        return write_shard(self.folder, shard, vectors, ids), str(caught[0].message) if caught else ""

    def _count_try(self, unit: Unit) -> None:
        """A unit whose worker dies each time, for want of memory say, must not go on for ever."""
        name = f"{unit.number:06d}"
        there = name in self.folder.sizes(TRIES)
        tries = 1 + (int(self.folder.read(f"{TRIES}/{name}")) if there else 0)
        if tries > MOST_TRIES:
            raise DataFileError(
                f"its worker died {MOST_TRIES} times, for want of memory perhaps; lower --batch-size or the "
                "number of --workers"
            )
        self.folder.write(f"{TRIES}/{name}", str(tries).encode())


class Feed:
    """Reads texts once and hands them out shard by shard; runs beside the driver.

    Args:
        texts: reads them.
        shard_rows: texts of a shard.
    """

    def __init__(self, texts: Callable[[], Iterable[Text]], shard_rows: int) -> None:
        self._waiting: Iterator[Text] = iter(texts())
        self._rows = shard_rows
        self._kept: dict[int, list[Text]] = {}
        self._next = 0
        self._tries: Counter[int] = Counter()

    def shard(self, number: int) -> tuple[list[Text], int]:
        """Its texts, and how often they were asked for: more than once if a worker died over them."""
        while self._next <= number:
            self._kept[self._next] = list(islice(self._waiting, self._rows))
            self._kept.pop(self._next - KEPT_SHARDS, None)
            self._next += 1
        self._tries[number] += 1
        return self._kept[number], self._tries[number]

    def forget(self, number: int) -> None:
        """The shard is written."""
        self._kept.pop(number, None)


class TeachWorker:
    """Computes a teacher's vectors of shards of texts.

    Args:
        recipe: the teacher.
        prompt: put before each text.
        feed: an actor handle of a ``Feed``.
        threads: of matrix products.
    """

    def __init__(self, *, recipe: TeacherConfig, prompt: str, feed: Any, threads: int) -> None:
        use_threads(threads)
        self.teacher, self.prompt, self.feed = load_teacher(recipe), prompt, feed
        model = getattr(self.teacher, "model", None)
        self.counts = count_tokens(model) if hasattr(model, "runtime") else None

    def __call__(self, batch: Batch) -> Answer:
        """``{"shard": [a number]}`` in, its ids, keys and vectors as bytes out."""
        import ray

        number = int(batch["shard"][0])
        texts, tries = ray.get(self.feed.shard.remote(number))
        if tries > MOST_TRIES:
            return _wrong(f"shard {number}: its worker died {MOST_TRIES} times; lower shard_rows", number)
        before = self.counts.tokens if self.counts else 0
        try:
            parts = [
                encode_checked(self.teacher, texts[begin : begin + BLOCK], self.prompt)
                for begin in range(0, len(texts), BLOCK)
            ]
        except JasperError as error:
            return _wrong(str(error), number)
        ids = [text.id for text in texts]
        row = {
            "number": number,
            "ids": json.dumps(ids),
            "keys": keys_of(ids, [text.text for text in texts]).tobytes(),
            "vectors": np.concatenate(parts).astype("<f2").tobytes(),
            "tokens": self.counts.tokens - before if self.counts else 0,
            ERROR: "",
        }
        return {name: [value] for name, value in row.items()}


def probe(recipe: TeacherConfig, texts: list[str], prompt: str, threads: int) -> dict[str, Any]:
    """Load a teacher where its workers will be: its width, identity, and vectors of some texts."""
    use_threads(threads)
    try:
        teacher = load_teacher(recipe)
        vectors = teacher.encode(texts, prompt) if texts else np.zeros((0, teacher.dims), np.float32)
    except JasperError as error:
        return {ERROR: str(error)}
    return {"dims": teacher.dims, "identity": dict(teacher.identity), "vectors": vectors}


def _wrong(message: str, number: int) -> Answer:
    return {"number": [number], ERROR: [message]}
