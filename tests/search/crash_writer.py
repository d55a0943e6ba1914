"""Adds documents and dies: ``crash_writer.py PATH COUNT BATCH`` (dies in that batch; -1: in none)."""

import os
import signal
import sys
import time

from search_fakes import FakeEmbedder, make_documents

from jaspertc.search import rows
from jaspertc.search.index import SearchIndex


class SlowEmbedder(FakeEmbedder):
    def encode_document(self, texts, **options):
        time.sleep(0.01)
        return super().encode_document(texts, **options)


def main(path: str, count: int, fatal: int) -> None:
    count_rows, batches = rows._count, iter(range(count))

    def count_and_die(connection):
        count_rows(connection)
        if next(batches) == fatal:
            os.kill(os.getpid(), signal.SIGKILL)

    rows._count = count_and_die
    with SearchIndex.create_or_open(path, SlowEmbedder()) as index:
        # Hardly any cache: pages of a transaction reach the file before its end, as in a large batch.
        with index.connections.borrowed() as connection:
            connection.execute("PRAGMA cache_size = 1")
        print("ready", flush=True)
        index.add(make_documents(count))
    print("done", flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
