"""One test (or a few) for each known bug of the released modelling code. Ours must not have them."""

import dataclasses
import json
import shutil
import subprocess
import sys
import textwrap

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from jaspertc import Embedder
from jaspertc.checkpoint import save_checkpoint
from jaspertc.errors import InputError, RatioError
from jaspertc.model.attention import PackedLayout
from jaspertc.model.compressors import COMPRESSORS
from jaspertc.model.compressors.adaptive_average import AdaptiveAverageConfig
from jaspertc.model.encoder import Encoder
from jaspertc.text.packing import pack

RATIOS = (1.0, 0.9, 0.66, 0.5, 1 / 3, 0.2, 0.1, 0.05)
TOLERANCE = {"rtol": 0, "atol": 2e-5}


def random_rows(*lengths, vocabulary=320, seed=0):
    random = np.random.default_rng(seed)
    return [random.integers(0, vocabulary, size=length) for length in lengths]


# 1. A compression_ratio passed once sticks to the module for all later calls.


def test_1_a_ratio_does_not_stick(golden):
    embedder, rows = golden.embedder, golden.rows
    default = golden.expected[embedder.default_ratio]
    for ratio in (0.1, 1.0, 0.33):
        embedder.encode_ids(rows[-2:], ratio=ratio, threshold=10, max_compressed=50)
        np.testing.assert_allclose(embedder.encode_ids(rows, normalize=False), default, **TOLERANCE)
    with pytest.raises(RatioError):
        embedder.encode_ids(rows, ratio=7)
    np.testing.assert_allclose(embedder.encode_ids(rows, normalize=False), default, **TOLERANCE)


# 2. An empty text in a batch flips its padding-side detection and corrupts other rows.


@pytest.mark.parametrize("tokenizer", ["bpe", "bare", "wordpiece", "unigram"])
@pytest.mark.parametrize("place", [0, 3, 8])
def test_2_an_empty_text_changes_no_other(make_model, sentences, tokenizer, place):
    model = Embedder.load(make_model(tokenizer=tokenizer), device="cpu", dtype="float32")
    expected = model.encode(sentences, ratio=0.4, max_compressed=64)
    texts = [*sentences[:place], "", *sentences[place:]]
    found = model.encode(texts, ratio=0.4, max_compressed=64)
    np.testing.assert_allclose(np.delete(found, place, axis=0), expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(found[place], model.encode(""), rtol=0, atol=1e-6)


# 3. One host-device sync and one Python iteration per text; the MLP also runs on padding.


class CountOps(TorchDispatchMode):
    def __init__(self):
        super().__init__()
        self.count = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        self.count += 1
        return function(*args, **(kwargs or {}))


def ops_of(encoder, batch, targets, stage):
    """Tensor operations of a whole forward pass, or of compression alone."""
    with torch.no_grad(), CountOps() as counter:
        encoder(batch, targets) if stage == "forward" else encoder.compress(batch, targets)
    return counter.count


@pytest.mark.parametrize("folded", [True, False])
@pytest.mark.parametrize("stage", ["compress", "forward"])
def test_3_work_does_not_grow_with_the_number_of_texts(make_encoder, stage, folded):
    """In tensor operations. Attention on a CPU is one product per length, so those lengths are equal."""
    encoder = make_encoder(head=dataclasses.replace(make_encoder().config.head, dims=24))
    counts = set()
    for texts in (2, 20, 200):
        lengths = [40] * texts if stage == "forward" else np.arange(texts) % 37 + 9
        batch = pack(random_rows(*lengths))
        targets = encoder.compressor.target_lengths(
            batch.lengths, ratio=0.3, threshold=8, max_compressed=None
        )
        if folded:
            encoder.fold()
            ops_of(encoder, batch, targets, "compress")  # fills the table: work for each new token, once
        assert (targets < batch.lengths).any()
        counts.add(ops_of(encoder, batch, targets, stage))
    assert len(counts) == 1, counts


@pytest.mark.parametrize(
    "backbone", [{}, {"kind": "bert", "num_kv_heads": 4, "causal": False}], ids=["qwen3", "bert"]
)
@pytest.mark.parametrize("folded", [True, False])
def test_3_the_host_never_asks_the_device(make_encoder, folded, backbone):
    """Tensors on the meta device have no values, so any synchronisation would raise."""
    encoder = make_encoder(backbone=backbone).to("meta")
    if folded:
        encoder.fold()
    batch = pack(random_rows(64, 3, 17, 40))
    targets = encoder.compressor.target_lengths(batch.lengths, ratio=0.5, threshold=8, max_compressed=None)
    vectors = encoder(batch, targets)
    assert vectors.device.type == "meta"
    assert vectors.shape == (4, 32)
    with pytest.raises(RuntimeError, match="meta"):
        vectors[0, 0].item()


def mlp_rows(encoder, batch):
    rows = []
    hook = encoder.compressor.mlp.register_forward_hook(lambda _, inputs, __: rows.append(len(inputs[0])))
    with torch.no_grad():
        encoder(
            batch,
            encoder.compressor.target_lengths(batch.lengths, ratio=0.5, threshold=8, max_compressed=None),
        )
    hook.remove()
    return sum(rows)


def test_3_the_mlp_never_sees_padding(make_encoder):
    encoder = make_encoder()
    batch = pack(random_rows(1, 60, 2, 33))
    assert mlp_rows(encoder, batch) == 96  # padded it would be 240
    encoder.fold()
    assert len(np.unique(batch.ids)) <= mlp_rows(encoder, batch) < 240  # once each, in groups of 16
    assert mlp_rows(encoder, batch) == 0  # all in the table now


# 4. Reported embedding dimension is the hidden size, not 2048.


def test_4_reported_dimension_is_the_vectors(golden, tmp_path):
    assert golden.embedder.config.backbone.hidden_size == 64
    assert golden.embedder.dims == 2048 == golden.embedder.encode_ids([[1]]).shape[1]
    folder = save_checkpoint(tmp_path / "saved", golden.embedder.checkpoint.encoder, tokenizer_json=None)
    assert json.loads((folder / "config.json").read_text())["hidden_size"] == 2048
    assert Embedder.load(folder, device="cpu").dims == 2048


# 5. No validation of the ratio: above 1 upsamples, strongly negative crashes.


@pytest.mark.parametrize("ratio", [1.001, 2, 0, -0.01, -50, float("nan"), float("inf"), "0.5", [0.5] * 13])
def test_5_the_ratio_is_validated(golden, ratio):
    with pytest.raises(RatioError, match="ratio"):
        golden.embedder.encode_ids(golden.rows, ratio=ratio)


# 6. It cannot be exported, and its exported copies lost the ratio dial.


@pytest.mark.parametrize("weights", ["keep", "bfloat16", "int8"])
def test_6_a_copy_keeps_the_dial(golden, tmp_path, weights):
    folder = save_checkpoint(
        tmp_path / "copy", golden.embedder.checkpoint.encoder, tokenizer_json=None, weights=weights
    )
    copy = Embedder.load(folder, device="cpu", dtype="float32")
    assert (copy.default_ratio, copy.default_threshold) == (0.5, 80)
    rows = golden.rows[-4:]
    for ratio, expected in golden.expected.items():
        found = copy.encode_ids(rows, ratio=ratio, normalize=False)
        if weights == "keep":
            np.testing.assert_allclose(found, expected[-4:], **TOLERANCE)
        distance = {other: np.abs(found - raw[-4:]).mean() for other, raw in golden.expected.items()}
        assert min(distance, key=distance.get) == ratio


def test_6_layers_can_be_exported(make_encoder):
    """All from the compressed embeddings on, for one layout, is tensor code without branches on values."""
    encoder = make_encoder()
    lengths = np.array([40, 9, 1])
    layout = PackedLayout.of(lengths, torch.device("cpu"))

    class FromCompressed(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.encoder = encoder

        def forward(self, x):
            return self.encoder.head(self.encoder._pool(self.encoder.backbone(x, layout), layout))

    generator = torch.Generator().manual_seed(0)
    first, other = (torch.randn(50, 32, generator=generator) for _ in range(2))
    with torch.no_grad():
        program = torch.export.export(FromCompressed(), (first,), strict=False).module()
        torch.testing.assert_close(program(other), FromCompressed()(other), rtol=1e-5, atol=1e-5)


# 7. It needs remote code to be trusted, and breaks with library upgrades.


@pytest.fixture
def trapped(golden, tmp_path):
    """The released layout, with code files that leave a mark when they run."""
    folder = tmp_path / "trapped"
    shutil.copytree(golden.folder, folder)
    trap = f"open({str(tmp_path / 'ran')!r}, 'w').close()\nraise SystemExit('remote code ran')\n"
    config = json.loads((folder / "config.json").read_text())
    name = config["auto_map"]["AutoModel"].split(".")[0]
    for file in (name, "custom_st", "configuration", "__init__", "jaspertc_st", "setup"):
        (folder / f"{file}.py").write_text(trap)
    return folder


def test_7_no_code_of_a_folder_runs(golden, trapped, monkeypatch):
    monkeypatch.chdir(trapped)
    embedder = Embedder.load(trapped, device="cpu", dtype="float32")
    found = embedder.encode_ids(golden.rows[:4], ratio=0.5, normalize=False)
    np.testing.assert_allclose(found, golden.expected[0.5][:4], **TOLERANCE)
    assert not (trapped.parent / "ran").exists()
    assert not [module for module in sys.modules if "modeling_qwen3_jasper" in module]


def test_7_neither_transformers_nor_sentence_transformers_is_needed(golden):
    code = f"""
        import sys
        for name in ("transformers", "sentence_transformers", "flash_attn"):
            sys.modules[name] = None  # importing it raises ImportError
        from jaspertc import Embedder
        model = Embedder.load({str(golden.folder)!r}, device="cpu", dtype="float32")
        print(model.encode_ids([[5, 6, 7]], ratio=0.5).shape)
    """
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(code)], capture_output=True, text=True)
    assert done.stdout.strip() == "(1, 2048)", done.stderr


# 8. Half-precision length counts round (541 -> 540); fp16 gives NaNs.


def test_8_lengths_are_counted_in_float64_whatever_the_model_computes_in(golden):
    model = Embedder.load(golden.folder, device="cpu", dtype="bfloat16")
    seen = []
    model.runtime.encoder.backbone.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    wrong = 0
    for length, ratio in [
        (541, 1),
        (1002, 0.5),
        (1003, 0.5),
        (1463, 1 / 3),
        (541, 0.9),
        (80 + 4 * 461, 0.25),
    ]:
        model.encode_ids([np.arange(length) % 997], ratio=ratio)
        exact = int(80 + (length - 80) * ratio)
        assert seen.pop() == exact
        wrong += int(80 + torch.tensor(length - 80).bfloat16() * ratio) != exact
    assert wrong >= 4  # so a count in half precision would have been noticed


def test_8_float32_counts_would_be_wrong_too():
    """For a few of the 36,144 pairs below; ours are what Python's own floats give."""
    lengths = np.arange(81, 2089)
    compressor = COMPRESSORS["adaptive-average"](AdaptiveAverageConfig(), 8)
    differing = 0
    for percent in range(10, 100, 5):
        ratio = percent / 100
        found = compressor.target_lengths(lengths, ratio=ratio, threshold=80, max_compressed=None)
        assert found.tolist() == [int(80 + (n - 80) * ratio) for n in lengths.tolist()]
        single = np.float32(80) + (lengths - 80).astype(np.float32) * np.float32(ratio)
        differing += int((single.astype(np.int64) != found).sum())
    assert differing > 0


def test_8_float16_is_refused_and_bfloat16_is_finite(golden):
    with pytest.raises(InputError, match="use bfloat16"):
        Embedder.load(golden.folder, dtype="float16")
    model = Embedder.load(golden.folder, device="cpu", dtype="bfloat16")
    for ratio in RATIOS:
        assert np.isfinite(model.encode_ids(golden.rows, ratio=ratio)).all()


# 9. Vectors must not depend on batch composition or order.


@pytest.mark.parametrize("seed", range(5))
def test_9_vectors_do_not_depend_on_their_batch(golden, seed):
    random = np.random.default_rng(seed)
    ratio = float(random.choice(RATIOS))
    order = random.permutation(len(golden.rows))[: random.integers(1, 15)]
    extra = random_rows(*random.integers(1, 600, size=5), vocabulary=997, seed=seed)
    rows = [golden.rows[i] for i in order]
    for position in sorted(random.integers(0, len(rows) + 1, size=5), reverse=True):
        rows.insert(position, extra.pop())
    found = golden.embedder.encode_ids(rows, ratio=ratio, normalize=False)
    mine = {id(row): vector for row, vector in zip(rows, found)}
    for i in order:
        np.testing.assert_allclose(mine[id(golden.rows[i])], golden.expected[ratio][i], **TOLERANCE)


def test_9_not_through_the_table_either(make_encoder):
    """What was looked up before must not change what comes after."""
    encoder: Encoder = make_encoder()
    rows = random_rows(30, 30, 30)
    alone = []
    for row in rows:
        encoder.fold()
        with torch.no_grad():
            alone.append(encoder(pack([row]), np.array([13])))
    encoder.fold()
    with torch.no_grad():
        for _ in range(2):
            for row, expected in zip(rows, alone):
                torch.testing.assert_close(encoder(pack([row]), np.array([13])), expected, rtol=0, atol=1e-6)
