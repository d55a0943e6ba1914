"""A model that needs no weights."""

import hashlib
import random
import sqlite3
from collections.abc import Iterator
from types import SimpleNamespace

import numpy as np

from jaspertc.search import schema, upkeep
from jaspertc.search.blocks import read_vectors
from jaspertc.search.documents import Document


class FakeEmbedder:
    """Each text has its own random direction; what was embedded is remembered."""

    def __init__(self, fingerprint="f1", dims=16, ratio=0.33, threshold=80, kind="adaptive-average"):
        compressor = SimpleNamespace(can_compress=kind != "none")
        self.checkpoint = SimpleNamespace(name=f"fake-{fingerprint}", compressor=compressor)
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

    def tokenize(self, texts, **options):
        return [np.arange(len(text.split())) for text in texts]

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
    upkeep.check(path)
    layout = schema.describe(path).layout
    connection = sqlite3.connect(path)
    try:
        rows = connection.execute(
            "SELECT passages.number, documents.id, text, metadata, text_hash, name, start, stop, heading, "
            "ratio FROM documents LEFT JOIN passages ON document = documents.number "
            "LEFT JOIN sources ON source = sources.number ORDER BY documents.id, start"
        ).fetchall()
        vectors = read_vectors(connection, layout, np.array([row[0] for row in rows], dtype=np.int64))
        connection.execute(
            "CREATE VIRTUAL TABLE temp.instances USING fts5vocab ('main', 'terms', 'instance')"
        )
        terms: dict[int, list[str]] = {}
        for number, term in connection.execute("SELECT doc, term FROM instances ORDER BY doc, offset"):
            terms.setdefault(number, []).append(term)
        passages = [
            (*row[1:], vector.tobytes(), tuple(terms.get(row[0], ()))) for row, vector in zip(rows, vectors)
        ]
        assert set(terms) <= {row[0] for row in rows}
        labels = connection.execute(
            "SELECT id, key, value FROM labels LEFT JOIN documents ON number = document ORDER BY id, key"
        ).fetchall()
        return passages + labels
    finally:
        connection.close()
