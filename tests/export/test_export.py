"""Exported graphs against the Embedder: the dial, batches, both backbones, weights and bad input."""

import json
import re

import numpy as np
import onnx
import pytest
from tokenizers import Tokenizer

from jaspertc import Embedder
from jaspertc.config import CompressorConfig
from jaspertc.errors import CheckpointError, ConfigError, InputError, RatioError
from jaspertc.export.write import export
from jaspertc.model.compressors.adaptive_average import AdaptiveAverage, AdaptiveAverageConfig
from jaspertc.model.compressors.disjoint import DisjointAverageConfig
from jaspertc.model.compressors.fractional import FractionalAverageConfig
from jaspertc.samples import load_samples

RATIOS = (1.0, 0.9, 0.66, 0.5, 1 / 3, 0.2, 0.1, 0.05)
TOLERANCE = 1e-4


def unit(vectors: np.ndarray) -> np.ndarray:
    return vectors / np.linalg.norm(vectors, axis=1, keepdims=True)


def rows_of(vocabulary: int, lengths: tuple[int, ...], seed: int = 0) -> list[np.ndarray]:
    random = np.random.default_rng(seed)
    return [random.integers(0, vocabulary, length) for length in lengths]


def mixed(graph, rows, ratio, threshold=80):
    """Raw vectors of rows of mixed lengths, ratio and threshold for each: the longest row with the first of
    the others, these together. Attention of all golden rows in one batch would take 4 GB.
    """
    ratio, threshold = (np.broadcast_to(value, len(rows)) for value in (ratio, threshold))
    longest = int(np.argmax([len(row) for row in rows]))
    others = [place for place in range(len(rows)) if place != longest]
    found = {}
    for batch in (others, [others[0], longest]):
        vectors = graph([rows[place] for place in batch], ratio=ratio[batch], threshold=threshold[batch])
        found |= dict(zip(batch, vectors))
    return np.stack([found[place] for place in range(len(rows))])


@pytest.mark.parametrize("ratio", RATIOS)
def test_golden_vectors_in_a_batch_and_alone(golden, exported, ratio):
    graph = exported(golden.folder)
    expected = golden.expected[ratio]
    np.testing.assert_allclose(mixed(graph, golden.rows, ratio), expected, rtol=0, atol=TOLERANCE)
    for row, vector in zip(golden.rows, expected):
        np.testing.assert_allclose(graph([row], ratio=ratio)[0], vector, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("seed", range(3))
def test_ratios_and_thresholds_for_each_text(golden, exported, seed):
    random = np.random.default_rng(seed)
    texts = random.permutation(len(golden.rows))
    ratios = random.choice(RATIOS, size=len(texts))
    rows = [golden.rows[text] for text in texts]
    found = mixed(exported(golden.folder), rows, ratios)
    np.testing.assert_allclose(
        found, np.stack([golden.expected[r][t] for r, t in zip(ratios, texts)]), rtol=0, atol=TOLERANCE
    )
    threshold = int(random.integers(1, 200))
    expected = golden.embedder.encode_ids(rows, ratio=ratios.tolist(), threshold=threshold, normalize=False)
    found = mixed(exported(golden.folder), rows, ratios, threshold)
    np.testing.assert_allclose(found, expected, rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("ratio", [1.0, 0.5, 1 / 3, 0.05])
def test_mini(exported, ratio):
    """Texts beyond its 512 positions are compressed to them, as by the Embedder."""
    embedder = Embedder.load("mini", device="cpu", dtype="float32", runtime="torch")
    rows = rows_of(embedder.config.backbone.vocab_size, (1, 5, 79, 81, 200, 700))
    expected = embedder.encode_ids(rows, ratio=ratio, normalize=False)
    graph = exported("mini")
    np.testing.assert_allclose(graph(rows, ratio=ratio), expected, rtol=0, atol=TOLERANCE)
    np.testing.assert_allclose(
        graph(rows, ratio=ratio, output="embedding"), unit(expected), rtol=0, atol=1e-5
    )


BERT = {"kind": "bert", "causal": False, "num_kv_heads": 4, "max_positions": 300, "position_offset": 2}
SHAPES = {
    "bert": {"backbone": BERT},
    "bert, tanh": {"backbone": BERT | {"gelu": "tanh"}, "pooler": "first"},
    "qwen3": {"pooler": "last"},
    "qwen3, both ways": {"backbone": {"causal": False}},
    "no MLP": {"compressor": AdaptiveAverageConfig(threshold=20)},
    "disjoint": {"compressor": DisjointAverageConfig(threshold=20, mlp="swiglu", mlp_size=20)},
    "fractional": {"compressor": FractionalAverageConfig(threshold=20)},
    "not unit": {"normalize": False},
}


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("stored", ["keep", "int8", "bfloat16"])
def test_every_shape(make_model, exported, shape, stored):
    folder = make_model(**SHAPES[shape], save={"weights": stored})
    embedder = Embedder.load(folder, device="cpu", dtype="float32", runtime="torch")
    rows = rows_of(embedder.config.backbone.vocab_size, (1, 3, 19, 20, 21, 64, 90, 400))
    graph = exported(folder)
    for ratio in (1.0, 0.4, 0.05):
        expected = embedder.encode_ids(rows, ratio=ratio, normalize=False)
        scale = max(1.0, float(np.abs(expected).max()))
        np.testing.assert_allclose(graph(rows, ratio=ratio), expected, rtol=0, atol=TOLERANCE * scale)
    finished = embedder.encode_ids(rows)
    np.testing.assert_allclose(graph(rows, output="embedding"), finished, rtol=1e-4, atol=1e-4)


def test_padding_anywhere(golden, exported):
    graph = exported(golden.folder)
    rows = golden.rows[2:8]
    ids = np.zeros((len(rows), 300), dtype=np.int64)
    mask = np.zeros_like(ids)
    random = np.random.default_rng(0)
    for place, row in enumerate(rows):
        where = np.sort(random.permutation(300)[: len(row)])
        ids[place, where], mask[place, where] = row, 1
    found = graph.of(ids, mask, ratio=0.5)
    np.testing.assert_allclose(found, golden.expected[0.5][2:8], rtol=0, atol=TOLERANCE)


def test_bad_ratio_threshold_and_ids_have_defined_results(golden, exported):
    graph, rows = exported(golden.folder), golden.rows[6:12]

    def equal(one, other):
        np.testing.assert_array_equal(one, other)

    usual = golden.embedder.default_ratio
    equal(graph(rows, ratio=np.nan), graph(rows, ratio=usual))
    equal(graph(rows), graph(rows, ratio=usual, threshold=golden.embedder.default_threshold))
    equal(graph(rows, ratio=1.5), graph(rows, ratio=1.0))
    equal(graph(rows, ratio=np.inf), graph(rows, ratio=1.0))
    equal(graph(rows, ratio=-3.0), graph(rows, ratio=0.0))
    equal(graph(rows, ratio=0.0), graph(rows, ratio=1e-9))
    equal(graph(rows, threshold=-5), graph(rows, threshold=1))
    last = golden.embedder.config.backbone.vocab_size - 1
    wrong, nearest = np.array([-1, 5, last + 1, 10**12]), np.array([0, 5, last, last])
    equal(graph([wrong]), graph([nearest]))


def test_a_text_without_tokens_is_zeros_and_changes_no_other(golden, exported):
    graph, row = exported(golden.folder), golden.rows[7]
    ids = np.zeros((3, len(row)), dtype=np.int64)
    mask = np.zeros_like(ids)
    ids[1], mask[1] = row, 1
    found = graph.of(ids, mask, ratio=0.5)
    assert not found[[0, 2]].any()
    np.testing.assert_allclose(found[1], golden.expected[0.5][7], rtol=0, atol=TOLERANCE)
    assert not graph.of(ids[:1], mask[:1], output="embedding").any()


def test_target_lengths_are_those_of_float64(golden, exported):
    """Ratios at which float32 arithmetic gives another length: 100 * 0.9 is 90, not 89.99999."""
    graph = exported(golden.folder)
    rows = rows_of(golden.embedder.config.backbone.vocab_size, (180, 541, 90, 130))
    for ratio in (0.9, 0.7, 0.1, 0.3):
        expected = golden.embedder.encode_ids(rows, ratio=ratio, normalize=False)
        np.testing.assert_allclose(graph(rows, ratio=ratio), expected, rtol=0, atol=TOLERANCE)


def test_int8_and_float16_of_mini_on_texts(exported):
    embedder = Embedder.load("mini", device="cpu", dtype="float32", runtime="torch")
    texts = [passage["text"] for passage in load_samples("passages")]
    rows = [row[:200] for row in embedder.tokenize(texts, prompt="passage: ")]
    expected = embedder.encode_ids(rows, ratio=0.33)
    for weights, least in (("int8", 0.995), ("float16", 0.9999)):
        found = exported("mini", weights=weights)(rows, ratio=0.33, output="embedding")
        assert (found * expected).sum(1).min() >= least, weights


def test_int8_vectors_do_not_depend_on_batch_mates(exported):
    graph = exported("mini", weights="int8")
    rows = rows_of(40_000, (3, 90, 40, 120))
    together = graph(rows, ratio=0.5, output="embedding")
    alone = np.concatenate([graph([row], ratio=0.5, output="embedding") for row in rows])
    assert (together * alone).sum(1).min() > 0.99999


def test_stored_integers_are_kept(exported):
    from jaspertc.checkpoint import load_checkpoint

    proto = onnx.load(exported("mini", weights="int8").path)
    stored = {item.name: onnx.numpy_helper.to_array(item) for item in proto.graph.initializer}
    layer = load_checkpoint("mini", keep_int8=True).encoder.backbone.encoder.layer[3]
    whole = stored["layer.3.up.weight"].T.astype(np.int16) - 128
    np.testing.assert_array_equal(whole, layer.intermediate.dense.weight.numpy())


@pytest.mark.parametrize("weights", ["float32", "float16", "int8"])
def test_standard_operators_only(make_model, exported, weights):
    path = exported(make_model(), weights=weights).path
    onnx.checker.check_model(str(path), full_check=True)
    proto = onnx.load(path)
    assert [(item.domain, item.version) for item in proto.opset_import] == [("", 20)]
    assert {node.domain for node in proto.graph.node} == {""}


def test_weights_beside_the_file(model_folder, model, tmp_path, exported):
    inside = export(model_folder, tmp_path / "a" / "inside.onnx", raw=True)
    beside = export(model_folder, tmp_path / "b" / "beside.onnx", raw=True, external=True)
    assert [path.name for path in beside.model] == ["beside.onnx", "beside.onnx.data"]
    assert beside.model[0].stat().st_size < inside.size
    opened = type(exported(model_folder))
    rows = rows_of(320, (3, 20, 50))
    found = [opened(each.model[0])(rows, ratio=0.4) for each in (inside, beside)]
    np.testing.assert_array_equal(*found)


def test_metadata_and_what_lies_beside(make_model, tmp_path):
    folder = make_model(save={"default_prompt_name": "query"})
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# small\n")
    result = export(folder, tmp_path / "new" / "small.onnx", weights="int8", ratio=0.25, threshold=12)
    proto = onnx.load(result.model[0])
    facts = {item.key.removeprefix("jaspertc."): item.value for item in proto.metadata_props}
    assert facts["licence"] == "mit"
    assert facts["weights"] == "int8"
    assert (facts["ratio"], facts["threshold"]) == ("0.25", "12")
    assert json.loads(facts["prompts"]) == {"query": "Find: ", "document": ""}
    assert facts["default_prompt_name"] == "query"
    assert {path.name for path in result.beside} >= {"README.md", "tokenizer.json", "tokenizer_config.json"}
    page = (tmp_path / "new" / "README.md").read_text()
    assert "mit" in page
    assert "0.25" in page


@pytest.mark.parametrize(
    ("piece_length", "options", "said"),
    [
        (None, {}, r"more than 64 tokens after compression .*long_texts=.compress.\S* does\.\nOutput"),
        (
            48,
            {},
            "long_texts=.compress.*more than 48 tokens in pieces.*cut longer texts into pieces yourself",
        ),
        (100, {"compressor": CompressorConfig()}, r"enable_truncation\(64\).*more than 64 tokens in pieces"),
    ],
)
def test_what_is_done_with_long_texts_is_said(make_model, tmp_path, piece_length, options, said):
    folder = make_model(save={"piece_length": piece_length}, **options)
    result = export(folder, tmp_path / "new" / "small.onnx")
    assert re.search(said, (tmp_path / "new" / "README.md").read_text(), re.DOTALL)
    facts = {item.key: item.value for item in onnx.load(result.model[0]).metadata_props}
    expected = None if piece_length is None else str(min(piece_length, 64))
    assert facts.get("jaspertc.piece_length") == expected


def test_long_texts_are_compressed_as_the_page_says(make_model, exported, sentences):
    folder = make_model(save={"piece_length": 48})
    embedder = Embedder.load(folder, device="cpu", dtype="float32", runtime="torch")
    text = " ".join(sentences)
    found = exported(folder)(embedder.tokenize([text]), ratio=0.5, output="embedding")
    assert len(next(embedder.encode_pieces([text])).spans) > 1
    np.testing.assert_allclose(
        found, embedder.encode([text], ratio=0.5, long_texts="compress"), rtol=0, atol=1e-5
    )


def test_without_defaults_the_dial_must_be_given(make_model, exported):
    graph = exported(make_model(), defaults=False)
    assert {item.name for item in graph.session.get_inputs()} == {
        "input_ids",
        "attention_mask",
        "ratio",
        "threshold",
    }


@pytest.mark.parametrize("given", [{"ratio": 0.5}, {"threshold": 40}])
def test_what_calls_take_that_give_none_needs_defaults(model_folder, tmp_path, given):
    with pytest.raises(InputError, match=r"(ratio|threshold) is .*, for calls that give none.*leave it"):
        export(model_folder, tmp_path / "x.onnx", defaults=False, **given)


def test_a_model_without_compressor_has_no_dial(make_model, exported):
    folder = make_model(compressor=CompressorConfig())
    embedder = Embedder.load(folder, device="cpu", dtype="float32", runtime="torch")
    graph = exported(folder)
    assert [item.name for item in graph.session.get_inputs()] == ["input_ids", "attention_mask"]
    rows = rows_of(320, (1, 30, 64))
    expected = embedder.encode_ids(rows, normalize=False)
    np.testing.assert_allclose(graph(rows), expected, rtol=0, atol=TOLERANCE)
    longer = [np.concatenate([rows[2], rows[1]])]
    np.testing.assert_allclose(graph(longer)[0], expected[2], rtol=0, atol=TOLERANCE)


@pytest.mark.parametrize("method", ["forward", "windows", "target_lengths"])
def test_a_compressor_that_cannot_be_exported_is_named(model_folder, tmp_path, monkeypatch, method):
    """One with a way of its own to compress, which no graph knows."""
    own = getattr(AdaptiveAverage, method)
    monkeypatch.setattr(AdaptiveAverage, method, lambda *given, **named: own(*given, **named))
    with pytest.raises(CheckpointError, match=r"compressor 'adaptive-average'.*cannot be exported"):
        export(model_folder, tmp_path / "out.onnx")
    assert not (tmp_path / "out.onnx").exists()


def test_refusals(model_folder, tmp_path):
    with pytest.raises(CheckpointError, match=r"must end in \.onnx"):
        export(model_folder, tmp_path / "out")
    with pytest.raises(InputError, match="float32, float16, int8"):
        export(model_folder, tmp_path / "out.onnx", weights="int4")
    with pytest.raises(RatioError, match=r"ratio is 1\.5"):
        export(model_folder, tmp_path / "out.onnx", ratio=1.5)
    with pytest.raises(ConfigError, match="threshold is 0"):
        export(model_folder, tmp_path / "out.onnx", threshold=0)
    with pytest.raises(CheckpointError, match="holds a checkpoint"):
        export(model_folder, model_folder / "out.onnx")
    export(model_folder, tmp_path / "out.onnx")
    with pytest.raises(CheckpointError, match="exists already"):
        export(model_folder, tmp_path / "out.onnx")
    export(model_folder, tmp_path / "out.onnx", overwrite=True)


def test_what_lies_beside_is_not_replaced_by_another(model_folder, tmp_path):
    export(model_folder, tmp_path / "one.onnx")
    export(model_folder, tmp_path / "two.onnx", weights="int8")  # the same tokenizer and settings
    other = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    other.add_tokens(["<another>"])
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    pruned = (other.to_str(), np.arange(300))
    with pytest.raises(CheckpointError, match=r"a different tokenizer\.json, .*--overwrite"):
        export(model_folder, tmp_path / "three.onnx", pruned=pruned)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before
    export(model_folder, tmp_path / "three.onnx", pruned=pruned, overwrite=True)
    assert (tmp_path / "tokenizer.json").read_text() == other.to_str()


def test_files_of_others_are_kept(model_folder, tmp_path):
    for name in ("README.md", "config.json"):
        (tmp_path / name).write_text("mine")
    with pytest.raises(CheckpointError, match=r"a different README\.md, config\.json"):
        export(model_folder, tmp_path / "out.onnx")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["README.md", "config.json"]
    assert (tmp_path / "README.md").read_text() == "mine"
