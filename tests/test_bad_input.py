"""What callers get wrong, and what texts can contain: a named error or a defined vector, never a surprise."""

import math
import threading
import warnings

import numpy as np
import pytest
import torch

from jaspertc import Embedder, JasperError
from jaspertc.config import CompressorConfig
from jaspertc.engine.options import LongTextWarning
from jaspertc.errors import CheckpointError, InputError, RatioError, TokenizerError

LONG = "a river carries silt to the delta and " * 40


@pytest.fixture(scope="module")
def plain(make_model):
    """A small model without a compressor: 64 positions are 64 tokens."""
    return Embedder.load(make_model(compressor=CompressorConfig()), device="cpu", dtype="float32")


@pytest.fixture(autouse=True)
def _no_stray_warnings():
    with warnings.catch_warnings():
        warnings.simplefilter("error", LongTextWarning)
        yield


def lengths_of(model, texts):
    return [len(row) for row in model.tokenize(texts)]


# Ratio and the other numbers of a call


@pytest.mark.parametrize(
    "ratio",
    [0, -0.5, 1.01, 33, -1e9, math.nan, math.inf, -math.inf, "0.5", True, [0.5, 2], [0.5, math.nan], {}, 1j],
    ids=repr,
)
def test_ratio_outside_its_range(model, ratio):
    for call in (model.encode, model.encode_query, model.encode_document):
        with pytest.raises(RatioError, match="ratio"):
            call(["one", "two"], ratio=ratio)
    with pytest.raises(RatioError, match="ratio"):
        model.encode_ids([[1], [2]], ratio=ratio)
    assert issubclass(RatioError, InputError)
    assert issubclass(RatioError, ValueError)


@pytest.mark.parametrize("ratio", [[], [0.5], [0.5, 0.5, 0.5], [[0.5, 0.5]], np.ones((2, 1))], ids=str)
def test_not_one_ratio_per_text(model, ratio):
    with pytest.raises(RatioError, match=r"ratio has shape .*one for each text"):
        model.encode(["one", "two"], ratio=ratio)


def test_the_text_with_the_bad_ratio_is_named(model):
    with pytest.raises(RatioError, match=r"ratio is 1\.5 at text 1"):
        model.encode(["one", "two"], ratio=[1, 1.5])


def test_one_ratio_per_text_needs_a_list(model):
    with pytest.raises(InputError, match="list of texts, not a stream"):
        model.encode((text for text in ["one", "two"]), ratio=[0.5, 0.5])


@pytest.mark.parametrize("value", [0, -3, 2.5, "8", math.nan, True], ids=repr)
@pytest.mark.parametrize("name", ["threshold", "max_compressed"])
def test_bad_counts(model, name, value):
    with pytest.raises(RatioError, match=f"{name} is"):
        model.encode(["one"], **{name: value})


@pytest.mark.parametrize("value", [0, -3, 1])
def test_max_length_too_small(model, value):
    with pytest.raises(InputError, match=rf"max_length is {value}, it must be > 1"):
        model.encode(["one"], max_length=value)


@pytest.mark.parametrize("dims", [0, -8, 12, 25, 2048, "8", 7.5], ids=repr)
def test_dims_not_trained(model, dims):
    with pytest.raises(InputError, match=r"dims is .*trained for 8, 16, 24"):
        model.encode(["one"], dims=dims)
    with pytest.raises(InputError, match="dims"):
        model.encode([], dims=dims)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"precision": "int4"}, r"precision is 'int4'.*float32, float16, int8, ubinary"),
        ({"precision": None}, "precision is None"),
        ({"long_texts": "cut"}, r"long_texts is 'cut'.*pieces, compress, truncate"),
        ({"prompt_name": "qury"}, r"prompt_name is 'qury', this model has query, document"),
        ({"prompt": "a", "prompt_name": "query"}, "not both"),
    ],
    ids=str,
)
def test_unknown_options(model, option, message):
    for texts in (["one"], []):
        with pytest.raises(InputError, match=message):
            model.encode(texts, **option)


def test_a_misspelt_keyword(model):
    for call in (model.encode, model.encode_query, model.encode_stream):
        with pytest.raises(TypeError, match="compression_ratio"):
            call(["one"], compression_ratio=0.5)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"dtype": "float16"}, "float16 overflows in this model family, use bfloat16"),
        ({"dtype": "int8"}, r"dtype is 'int8', it must be auto, float32 or bfloat16"),
        ({"device": "gpu"}, r"device 'gpu' cannot be used here .*'cpu' or 'auto'"),
        ({"device": "cuda:99"}, r"device 'cuda:99' cannot be used here"),
        ({"runtime": "onnx"}, "runtime is 'onnx', it must be auto or one of torch"),
    ],
    ids=str,
)
def test_unknown_device_dtype_or_runtime(model_folder, option, message):
    with pytest.raises(InputError, match=message):
        Embedder.load(model_folder, **option)


@pytest.mark.parametrize(
    "name", ["mni", "/no/such/folder", "./nothing", "a/b/c", "a" * 5000, "a\0b"], ids=ascii
)
def test_no_such_model(name):
    with pytest.raises(CheckpointError, match="neither a built-in name"):
        Embedder.load(name)


def test_an_empty_name_is_not_the_current_folder(model_folder, monkeypatch):
    monkeypatch.chdir(model_folder)
    assert Embedder.load(".").dims
    with pytest.raises(CheckpointError, match="model name is '', it must be 'mini', a folder or a hub name"):
        Embedder.load("")


def test_no_compressor_to_turn_the_dial_of(plain):
    with pytest.raises(RatioError, match=r"this model has no compressor.*jaspertc graft"):
        plain.encode(["one"], ratio=0.5)
    np.testing.assert_array_equal(plain.encode(["one"], ratio=1), plain.encode(["one"]))


# Texts that are none


@pytest.mark.parametrize(
    ("texts", "fix"),
    [
        (None, "a list of strings"),
        (3, "a list of strings"),
        (2.5, "a list of strings"),
        (b"bytes", "a list of strings"),
        (bytearray(b"bytes"), "a list of strings"),
        (object(), "a list of strings"),
        ({"text": 1}, r"list\(texts\.values\(\)\)"),
        ({"b", "a"}, r"order is not defined.*sorted\(texts\)"),
        (frozenset("ab"), "order is not defined"),
        (np.array("one"), r"of shape \(\), it must be"),
        (np.array([["one"], ["two"]]), r"of shape \(2, 1\), it must be"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_not_an_iterable_of_strings(model, texts, fix):
    for call in (model.encode, model.encode_query, model.encode_document, model.encode_stream):
        with pytest.raises(InputError, match=rf"texts is an? {type(texts).__name__}.*{fix}"):
            call(texts)
    with pytest.raises(InputError, match=rf"texts is an? {type(texts).__name__}"):
        model.tokenize(texts)


def test_one_string_where_several_are_due(model):
    for call in (model.encode_stream, model.encode_pieces, model.tokenize):
        with pytest.raises(InputError, match=r"texts is a str, .* needs an iterable of strings"):
            call("one")


@pytest.mark.parametrize("library", ["pandas", "polars", "pyarrow", "datasets"])
def test_a_table_is_no_list_of_texts(model, library):
    package = pytest.importorskip(library)
    columns = {"id": ["1", "2"], "text": ["one", "two"]}
    makers = {
        "pyarrow": lambda: package.table(columns),
        "datasets": lambda: package.Dataset.from_dict(columns),
    }
    table = makers.get(library, lambda: package.DataFrame(columns))()
    with pytest.raises(
        InputError, match=rf"texts is a {type(table).__name__} with columns 'id', 'text'; .*tolist"
    ):
        model.encode(table)
    with pytest.raises(InputError, match=rf"rows is a {type(table).__name__}"):
        model.encode_ids(table)


def test_columns_of_strings_are_texts(model):
    texts = ["one", "two words", ""]
    expected = model.encode(texts)
    pandas, polars = pytest.importorskip("pandas"), pytest.importorskip("polars")
    series = pandas.Series(texts, index=[7, 3, 5])
    sources = [series, series.astype("string"), series.astype("category"), polars.Series(texts)]
    for source in [*sources, np.array(texts), np.array(texts, dtype=object), tuple(texts), iter(texts)]:
        np.testing.assert_allclose(model.encode(source), expected, rtol=0, atol=1e-6)
    np.testing.assert_allclose(
        model.encode(series, ratio=pandas.Series([1.0, 0.5, 0.1])),
        model.encode(texts, ratio=[1, 0.5, 0.1]),
        rtol=0,
        atol=1e-6,
    )
    np.testing.assert_allclose(model.encode(np.array(texts)[1]), expected[1], rtol=0, atol=1e-6)


def test_columns_of_something_else_name_the_item(model):
    pandas, pyarrow = pytest.importorskip("pandas"), pytest.importorskip("pyarrow")
    missing = "leave missing texts out"
    for source, message in (
        (pandas.Series([1, 2]), r"text 0 is .*int.*str\(text\)"),
        (pandas.Series(["one", None], dtype=object), f"text 1 is None.*{missing}"),
        (pandas.Series(["one", math.nan], dtype=object), f"text 1 is nan.*{missing}"),
        (pandas.Series(["one", None], dtype="string"), f"text 1 is <NA>.*{missing}"),
        (pandas.Series([["one"]]), "text 0 is .*list.*one flat list"),
        (np.array([b"one"]), r"text 0 is .*bytes_.*decode\(\)"),
        (np.arange(3), "text 0 is .*int64"),
        (torch.zeros(2), "text 0 is .*Tensor"),
        (pyarrow.array(["one"]), "text 0 is .*StringScalar"),
        ([{"text": "one"}], r'text 0 is .*dict.*\[row\["text"\] for row in rows\]'),
    ):
        with pytest.raises(InputError, match=message):
            model.encode(source)


@pytest.mark.parametrize("wrong", [None, b"b", 7, 1.5, {"a": 1}, ["nested"], ("t",)], ids=repr)
@pytest.mark.parametrize("place", [0, 2])
def test_the_item_that_is_no_string_is_named(model, wrong, place):
    texts = ["one", "two"]
    texts.insert(place, wrong)
    with pytest.raises(InputError, match=rf"text {place} is .* of type {type(wrong).__name__}"):
        model.encode(texts)


def test_the_index_counts_over_all_that_a_stream_gave(model, monkeypatch):
    monkeypatch.setattr("jaspertc.engine.options.CHUNK_TEXTS", 3)
    with pytest.raises(InputError, match=r"text 7 is None"):
        model.encode(text if i != 7 else None for i, text in enumerate(["x"] * 12))


@pytest.mark.parametrize(
    "row", [[], [1.5], ["a"], "ab", 5, [True], [[1]], [None], [1, 2**70], [1, [2]]], ids=repr
)
def test_rows_that_are_not_token_ids(model, row):
    with pytest.raises(InputError, match="row 1 "):
        model.encode_ids([[1, 2], row])


@pytest.mark.parametrize("wrong", [-1, 320, 10**12, np.uint64(2**63)])
def test_ids_of_another_vocabulary(model, wrong):
    with pytest.raises(InputError, match=f"row 1: token id {wrong} .*vocabulary of 320"):
        model.encode_ids([[1, 2], np.array([3, wrong], dtype=np.asarray(wrong).dtype)])


def test_everything_is_one_tree():
    for error in (InputError, RatioError, CheckpointError, TokenizerError):
        assert issubclass(error, JasperError)


# Texts that are odd


@pytest.mark.parametrize(
    "texts", [[], (), iter([]), (t for t in ())], ids=["list", "tuple", "iter", "generator"]
)
def test_no_texts(model, texts):
    found = model.encode(texts)
    assert found.shape == (0, 24)
    assert found.dtype == np.float32


@pytest.mark.parametrize(
    ("option", "shape", "dtype"),
    [({"precision": "int8"}, (0, 24), np.int8), ({"precision": "ubinary", "dims": 8}, (0, 1), np.uint8)],
)
def test_no_texts_in_other_precisions(model, option, shape, dtype):
    found = model.encode([], **option)
    assert found.shape == shape
    assert found.dtype == dtype
    assert model.encode_ids([]).shape == (0, 24)


@pytest.mark.parametrize("tokenizer", ["bpe", "bare", "wordpiece", "unigram"])
def test_the_empty_text_has_a_vector(make_model, tokenizer):
    model = Embedder.load(make_model(tokenizer=tokenizer), device="cpu", dtype="float32")
    alone = model.encode("")
    assert alone.shape == (24,)
    assert np.isfinite(alone).all()
    assert np.linalg.norm(alone) == pytest.approx(1, abs=1e-6)
    among = model.encode(["some text", "", LONG[:300], "", "x"], ratio=0.1)
    np.testing.assert_allclose(among[[1, 3]], np.stack([alone, alone]), rtol=0, atol=1e-6)
    if tokenizer == "bare":  # nothing but the end token stands for it
        np.testing.assert_array_equal(alone, model.encode_ids([[0]])[0])


ODD = {
    "nul": "a\x00b",
    "control": "\x01\x07\x1b[31m\x7f\x85",
    "lone surrogate": "text \ud800 more",
    "reversed pair": "\udc00\ud800",
    "joined": "👩‍👩‍👧 नमस्ते",
    "right to left": "\u202eabc שלום",
    "byte order mark": "\ufeffabc",
    "not a character": "\uffff\U0010ffff",
    "only spaces": " \t\n\r\u3000",
    "combining": "e" + "\u0301" * 50,
}


@pytest.mark.parametrize("text", ODD.values(), ids=ODD)
def test_odd_characters(model, text):
    alone = model.encode(text)
    assert np.isfinite(alone).all()
    assert np.linalg.norm(alone) == pytest.approx(1, abs=1e-6)
    np.testing.assert_allclose(model.encode(["x", text, "猫"])[1], alone, rtol=0, atol=1e-6)


def test_surrogates_mean_the_characters_they_stand_for(model):
    np.testing.assert_array_equal(model.encode("\ud83d\ude00 x"), model.encode("😀 x"))
    np.testing.assert_array_equal(model.encode("\ud83d x"), model.encode("\ufffd x"))
    np.testing.assert_array_equal(model.encode("x", prompt="\ud800"), model.encode("x", prompt="\ufffd"))


def test_a_million_characters(model):
    text = "猫 cat " * 166_667
    assert len(text) > 10**6
    with pytest.warns(LongTextWarning, match="1 of 2 texts"):
        found = model.encode([text, "short"], ratio=0.1)
    assert np.isfinite(found).all()
    np.testing.assert_allclose(found[1], model.encode("short", ratio=0.1), rtol=0, atol=1e-6)
    assert lengths_of(model, [text])[0] > 500_000  # it was not cut before compression
    capped = model.encode(text, max_compressed=64)  # as asked, so without a warning
    np.testing.assert_allclose(found[0], capped, rtol=0, atol=1e-6)


# Texts that do not fit


def test_long_texts_are_compressed_further_and_counted(model):
    texts = ["short", LONG, "also short", LONG + " again"]
    assert min(lengths_of(model, texts)[1::2]) > 200
    with pytest.warns(LongTextWarning, match=r"^2 of 4 texts .* 64 positions and were compressed further"):
        found = model.encode(texts, ratio=1)
    expected = model.encode(texts, ratio=1, max_compressed=64)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


def test_long_texts_lose_their_end_and_are_counted(model):
    """The longest beginning whose compressed length fits, with the end token kept."""
    ratio, threshold = 0.5, model.default_threshold
    (row,) = model.tokenize([LONG])
    keep = threshold + int((64 - threshold) / ratio)
    assert 64 < keep < len(row)
    with pytest.warns(LongTextWarning, match=r"^1 of 2 texts .* 64 positions and were cut: their ends"):
        found = model.encode([LONG, "short"], ratio=ratio, long_texts="truncate")
    cut = np.concatenate([row[: keep - 1], row[-1:]])
    np.testing.assert_allclose(found[0], model.encode_ids([cut], ratio=ratio)[0], rtol=0, atol=1e-6)
    np.testing.assert_allclose(found[1], model.encode("short", ratio=ratio), rtol=0, atol=1e-6)


def test_truncating_with_one_ratio_per_text(model):
    with pytest.warns(LongTextWarning, match="3 of 3"):
        found = model.encode([LONG] * 3, ratio=[1, 0.5, 0.3], long_texts="truncate")
    for ratio, vector in zip((1, 0.5, 0.3), found):
        with pytest.warns(LongTextWarning, match="1 of 1"):
            alone = model.encode(LONG, ratio=ratio, long_texts="truncate")
        np.testing.assert_allclose(vector, alone, rtol=0, atol=1e-6)


def test_texts_that_fit_are_not_counted(model):
    model.encode(LONG, ratio=0.01)
    model.encode(LONG, ratio=1, max_compressed=64)
    model.encode(LONG, ratio=1, max_length=64)


def _called(line, model):  # each call on its own line, told by its number
    if line == 0:
        return model.encode(LONG, ratio=1)
    if line == 1:
        return model.encode_query(LONG, ratio=1)
    if line == 2:
        return list(model.encode_stream([LONG], ratio=1))
    return model.encode_ids([[3] * 200], ratio=1)


@pytest.mark.parametrize(
    "line",
    range(4),
    ids=["encode", "encode_query", "encode_stream", "encode_ids"],
)
def test_the_warning_points_at_the_caller(model, line):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", LongTextWarning)
        _called(line, model)
    assert [warning.filename for warning in caught] == [__file__]
    assert caught[0].lineno == _called.__code__.co_firstlineno + (7 if line == 3 else 2 + 2 * line)


# Streams and threads


def test_generators_are_read_lazily(model, monkeypatch):
    monkeypatch.setattr("jaspertc.engine.options.CHUNK_TEXTS", 4)
    read = []

    def texts():
        for number in range(11):
            read.append(number)
            yield f"text number {number}"

    blocks = model.encode_stream(texts(), ratio=0.5)
    assert read == []
    assert next(blocks).shape == (4, 24)
    assert read == list(range(8))  # one block ahead
    rest = list(blocks)
    assert [len(block) for block in rest] == [4, 3]
    whole = model.encode([f"text number {number}" for number in range(11)], ratio=0.5)
    np.testing.assert_allclose(np.concatenate(rest), whole[4:], rtol=0, atol=1e-6)


def test_a_chunk_is_bounded_in_characters_too(model, monkeypatch):
    monkeypatch.setattr("jaspertc.engine.options.CHUNK_CHARACTERS", 10)
    sizes = [len(block) for block in model.encode_stream(["12345", "67890", "x" * 40, "1", "2"])]
    assert sizes == [2, 1, 2]


def test_one_ratio_per_text_over_several_chunks(model, monkeypatch):
    texts, ratios = [LONG[:90]] * 5, [0.1, 0.3, 0.5, 0.3, 0.1]
    whole = model.encode(texts, ratio=ratios)
    monkeypatch.setattr("jaspertc.engine.options.CHUNK_TEXTS", 2)
    np.testing.assert_allclose(model.encode(texts, ratio=ratios), whole, rtol=0, atol=1e-6)
    assert np.abs(whole[0] - whole[2]).max() > 1e-3


def test_threads_with_different_ratios(make_model, sentences):
    """A fresh model, so that its folded table is filled from several threads at once."""
    folder = make_model()
    model = Embedder.load(folder, device="cpu", dtype="float32")
    alone = Embedder.load(folder, device="cpu", dtype="float32")
    ratios = [1, 0.9, 0.7, 0.5, 0.4, 0.3, 0.2, 0.1]
    texts = [text * 2 for text in sentences]
    found: dict[float, list[np.ndarray]] = {ratio: [] for ratio in ratios}
    start = threading.Barrier(len(ratios))

    def work(ratio: float) -> None:
        start.wait()
        for shift in range(6):
            rolled = texts[shift:] + texts[:shift]
            vectors = model.encode(rolled, ratio=ratio, max_compressed=64)
            found[ratio].append(np.roll(vectors, shift, axis=0))

    threads = [threading.Thread(target=work, args=(ratio,)) for ratio in ratios]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for ratio in ratios:
        expected = alone.encode(texts, ratio=ratio, max_compressed=64)
        assert len(found[ratio]) == 6
        for vectors in found[ratio]:
            np.testing.assert_allclose(vectors, expected, rtol=0, atol=1e-6)


def test_calls_leave_no_gradients_or_modes_behind(model):
    assert torch.is_grad_enabled()
    model.encode("x")
    assert torch.is_grad_enabled()
    assert not torch.is_inference_mode_enabled()


# Arguments that must not slip through


def test_a_model_without_compressor_warns_when_it_cuts(plain):
    with pytest.warns(LongTextWarning, match="1 of 1 texts .* were cut"):
        plain.encode(LONG)


@pytest.mark.parametrize("tokenizer", ["bpe", None])
def test_ids_that_do_not_fit_a_model_without_compressor(make_model, tokenizer):
    folder = make_model(compressor=CompressorConfig(), tokenizer=tokenizer)
    model = Embedder.load(folder, device="cpu", dtype="float32")
    with pytest.raises(InputError, match="64"):
        model.encode_ids([[1, 2], [3] * 100])


def test_ids_that_do_not_fit_are_counted(model):
    with pytest.warns(LongTextWarning, match="1 of 2"):
        model.encode_ids([[1, 2], [3] * 300], ratio=1)


@pytest.mark.parametrize(
    "option", [{"threshold": -5}, {"max_compressed": "x"}, {"max_compressed": 5}], ids=str
)
def test_counts_without_a_compressor(plain, option):
    with pytest.raises(RatioError):
        plain.encode(["a text of more than five tokens"], **option)


@pytest.mark.parametrize(
    "option",
    [{"max_length": 5.5}, {"max_length": "5"}, {"dims": 8.0}, {"prompt": 3}, {"prompt": b"x"}],
    ids=str,
)
def test_options_of_a_wrong_type(model, option):
    with pytest.raises(InputError, match=next(iter(option))):
        model.encode(["one two three four five six seven"], **option)


@pytest.mark.parametrize("texts", ["abc", None, b"abc"], ids=repr)
def test_a_stream_of_no_iterable_of_strings(model, texts):
    with pytest.raises(InputError, match="texts is a"):
        list(model.encode_stream(texts))


@pytest.mark.parametrize("option", [{"dims": 5}, {"prompt_name": "x"}, {"ratio": 2}], ids=str)
def test_a_stream_checks_its_options_at_once(model, option):
    with pytest.raises(InputError):
        model.encode_stream(["one"], **option)


@pytest.mark.parametrize("ratio", [["0.5", "0.5"], [True, True], np.True_], ids=repr)
def test_ratios_of_a_wrong_type(model, ratio):
    with pytest.raises(RatioError):
        model.encode(["one", "two"], ratio=ratio)


def test_an_unknown_pooler(model_folder):
    with pytest.raises((InputError, CheckpointError), match="maximum"):
        Embedder.load(model_folder, pooler="maximum")


@pytest.mark.parametrize("option", [{"device": None}, {"runtime": []}, {"name": None}], ids=str)
def test_loading_with_arguments_of_a_wrong_type(model_folder, option):
    with pytest.raises(JasperError):
        Embedder.load(**({"name": model_folder} | option))


def test_the_folders_own_limit_is_no_reason_to_change_token_ids(make_model):
    """encode_ids takes ids as they are; max_length belongs to texts."""
    rows = [list(range(1, 40))]
    expected = Embedder.load(make_model(), device="cpu", dtype="float32").encode_ids(rows)
    for tokenizer in ("bpe", None):
        folder = make_model(tokenizer=tokenizer, save={"max_length": 12})
        found = Embedder.load(folder, device="cpu", dtype="float32").encode_ids(rows)
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-6)


@pytest.mark.parametrize("compressor", [True, False])
def test_the_warning_says_what_happened(make_model, compressor):
    """Cut at the folder's max_length of 12, not at the 64 positions."""
    options = {} if compressor else {"compressor": CompressorConfig()}
    folder = make_model(save={"max_length": 12}, **options)
    model = Embedder.load(folder, device="cpu", dtype="float32")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", LongTextWarning)
        model.encode("a river carries silt to the delta")
    for warning in caught:  # none is fine: the folder asked for it
        assert "cut" in str(warning.message)
        assert "12" in str(warning.message)


@pytest.mark.parametrize(
    ("option", "message"),
    [
        ({"max_length": "3"}, "max_length is '3', it must be an integer"),
        ({"max_length": True}, "max_length is True, it must be an integer"),
        ({"max_length": 1.5}, "max_length is 1.5, it must be an integer"),
        ({"prompt": 5}, "prompt is 5, it must be a string"),
        ({"first_index": "x"}, "first_index is 'x', it must be an integer"),
    ],
    ids=str,
)
def test_tokenizing_with_arguments_of_a_wrong_type(model, option, message):
    with pytest.raises(InputError, match=message):
        model.tokenize(["one"], **option)


@pytest.mark.parametrize(
    "lengths", [100, ["a"], [100.5], np.array([100.0]), [True], [[1, 2]], [[1], [1, 2]], None, [5, 0], [-1]]
)
def test_lengths_that_are_no_token_counts(model, lengths):
    with pytest.raises(InputError, match="lengths is"):
        model.target_lengths(lengths)


def test_lengths_may_be_a_list(model):
    assert model.target_lengths([20, 100]).tolist() == model.target_lengths(np.array([20, 100])).tolist()
    assert model.target_lengths([]).tolist() == []
