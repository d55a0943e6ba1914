"""Files of texts and an embedder without a model. As a script: ``jaspertc embed`` with it, slow."""

import gzip
import hashlib
import json
import sys
import time
import types
import warnings
from itertools import islice

import numpy as np


class LongTextWarning(UserWarning):
    pass


class FakeEmbedder:
    """Vectors that depend on the text and on each option."""

    fingerprint = "fake"
    default_ratio, default_threshold, max_length = 0.25, 8, 64
    runtime = types.SimpleNamespace(
        name="torch", device=types.SimpleNamespace(type="cpu"), precision="float32"
    )
    pause = 0.0
    warning = LongTextWarning

    def __init__(self):
        self.calls = []

    def prompt_text(self, prompt, prompt_name):
        return {"document": "doc: ", None: "default: "}[prompt_name] if prompt is None else prompt

    def encode(self, texts, *, dims=None, precision="float32", **options):
        self.calls.append(list(texts))
        time.sleep(self.pause * bool(texts))
        rows = [
            np.frombuffer(hashlib.sha256(f"{text}{sorted(options.items())}".encode()).digest(), np.uint8)
            for text in texts
        ]
        vectors = np.array(rows, np.float32).reshape(-1, 32)[:, :dims] / np.float32(255)
        if precision == "ubinary":
            return np.packbits(vectors > 0.5, axis=-1)
        return (vectors * 127).astype(np.int8) if precision == "int8" else vectors.astype(precision)

    def encode_stream(self, texts, *, block_size, **options):
        texts = iter(texts)
        long = done = 0
        while block := list(islice(texts, block_size)):
            yield self.encode(block, **options)
            long, done = long + block.count("long"), done + len(block)
        if long:
            warnings.warn(f"{long} of {done} texts did not fit", self.warning, stacklevel=2)


def write_texts(path, rows, text="text", name="id"):
    """A file of the kind that the ending of ``path`` stands for."""
    if path.suffix == ".parquet":
        import pyarrow as pa
        import pyarrow.parquet as pq

        pq.write_table(pa.table({name: [row.id for row in rows], text: [row.text for row in rows]}), path)
        return path
    lines = [json.dumps({name: row.id, text: row.text}, ensure_ascii=False) for row in rows]
    if path.suffix == ".txt":
        lines = [row.text for row in rows]
    content = "".join(line + "\n" for line in lines).encode()
    path.write_bytes(gzip.compress(content) if path.suffix == ".gz" else content)
    return path


if __name__ == "__main__":
    from jaspertc.cli import main
    from jaspertc.corpus import write

    real_write = write.write_output

    def write_slowly(file, *arguments):
        file.write(b"half")
        file.flush()
        time.sleep(0.5)
        file.seek(0)
        real_write(file, *arguments)
        file.truncate()

    write.write_output = write_slowly
    FakeEmbedder.pause = 0.01
    engine, inputs = types.ModuleType("embedder"), types.ModuleType("inputs")
    engine.Embedder = types.SimpleNamespace(load=lambda name, **_: FakeEmbedder())
    inputs.LongTextWarning = LongTextWarning
    sys.modules |= {
        "jaspertc.engine.embedder": engine,
        "jaspertc.engine.options": inputs,
    }
    main()
