"""The runtime 'graphs'. Recordings here are functions that write into memory of their own, as graphs do."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

from jaspertc import Embedder
from jaspertc.engine.precision import normalized
from jaspertc.engine.runtimes import RUNTIMES
from jaspertc.engine.runtimes.torch_runtime import TorchRuntime
from jaspertc.errors import InputError
from jaspertc.text.packing import pack
from lab.gpu.graphs import GRAPH_TOKENS, GraphsRuntime, powers_of_two, rounded_up

LENGTHS = (40, 40, 1, 300, 17, 129, 40, 2, 500, 33, 41, 128, 16)
BOUND = 1e-5  # largest difference of unit vectors


class Recorder:
    """Keeps the input's place: what is replayed overwrites the same output."""

    def __init__(self):
        self.recorded = self.replayed = 0

    def __call__(self, run):
        self.recorded += 1
        out = run()

        def replay():
            self.replayed += 1
            return out.copy_(run())

        return replay


class GraphsOnCPU(GraphsRuntime):
    def _prepare_layers(self):
        TorchRuntime._prepare_layers(self)
        self.recorder = Recorder()
        self._record_layers(self.recorder)


@pytest.fixture
def runtimes(make_encoder):
    options = {"backbone": {"max_positions": 600}}
    return [
        kind(make_encoder(**options), device="cpu", dtype="float32") for kind in (TorchRuntime, GraphsOnCPU)
    ]


def random_rows(seed, lengths=LENGTHS):
    random = np.random.default_rng(seed)
    return [random.integers(0, 320, size=length) for length in lengths]


def test_vectors_are_those_of_the_torch_runtime_in_any_batch(runtimes):
    torch_runtime, graphs = runtimes
    rows = random_rows(0) + random_rows(1)
    targets = np.array([len(row) - len(row) // 3 for row in rows])
    expected = normalized(torch_runtime.embed(pack(rows), targets))
    random = np.random.default_rng(2)
    for size in (1, 2, 5, len(rows)):
        order = random.permutation(len(rows))
        for begin in range(0, len(rows), size):
            part = order[begin : begin + size]
            found = graphs.embed(pack([rows[i] for i in part]), targets[part])
            assert np.abs(normalized(found) - expected[part]).max() < BOUND, part
    assert np.abs(expected[0] - expected[1]).max() > 1000 * BOUND


def test_each_shape_is_recorded_once(runtimes):
    graphs = runtimes[1]
    counts = []
    for seed in range(3):
        rows = random_rows(seed, (16, 16, 16, 20, 90))  # 2 and 1 of 16, one of 24, one of 96
        graphs.embed(pack(rows), np.array([16, 16, 10, 20, 90]))
        counts.append((graphs.recorder.recorded, graphs.recorder.replayed))
    assert counts == [(4, 4), (4, 8), (4, 12)]


def test_large_batches_are_computed_as_ever(runtimes):
    torch_runtime, graphs = runtimes
    rows = random_rows(0, (500,) * (GRAPH_TOKENS // 512 + 1))
    targets = np.full(len(rows), 500)
    found = graphs.embed(pack(rows), targets)
    np.testing.assert_array_equal(found, torch_runtime.embed(pack(rows), targets))
    assert graphs.recorder.recorded == 0


def test_several_threads(runtimes):
    torch_runtime, graphs = runtimes
    rows = random_rows(0)
    targets = np.array([len(row) for row in rows])
    expected = normalized(torch_runtime.embed(pack(rows), targets))

    def embed(index):
        i = index % len(rows)
        return np.abs(normalized(graphs.embed(pack([rows[i]]), targets[[i]])) - expected[[i]]).max()

    with ThreadPoolExecutor(4) as pool:
        assert max(pool.map(embed, range(100))) < BOUND


def test_compressed_texts_get_a_length_of_few(make_model):
    model = Embedder.load(make_model(backbone={"max_positions": 600}), device="cpu")
    lengths = np.arange(1, 400)
    plain = model.target_lengths(lengths, ratio=0.3, threshold=20)
    graphs = Embedder(model.checkpoint, GraphsOnCPU(model.checkpoint.encoder, device="cpu"))
    found = graphs.target_lengths(lengths, ratio=0.3, threshold=20)
    assert (found >= plain).all()
    assert (found <= lengths).all()
    compressed = found < lengths
    assert (found[compressed] == rounded_up(plain[compressed])).all()
    assert 5 < len(set(found[compressed])) < 10 < len(set(plain[compressed]))
    bounded = graphs.target_lengths(lengths, ratio=0.3, threshold=20, max_compressed=50)
    assert (bounded == np.minimum(found, 50)).all()

    rows = random_rows(0)
    wanted = graphs.target_lengths(np.array([len(row) for row in rows]), ratio=0.3, threshold=20)
    found = graphs.encode_ids(rows, ratio=0.3, threshold=20)
    assert np.abs(found - normalized(model.runtime.embed(pack(rows), wanted))).max() < BOUND


def test_groups_are_powers_of_two_and_complete():
    for count in range(40):
        parts = powers_of_two(np.arange(count))
        assert all(len(part) & (len(part) - 1) == 0 for part in parts)
        assert [i for part in parts for i in part.tolist()] == list(range(count))


def test_what_it_cannot_run(model_folder, make_encoder, monkeypatch):
    monkeypatch.setitem(RUNTIMES, "graphs", GraphsRuntime)
    with pytest.raises(InputError, match="needs CUDA, the device is cpu; use 'torch'"):
        Embedder.load(model_folder, runtime="graphs", device="cpu")
    bert = make_encoder(backbone={"kind": "bert", "num_kv_heads": 4, "causal": False})
    with pytest.raises(InputError, match="needs causal layers, 'bert' has others"):
        GraphsRuntime(bert)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
def test_on_a_gpu(model_folder):
    rows = random_rows(0)
    torch_model, graphs = (
        Embedder.load(model_folder, runtime=name, device="cuda") for name in ("torch", "graphs")
    )
    targets = graphs.target_lengths(np.array([len(row) for row in rows]), ratio=0.5)
    for _ in range(3):
        found = normalized(graphs.runtime.embed(pack(rows), targets))
        assert np.abs(found - normalized(torch_model.runtime.embed(pack(rows), targets))).max() < 0.03
