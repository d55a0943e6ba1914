"""What each option of a call does, on small models."""

import dataclasses
import itertools
import threading
from contextlib import contextmanager

import numpy as np
import pytest

from jaspertc import Embedder
from jaspertc.config import HeadConfig
from jaspertc.engine.options import LongTextWarning
from jaspertc.engine.runtimes.torch_runtime import choose_dtype
from jaspertc.errors import InputError
from jaspertc.model.compressors.adaptive_average import AdaptiveAverageConfig

CLOSE = {"rtol": 0, "atol": 1e-6}


def ids_of(model, text, **options):
    (row,) = model.tokenize([text], **options)
    return row


def test_shapes_and_order(model, sentences):
    whole = model.encode(sentences)
    assert whole.shape == (len(sentences), 24)
    assert whole.dtype == np.float32
    assert model.encode(sentences[0]).shape == (24,)
    for source in (tuple(sentences), iter(sentences), np.array(sentences)):
        np.testing.assert_allclose(model.encode(source), whole, **CLOSE)
    np.testing.assert_allclose(model.encode(sentences[::-1]), whole[::-1], **CLOSE)
    assert np.abs(np.linalg.norm(whole, axis=1) - 1).max() < 1e-6
    assert model.similarity(whole, whole)[~np.eye(len(whole), dtype=bool)].max() < 0.99  # all differ


def test_encode_is_encode_ids_of_the_tokens(model, sentences):
    rows = model.tokenize(sentences)
    for ratio in (1, 0.5, 0.1):
        found = model.encode(sentences, ratio=ratio, max_compressed=60)
        np.testing.assert_allclose(found, model.encode_ids(rows, ratio=ratio, max_compressed=60), **CLOSE)


def test_prompts(model):
    text = "where do rivers end?"
    plain, query = model.encode(text), model.encode("Find: " + text)
    assert np.abs(plain - query).max() > 1e-3
    for found in (
        model.encode(text, prompt="Find: "),
        model.encode(text, prompt_name="query"),
        model.encode_query(text),
        model.encode_query([text])[0],
        model.encode_query("Find: " + text, prompt=""),
    ):
        np.testing.assert_allclose(found, query, **CLOSE)
    for found in (model.encode(text, prompt=""), model.encode_document(text)):
        np.testing.assert_allclose(found, plain, **CLOSE)


@pytest.mark.parametrize(
    ("prompts", "default", "encode", "query", "document"),
    [
        ({}, None, "", "", ""),
        ({"query": "Q "}, "query", "Q ", "Q ", ""),
        ({"query": "Q ", "passage": "P "}, None, "", "Q ", "P "),
        ({"document": "D ", "passage": "P "}, "passage", "P ", "", "D "),
    ],
)
def test_which_prompt_is_used(make_model, prompts, default, encode, query, document):
    folder = make_model(save={"prompts": prompts, "default_prompt_name": default})
    model = Embedder.load(folder, device="cpu", dtype="float32")
    for call, prompt in (
        (model.encode, encode),
        (model.encode_query, query),
        (model.encode_document, document),
    ):
        np.testing.assert_allclose(call("text"), model.encode("text", prompt=prompt), **CLOSE)


def test_prompt_counts_as_tokens(model):
    text = "a river carries silt"
    row = ids_of(model, text, prompt="Find: ")
    assert len(row) > len(ids_of(model, text)) > 8
    found = model.encode(text, prompt_name="query", ratio=0.2)
    np.testing.assert_allclose(found, model.encode_ids([row], ratio=0.2)[0], **CLOSE)


def test_max_length(model, make_model, sentences):
    row = ids_of(model, sentences[0])
    cut = np.concatenate([row[:11], row[-1:]])
    found = model.encode(sentences[0], max_length=12, ratio=0.5)
    np.testing.assert_allclose(found, model.encode_ids([cut], ratio=0.5)[0], **CLOSE)
    limited = Embedder.load(make_model(save={"max_length": 12}), device="cpu", dtype="float32")
    assert (model.max_length, limited.max_length) == (None, 12)
    with pytest.warns(LongTextWarning, match="1 of 1"):
        np.testing.assert_allclose(limited.encode(sentences[0], ratio=0.5), found, **CLOSE)
    whole = model.encode(sentences[0], ratio=0.5)
    np.testing.assert_allclose(limited.encode(sentences[0], ratio=0.5, max_length=1000), whole, **CLOSE)


def test_the_dial(model, sentences):
    text = sentences[0]
    length = len(ids_of(model, text))
    assert 20 < length < 64
    vectors = {ratio: model.encode(text, ratio=ratio) for ratio in (1, 0.5, 0.1)}
    np.testing.assert_allclose(model.encode(text), vectors[0.5], **CLOSE)  # the folder's default
    np.testing.assert_allclose(model.encode(text, threshold=length, ratio=0.1), vectors[1], **CLOSE)
    kept = 8 + int((length - 8) * 0.1)
    np.testing.assert_allclose(model.encode(text, ratio=1, max_compressed=kept), vectors[0.1], **CLOSE)
    np.testing.assert_allclose(model.encode(text, ratio=0.1, max_compressed=60), vectors[0.1], **CLOSE)
    short = "a b"
    assert len(ids_of(model, short)) <= 8
    np.testing.assert_allclose(model.encode(short, ratio=0.1), model.encode(short, ratio=1), **CLOSE)
    found = model.encode([text] * 3, ratio=[1, 0.5, 0.1])
    np.testing.assert_allclose(found, np.stack(list(vectors.values())), **CLOSE)
    assert np.abs(vectors[1] - vectors[0.5]).max() > 1e-3
    assert np.abs(vectors[0.1] - vectors[0.5]).max() > 1e-3


def test_default_ratio_and_threshold_are_the_folders(make_model, sentences):

    config = AdaptiveAverageConfig(mlp="swiglu", mlp_size=40, threshold=20, ratio=0.25)
    model = Embedder.load(make_model(compressor=config), device="cpu", dtype="float32")
    assert (model.default_ratio, model.default_threshold) == (0.25, 20)
    explicit = model.encode(sentences, ratio=0.25, threshold=20)
    np.testing.assert_allclose(model.encode(sentences), explicit, **CLOSE)
    assert model.target_lengths(np.array([20, 24, 100, 9999])).tolist() == [20, 21, 40, 64]
    assert model.target_lengths(np.array([100]), ratio=1, max_compressed=30).tolist() == [30]


def test_dims_are_a_prefix_normalised_again(model, sentences):
    raw = model.encode(sentences, normalize=False)
    assert np.abs(np.linalg.norm(raw, axis=1) - 1).min() > 1e-3
    for width in (8, 16, 24):
        cut = raw[:, :width]
        unit = cut / np.linalg.norm(cut, axis=1, keepdims=True)
        np.testing.assert_allclose(model.encode(sentences, dims=width), unit, **CLOSE)
        np.testing.assert_allclose(
            model.encode(sentences, dims=width, normalize=False), cut, rtol=0, atol=1e-5
        )


def test_a_folder_can_leave_vectors_as_they_are(make_model, sentences):
    model = Embedder.load(make_model(normalize=False), device="cpu", dtype="float32")
    raw = model.encode(sentences)
    assert np.linalg.norm(raw, axis=1).min() > 1.01
    np.testing.assert_allclose(raw, model.encode(sentences, normalize=False), rtol=0, atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(model.encode(sentences, normalize=True), axis=1), 1, **CLOSE)
    np.testing.assert_allclose(model.encode_ids(model.tokenize(sentences)), raw, rtol=0, atol=1e-5)


def test_small_batches_give_the_same(model, sentences, monkeypatch):
    whole = model.encode(sentences, ratio=0.5)
    for budget in (1, 7, 50):
        monkeypatch.setattr(model.runtime, "token_budget", budget)
        np.testing.assert_allclose(model.encode(sentences, ratio=0.5), whole, **CLOSE)


@pytest.mark.parametrize("pooler", ["mean", "last", "first"])
def test_poolers_and_no_head(make_model, sentences, pooler):
    model = Embedder.load(make_model(pooler=pooler, head=HeadConfig()), device="cpu", dtype="float32")
    assert model.dims == 32
    vectors = model.encode(sentences, ratio=0.5)
    assert vectors.shape == (8, 32)
    if pooler == "first":  # causal: the first token sees itself alone
        row = model.tokenize([sentences[0]])[0]
        alone = model.encode_ids([row[:1]])[0]
        np.testing.assert_allclose(model.encode(sentences[0], ratio=1), alone, rtol=0, atol=1e-5)


def test_show_progress_writes_to_standard_error_only(model, sentences, capsys):
    found = model.encode(sentences, show_progress=True)
    np.testing.assert_allclose(found, model.encode(sentences), **CLOSE)
    assert capsys.readouterr().out == ""


def test_facts_about_the_model(model, model_folder):
    assert model.dims == 24
    assert model.prompts == {"query": "Find: ", "document": ""}
    model.prompts["query"] = "changed"  # a copy
    assert model.prompts["query"] == "Find: "
    assert str(model_folder) in repr(model)
    assert dataclasses.is_dataclass(model.config)


def test_fingerprint_tells_models_apart(make_model):
    folders = [make_model(), make_model(), make_model(seed=1), make_model(save={"max_length": 9})]
    first, same, *others = [Embedder.load(folder, device="cpu").fingerprint for folder in folders]
    assert first == same
    assert len({first, *others}) == 3


def test_a_stream_of_texts_is_tokenised(model):
    texts = ["a b", "c"]
    for prompt in ("", "Find: "):
        rows = model.tokenize((text for text in texts), prompt=prompt)
        assert [row.tolist() for row in rows] == [
            row.tolist() for row in model.tokenize(texts, prompt=prompt)
        ]


def test_choose_dtype():
    import torch

    cpu, half, full = torch.device("cpu"), torch.bfloat16, torch.float32
    assert choose_dtype("auto", full, cpu) == full
    assert choose_dtype("auto", half, torch.device("cuda")) == half
    assert choose_dtype("auto", half, cpu) in (half, full)  # by what the processor has
    assert choose_dtype("bfloat16", full, cpu) == half
    assert choose_dtype("float32", half, cpu) == full


# Streams: the next block is tokenised while one is computed


def test_a_stream_gives_the_bits_of_its_blocks_alone(model, sentences):
    texts = [f"{text} {number}" for number in range(3) for text in sentences]
    blocks = list(model.encode_stream(iter(texts), ratio=0.5, block_size=5))
    assert [len(block) for block in blocks] == [5, 5, 5, 5, 4]
    for place, block in enumerate(blocks):
        np.testing.assert_array_equal(block, model.encode(texts[5 * place : 5 * place + 5], ratio=0.5))


@pytest.mark.parametrize("size", [0, -1, 1.5, True, "3"])
def test_block_size_is_an_integer_from_1(model, size):
    with pytest.raises(InputError, match=r"block_size is .* an integer >= 1"):
        model.encode_stream(["a"], block_size=size)


def test_a_block_is_tokenised_while_the_one_before_is_computed(model, monkeypatch):
    tokenised = threading.Event()
    real_tokens, real_vectors = model.texts.tokenize, model.runtime.embed_all
    waited = []

    def tokenize(texts, **options):
        rows = real_tokens(texts, **options)
        if texts[0] == "second":
            tokenised.set()
        return rows

    def embed_all(batches):
        waited.append(tokenised.wait(20))
        return real_vectors(batches)

    monkeypatch.setattr(model.texts, "tokenize", tokenize)
    monkeypatch.setattr(model.runtime, "embed_all", embed_all)
    assert len(list(model.encode_stream(["first", "second", "third"], block_size=1))) == 3
    assert waited[0]


def test_a_text_that_is_no_string_comes_after_the_blocks_before(model):
    blocks = model.encode_stream(["a", "b", "c", "d", None, "f"], block_size=2)
    assert [len(next(blocks)), len(next(blocks))] == [2, 2]
    with pytest.raises(InputError, match="text 4 is None"):
        next(blocks)


def test_an_error_of_the_source_comes_after_the_blocks_before(model):
    def texts():
        yield from "abcde"
        raise LookupError("no more")

    blocks = model.encode_stream(texts(), block_size=2)
    assert [len(next(blocks)), len(next(blocks))] == [2, 2]
    with pytest.raises(LookupError, match="no more"):
        next(blocks)


def test_a_stream_that_is_left_early_leaves_no_thread(model):
    def threads():
        return [thread for thread in threading.enumerate() if thread.name.startswith("jaspertc-ahead")]

    blocks = model.encode_stream((f"text {number}" for number in itertools.count()), block_size=2)
    next(blocks)
    assert len(threads()) == 1
    blocks.close()
    assert not threads()
    list(model.encode_stream(["a", "b", "c"], block_size=2))
    assert not threads()


def test_streams_at_once_are_independent(model, sentences):
    ratios = (1, 0.5, 0.1)
    streams = [model.encode_stream(sentences, ratio=ratio, block_size=2) for ratio in ratios]
    in_turns = list(zip(*streams))
    for ratio, blocks in zip(ratios, zip(*in_turns)):
        np.testing.assert_allclose(np.concatenate(blocks), model.encode(sentences, ratio=ratio), **CLOSE)


def test_show_progress_counts_what_is_done(model, sentences, monkeypatch):
    told = []

    @contextmanager
    def progress(texts, show):
        assert show
        yield told.append

    monkeypatch.setattr("jaspertc.engine.options.progress", progress)
    monkeypatch.setattr(model.runtime, "token_budget", 30)
    blocks = model.encode_stream(sentences, show_progress=True, block_size=4)
    next(blocks)
    assert sum(told) == 4
    assert len(told) > 1
    list(blocks)
    assert sum(told) == len(sentences)
