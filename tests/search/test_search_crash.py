"""A process killed while it changes an index leaves whole batches, and running again does the rest."""

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from crash_writer import RATIO, SlowEmbedder, before, change
from search_fakes import contents, make_documents

from jaspertc.search import upkeep
from jaspertc.search.index import BATCH_DOCUMENTS, SearchIndex
from jaspertc.search.refining import BATCH_PASSAGES

COUNT = 12 * BATCH_DOCUMENTS + 100
FEW = 4 * BATCH_DOCUMENTS + 100
pytestmark = [
    pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="there is no SIGKILL here"),
]


def start(path, kind="add", count=COUNT, fatal=-1):
    script = Path(__file__).with_name("crash_writer.py")
    command = [sys.executable, str(script), str(path), kind, str(count), str(fatal)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def finish_and_compare(path, tmp_path):
    with SearchIndex.open(path, SlowEmbedder()) as index:
        before = len(index)
        report = index.add(make_documents(COUNT))
    assert (report.added, report.updated, report.unchanged) == (COUNT - before, 0, before)
    with SearchIndex.create_or_open(tmp_path / "undisturbed.db", SlowEmbedder()) as index:
        index.add(make_documents(COUNT))
    assert contents(path) == contents(tmp_path / "undisturbed.db")


def test_killed_inside_transactions(tmp_path):
    path = tmp_path / "a.db"
    for fatal, kept in ((0, 0), (2, 2), (3, 5)):
        process = start(path, fatal=fatal)
        assert process.wait(60) == -signal.SIGKILL
        assert Path(f"{path}-wal").exists()  # so that the next opening has something to undo
        with SearchIndex.open(path, SlowEmbedder()) as index:
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
        with SearchIndex.open(path, SlowEmbedder()) as index:
            lengths.append(len(index))
        assert lengths[-1] % BATCH_DOCUMENTS == 0 or lengths[-1] == COUNT
    assert lengths == sorted(lengths)
    finish_and_compare(path, tmp_path)


# Steps of ``sync``: three that write, one that removes.
@pytest.mark.parametrize(("kind", "steps"), [("sync", (0, 1, 2)), ("refine", (0, 1, 2, 5))])
def test_what_a_killed_change_left_out_is_done_by_the_next(tmp_path, kind, steps):
    path, undisturbed = tmp_path / "a.db", tmp_path / "undisturbed.db"
    for name in (path, undisturbed):
        with SearchIndex.create_or_open(name, SlowEmbedder(), ratio=0.1) as index:
            index.add(before(FEW))
    with SearchIndex.open(undisturbed, SlowEmbedder()) as index:
        change(index, kind, FEW)
    expected = contents(undisturbed)
    for (
        fatal
    ) in steps:  # what was done is not done again: each number is counted from where the last one died
        process = start(path, kind, FEW, fatal)
        assert process.wait(60) == -signal.SIGKILL
        upkeep.check(path)
        assert contents(path) != expected
    if kind == "refine":
        assert upkeep.contents(path).ratios[RATIO] == (1 + 2 + 5) * BATCH_PASSAGES
    with SearchIndex.open(path, SlowEmbedder()) as index:
        change(index, kind, FEW)
    assert contents(path) == expected
