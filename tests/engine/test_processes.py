"""Models in other processes: forked, spawned, pickled; and forks while other threads load or compute."""

import copy
import os
import pickle
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from jaspertc import Embedder
from jaspertc.checkpoint import save_checkpoint
from jaspertc.engine.processes import computing
from jaspertc.errors import CheckpointError, InputError
from jaspertc.machine import thread_count, torch_threads

SECONDS = 240  # until a script counts as hanging
needs_fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="this system does not fork")

# Of a size at which PyTorch shares products among threads, as tests of small models in one thread do not.
BEGINNING = """
import faulthandler, multiprocessing, os, pickle, sys, threading, warnings
import numpy as np
import numpy.testing  # now: a child forked amid another thread's first import would wait for that for ever
import torch
from jaspertc import Embedder

TEXTS = [f"text {number}: bread rises because yeast turns sugar into carbon dioxide" for number in range(40)]

def check(vectors, expected):
    np.testing.assert_allclose(np.asarray(vectors), expected, rtol=0, atol=1e-5)

def quarters(texts=TEXTS):
    return [texts[:10], texts[10:20], texts[20:30], texts[30:]]
"""


def run(folder: Path, script: str, *arguments: str) -> None:
    """Run a script in which PyTorch has two threads; neither may it fail nor hang."""
    path = folder / "script.py"
    path.write_text(BEGINNING + textwrap.dedent(script), encoding="utf-8")
    environment = {key: value for key, value in os.environ.items() if key != "TOKENIZERS_PARALLELISM"}
    environment |= {"OMP_NUM_THREADS": "2", "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen(
        [sys.executable, str(path), *arguments],
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        output, _ = process.communicate(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        pytest.fail(f"hangs: {process.communicate()[0]}")
    assert process.returncode == 0, output
    assert "parallelism" not in output  # the tokenizers' warning of forks


@needs_fork
@pytest.mark.parametrize("runtime", ["torch", "openvino"])
def test_forked_processes(tmp_path, runtime):
    if runtime == "openvino":
        pytest.importorskip("openvino")
    run(
        tmp_path,
        """
        from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor

        def inherited(texts):
            with ThreadPoolExecutor(1) as threads:  # of another thread first, then of the one that was forked
                check(threads.submit(model.encode, texts).result(), model.encode(texts))
            return model.encode(texts)

        def loaded(texts):
            return Embedder.load("mini", runtime=sys.argv[1]).encode(texts)

        fork = multiprocessing.get_context("fork")
        model = Embedder.load("mini", runtime=sys.argv[1])
        with fork.Pool(2) as pool:  # before the first vector
            early = np.concatenate(pool.map(model.encode, quarters()))
        expected = model.encode(TEXTS)
        check(early, expected)
        for work in (model.encode, inherited, loaded):
            with ProcessPoolExecutor(2, mp_context=fork) as pool:
                check(np.concatenate(list(pool.map(work, quarters()))), expected)
        check(model.encode(TEXTS), expected)
        assert torch.get_num_threads() == 2
        """,
        runtime,
    )


def test_spawned_processes(tmp_path):
    run(
        tmp_path,
        """
        from concurrent.futures import ProcessPoolExecutor

        if __name__ == "__main__":
            spawn = multiprocessing.get_context("spawn")
            model = Embedder.load("mini", runtime="torch", dtype="float32")
            expected = model.encode(TEXTS)
            with spawn.Pool(1) as pool:
                check(np.concatenate(pool.map(model.encode, quarters())), expected)
            with ProcessPoolExecutor(1, mp_context=spawn) as pool:
                check(pool.submit(model.encode_query, TEXTS).result(), model.encode_query(TEXTS))
                assert "runtime='torch'" in pool.submit(repr, model).result()
        """,
    )


def test_the_pool_of_sentence_transformers(tmp_path):
    pytest.importorskip("sentence_transformers")
    run(
        tmp_path,
        """
        if __name__ == "__main__":
            import copy
            from sentence_transformers import SentenceTransformer
            from jaspertc.checkpoint import resolve

            model = SentenceTransformer(str(resolve("mini")), trust_remote_code=True, device="cpu")
            expected = model.encode(TEXTS)
            check(copy.deepcopy(model).encode(TEXTS), expected)
            pool = model.start_multi_process_pool(["cpu"])
            check(model.encode(TEXTS, pool=pool, chunk_size=9), expected)
            model.stop_multi_process_pool(pool)
            model.max_seq_length = 12
            again = pickle.loads(pickle.dumps(model))
            assert again.max_seq_length == 12
            check(again.encode(TEXTS), model.encode(TEXTS))
            if hasattr(os, "fork"):
                with multiprocessing.get_context("fork").Pool(2) as pool:
                    check(np.concatenate(pool.map(model.encode, quarters())), model.encode(TEXTS))
        """,
    )


@needs_fork
def test_forks_while_threads_load_and_compute(tmp_path):
    run(
        tmp_path,
        """
        model = Embedder.load("mini", runtime="torch")
        expected = model.encode(TEXTS)
        done = threading.Event()

        def load():
            while not done.is_set():
                check(Embedder.load("mini", runtime="torch").encode(TEXTS[:4]), expected[:4])

        def compute():
            while not done.is_set():
                check(model.encode(TEXTS), expected)

        def child():
            faulthandler.dump_traceback_later(90)  # where one hangs
            check(model.encode(TEXTS[:4]), expected[:4])
            check(Embedder.load("mini", runtime="torch").encode(TEXTS[:4]), expected[:4])

        threads = [threading.Thread(target=work) for work in (load, compute)]
        for thread in threads:
            thread.start()
        fork = multiprocessing.get_context("fork")
        try:
            for _ in range(2):
                children = [fork.Process(target=child, daemon=True) for _ in range(2)]
                for process in children:
                    process.start()
                for process in children:
                    process.join(100)
                    assert process.exitcode == 0, process.exitcode
        finally:
            done.set()
        for thread in threads:
            thread.join()
        """,
    )


def in_child(work) -> int:
    """The exit status of a forked child: what ``work`` gives."""
    child = os.fork()
    if child == 0:
        status = 99
        try:
            status = int(work())
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


def test_one_thread_for_a_while_is_not_what_others_are_left_with():
    """Two threads that overlap: the second, new one begins with the first's one, and ends after it."""
    inside, later = threading.Event(), threading.Event()
    before = torch.get_num_threads()
    found = []

    def first():
        with torch_threads(1):
            inside.set()
            later.wait(20)

    def second():
        inside.wait(20)
        with torch_threads(1):
            found.append(thread_count())
            later.set()
            threads[0].join(20)
        found.append(torch.get_num_threads())

    def third():
        found.append(torch.get_num_threads())

    threads = [threading.Thread(target=work) for work in (first, second, third)]
    torch.set_num_threads(3)
    try:
        threads[0].start()
        threads[1].start()
        threads[1].join(20)
        threads[2].start()
        threads[2].join(20)
    finally:
        torch.set_num_threads(before)
    assert found == [3, 3, 3]


@needs_fork
def test_a_fork_waits_for_threads_that_compute():
    inside, left = threading.Event(), threading.Event()

    def work():
        with computing, computing:
            inside.set()
            time.sleep(0.3)
            left.set()

    thread = threading.Thread(target=work)
    thread.start()
    inside.wait()
    assert in_child(left.is_set) == 1
    thread.join()


@needs_fork
def test_a_thread_that_computes_can_fork():
    def enter():
        with computing:
            return True

    with computing:
        assert in_child(enter) == 1
        thread = threading.Thread(target=enter)
        thread.start()
        thread.join(20)
        assert not thread.is_alive()
    assert in_child(enter) == 1


@needs_fork
def test_a_stream_does_not_go_on_in_a_forked_process(model):
    def goes_on():
        with pytest.raises(InputError, match="cannot go on in a forked process"):
            next(blocks)
        return 7

    blocks = model.encode_stream(["a", "b", "c", "d"], block_size=1)
    next(blocks)
    assert in_child(goes_on) == 7
    assert len(list(blocks)) == 3


def test_a_pickled_model_is_the_model(make_model, sentences):
    model = Embedder.load(make_model(), device="cpu", dtype="float32")
    assert pickle.loads(pickle.dumps(model)) is model
    assert copy.deepcopy(model) is model
    encode = pickle.loads(pickle.dumps(model.encode_query))
    np.testing.assert_array_equal(encode(sentences), model.encode_query(sentences))
    assert len(pickle.dumps(model)) < 2000


def test_a_pickled_model_is_loaded_with_its_arguments(make_model, sentences, monkeypatch):
    folder = make_model()
    monkeypatch.chdir(folder.parent)
    model = Embedder.load(folder.name, device="cpu", dtype="bfloat16", pooler="mean")
    expected, written, name = model.encode(sentences), pickle.dumps(model), repr(model)
    del model
    monkeypatch.chdir(Path(__file__).parent)
    again = pickle.loads(written)
    assert repr(again) == name
    assert again.runtime.precision == "bfloat16"
    np.testing.assert_array_equal(again.encode(sentences), expected)
    assert pickle.loads(pickle.dumps(again)) is again
    assert pickle.loads(written) is again


def test_a_folder_that_was_changed_is_not_loaded_as_the_pickled_model(
    make_model, make_encoder, tokenizer_json
):
    folder = make_model()
    model = Embedder.load(folder, device="cpu")
    written = pickle.dumps(model)
    other = make_encoder(seed=5, head=model.config.head)
    save_checkpoint(folder, other, tokenizer_json=tokenizer_json("bpe"), overwrite=True)
    del model
    with pytest.raises(CheckpointError, match="another model than the one that was pickled"):
        pickle.loads(written)


def test_a_model_made_in_memory_cannot_be_pickled(model):
    made = Embedder(model.checkpoint, model.runtime)
    with pytest.raises(InputError, match=r"made in memory.*save_checkpoint"):
        pickle.dumps(made)
