"""Changes an index and dies: ``crash_writer.py PATH add|sync|refine COUNT BATCH``; batch -1: it lives on."""

import os
import signal
import sys
import time
from dataclasses import replace
from itertools import count as numbers

from search_fakes import FakeEmbedder, make_documents

from jaspertc.search import refining, rows
from jaspertc.search.index import SearchIndex
from jaspertc.search.refining import refine

SOURCE, RATIO = "docs", 0.5


class SlowEmbedder(FakeEmbedder):
    """Takes its time, and gives other vectors at other ratios."""

    def encode_document(self, texts, *, ratio, **options):
        time.sleep(0.005)
        return super().encode_document([f"{ratio} {text}" for text in texts], ratio=ratio, **options)


def before(count):
    """What is indexed first."""
    return [replace(document, source=SOURCE) for document in make_documents(count)]


def after(count):
    """What ``sync`` makes of it: a third edited, a third gone, as many new under other ids."""
    documents = list(enumerate(before(count)))
    edited = [replace(one, text=f"{one.text}, edited") for number, one in documents if number % 3 == 0]
    moved = [replace(one, id=f"moved-{one.id}") for number, one in documents if number % 3 == 1]
    return [*edited, *moved, *(one for number, one in documents if number % 3 == 2)]


def change(index, kind, count):
    if kind == "add":
        index.add(make_documents(count))
    elif kind == "sync":
        index.sync(after(count), [SOURCE])
    else:
        refine(index, RATIO)


def die_after(module, name, fatal):
    """Replace a function by itself and the end of the process at its call number ``fatal``, from 0."""
    function, calls = getattr(module, name), numbers()

    def call(*arguments):
        function(*arguments)
        if next(calls) == fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    setattr(module, name, call)


def main(path: str, kind: str, count: int, fatal: int) -> None:
    die_after(*((refining, "replace_vectors") if kind == "refine" else (rows, "_count")), fatal)
    with SearchIndex.create_or_open(path, SlowEmbedder()) as index:
        # Hardly any cache: pages of a transaction reach the file before its end, as in a large batch.
        with index.connections.borrowed() as connection:
            connection.execute("PRAGMA cache_size = 1")
        print("ready", flush=True)
        change(index, kind, count)
    print("done", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
