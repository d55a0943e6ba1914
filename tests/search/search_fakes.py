"""A model that needs no weights."""

import hashlib
import random
import sqlite3
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np

from jaspertc.search.documents import Document


class FakeEmbedder:
    """Each text has its own random direction; what was embedded is remembered."""

    def __init__(self, fingerprint="f1", dims=16, ratio=0.33, threshold=80, kind="adaptive-average"):
        self.checkpoint = SimpleNamespace(name=f"fake-{fingerprint}")
        self.config = SimpleNamespace(compressor=SimpleNamespace(kind=kind))
        self.fingerprint, self.dims = fingerprint, dims
        self.default_ratio = ratio if kind != "none" else 1.0
        self.default_threshold = threshold
        self.embedded: list[str] = []
        self.options: list[dict] = []

    def vector(self, text: str):
        seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "little")
        vector = np.random.default_rng(seed).standard_normal(self.dims, dtype=np.float32)
        return vector / np.linalg.norm(vector)

    def encode_document(self, texts, **options):
        self.embedded += texts
        self.options.append(options)
        return np.stack([self.vector(text) for text in texts])

    def encode_query(self, text, **options):
        self.options.append(options)
        return self.vector(text)


def make_documents(count: int) -> Iterator[Document]:
    """Documents that are the same in every process."""
    dice = random.Random(0)
    for number in range(count):
        metadata = {"part": number % 7, "lang": dice.choice(["en", "zh"]), "rare": number % 97 == 5}
        yield Document(f"doc-{number}", f"text {number} " + "x" * dice.randrange(200), metadata)


def contents(path) -> list[tuple]:
    """Everything in an index that a search can see."""
    connection = sqlite3.connect(path)
    try:
        (broken,) = connection.execute("PRAGMA integrity_check").fetchone()
        assert broken == "ok"
        rows = connection.execute(
            "SELECT id, text, metadata, text_hash, vector FROM documents LEFT JOIN vectors "
            "ON number = document ORDER BY id"
        ).fetchall()
        labels = connection.execute(
            "SELECT id, key, value FROM labels LEFT JOIN documents ON number = document ORDER BY id, key"
        ).fetchall()
        (count,) = connection.execute("SELECT value FROM meta WHERE key = 'documents'").fetchone()
        assert count == len(rows)
        assert connection.execute("SELECT count(*) FROM vectors").fetchone() == (count,)
        return rows + labels
    finally:
        connection.close()
