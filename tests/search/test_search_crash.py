"""A process killed while it adds documents leaves whole batches, and running again adds the rest."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from search_fakes import FakeEmbedder, contents, make_documents

from jaspertc.search.index import BATCH_DOCUMENTS, SearchIndex

COUNT = 12 * BATCH_DOCUMENTS + 100
pytestmark = [
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL here"),
]


def start(path, fatal=-1):
    script = Path(__file__).with_name("crash_writer.py")
    command = [sys.executable, str(script), str(path), str(COUNT), str(fatal)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def finish_and_compare(path, tmp_path):
    with SearchIndex.open(path, FakeEmbedder()) as index:
        before = len(index)
        report = index.add(make_documents(COUNT))
    assert (report.added, report.updated, report.unchanged) == (COUNT - before, 0, before)
    with SearchIndex.create_or_open(tmp_path / "undisturbed.db", FakeEmbedder()) as index:
        index.add(make_documents(COUNT))
    assert contents(path) == contents(tmp_path / "undisturbed.db")


def test_killed_inside_transactions(tmp_path):
    path = tmp_path / "a.db"
    for fatal, kept in ((0, 0), (2, 2), (3, 5)):
        process = start(path, fatal)
        assert process.wait(60) == -signal.SIGKILL
        assert Path(f"{path}-wal").exists()  # so that the next opening has something to undo
        with SearchIndex.open(path, FakeEmbedder()) as index:
            assert len(index) == kept * BATCH_DOCUMENTS
            assert len(index.search("q", k=COUNT)) == kept * BATCH_DOCUMENTS
    finish_and_compare(path, tmp_path)


def test_killed_at_any_time(tmp_path):
    path = tmp_path / "a.db"
    dice = random.Random(1)
    lengths = []
    for _ in range(5):
        process = start(path)
        assert process.stdout.readline() == "ready\n"
        time.sleep(dice.uniform(0.01, 0.08))
        process.kill()
        process.wait(60)
        with SearchIndex.open(path, FakeEmbedder()) as index:
            lengths.append(len(index))
        assert lengths[-1] % BATCH_DOCUMENTS == 0 or lengths[-1] == COUNT
    assert lengths == sorted(lengths)
    finish_and_compare(path, tmp_path)
