"""What is timed: lengths, texts of exact token counts, the order of turns, what each cell costs."""

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch

from jaspertc.checkpoint import load_checkpoint
from jaspertc.errors import ConfigError, InputError, JasperError, RatioError
from jaspertc.evaluation.contenders import read_peers
from jaspertc.model.cost import text_flops
from lab.compare.contenders import Contender
from lab.compare.gemm import gemm_rate
from lab.compare.inputs import Writer, mixed_lengths, random_ids
from lab.compare.measure import measure_unit
from lab.compare.protocols import plan_units, source_for
from lab.compare.random_model import released_shape, write_random_model
from lab.compare.settings import QUERIES, Settings, peer_spec, read_contender
from lab.compare.store import Results

SHAPE = released_shape("600m", 1).backbone


def settings(*names, **options):
    contenders = tuple(read_contender(name) for name in names or ("ours", "padded", "plain"))
    return Settings(contenders=contenders, threads=1, **options)


def contender(name, log, dims=3):
    """A contender that only notes its calls."""

    def embed(inputs, ratio):
        log.append((name, ratio, len(inputs)))
        return np.ones((len(inputs), dims), dtype=np.float32)

    return Contender(
        spec=read_contender(name),
        precision="float32",
        detail="a fake",
        embed=embed,
        lengths=lambda inputs: np.array([len(row) for row in inputs]),
        targets=lambda read, ratio: read if ratio is None else np.maximum(1, (read * ratio).astype(int)),
        shape=SHAPE,
    )


def measured(tmp_path, unit, names, log, rounds):
    results = Results(tmp_path / "out", {"settings": {}})
    contenders = {name: contender(name, log) for name in names}
    measure_unit(
        unit,
        contenders,
        lambda lengths: random_ids(lengths, 100),
        results,
        rounds=rounds,
        shape=dataclasses.replace(SHAPE, hidden_size=8, intermediate_size=8),
        device=torch.device("cpu"),
    )
    return results


def test_units_of_each_protocol():
    units = {
        unit.key: unit
        for unit in plan_units(
            settings(texts=5, lengths=(16, 64), ratios=(1.0, 0.5)), ["ours", "padded", "plain"]
        )
    }
    assert list(units) == ["table4/16", "table4/64", "mix", "query", "start"]
    assert units["table4/64"].lengths.tolist() == [64] * 5
    assert [cell.label for cell in units["mix"].cells] == [
        "ours @ 1",
        "padded @ 1",
        "ours @ 0.5",
        "padded @ 0.5",
        "plain",
    ]
    assert [cell.label for cell in units["query"].cells] == ["ours", "padded", "plain"]
    assert units["query"].lengths.tolist() == [16] * QUERIES
    assert (units["table4/16"].call, units["mix"].call, units["query"].call) == (32, 5, 1)


def test_contenders_that_cannot_run_and_ratios_that_do_nothing_are_not_planned():
    units = plan_units(settings(protocols=("mix",), ratios=(1.0, 0.5)), ["ours"], compresses=False)
    assert [cell.label for cell in units[0].cells] == ["ours @ 1"]


def test_turns_are_taken_round_by_round_after_a_warm_up(tmp_path):
    names, log = ["ours", "padded", "plain"], []
    unit = plan_units(settings(protocols=("table4",), lengths=(20,), texts=40, ratios=(1.0, 0.5)), names)[0]
    results = measured(tmp_path, unit, names, log, rounds=2)
    turn = [("ours", 1.0), ("padded", 1.0), ("ours", 0.5), ("padded", 0.5), ("plain", None)]
    assert log == [(*cell, size) for _ in range(3) for cell in turn for size in (32, 8)]
    kept = results.units["table4/20"]
    assert len(kept["rounds"]) == 2  # the warm-up is not kept
    assert list(kept["rounds"][0]["cells"]) == [cell.label for cell in unit.cells]
    assert kept["rounds"][0]["gemm"]["float32"] > 0
    assert kept["cells"]["ours @ 0.5"] == {
        "contender": "ours",
        "ratio": 0.5,
        "tokens": 800,
        "computed": 400,
        "flops": 40 * text_flops(SHAPE, 10),
        "cosine": 1.0,
    }
    assert kept["cells"]["plain"]["computed"] == 800


def test_single_queries_keep_each_time_and_compress_nothing(tmp_path):
    names, log = ["ours", "padded", "plain"], []
    unit = plan_units(settings(protocols=("query",)), names)[0]
    results = measured(tmp_path, unit, names, log, rounds=1)
    assert log[: QUERIES + 1] == [("ours", 1.0, 1)] * QUERIES + [("padded", 1.0, 1)]
    assert log[-1] == ("plain", None, 1)
    assert len(results.units["query"]["rounds"][0]["cells"]["plain"]) == QUERIES


def test_rounds_that_are_kept_are_not_measured_again(tmp_path):
    names, log = ["ours"], []
    unit = plan_units(settings("ours", protocols=("mix",), texts=2, ratios=(1.0,)), names)[0]
    first = measured(tmp_path, unit, names, log, rounds=1).units["mix"]["rounds"]
    log.clear()
    assert measured(tmp_path, unit, names, log, rounds=1).units["mix"]["rounds"] == first
    assert log == []
    more = measured(tmp_path, unit, names, log, rounds=3).units["mix"]["rounds"]
    assert (more[:1], len(more), len(log)) == (first, 3, 3)  # one of the three warms up


def test_mixed_lengths_are_lognormal_around_the_median():
    lengths = mixed_lengths(4000, 150)
    assert abs(np.median(lengths) - 150) <= 1
    assert abs(np.std(np.log(lengths)) - 0.75) < 0.02
    assert (lengths == mixed_lengths(4000, 150)).all()
    assert sorted(lengths) != lengths.tolist()  # shuffled: order must not help anyone
    assert mixed_lengths(4000, 2000).max() == 2048


@pytest.mark.parametrize("kind", ["bpe", "bare", "wordpiece", "unigram"])
def test_texts_have_exactly_the_tokens_asked_for(make_model, kind):
    options = {"backbone": {"vocab_size": 320}}
    checkpoint = load_checkpoint(make_model(tokenizer=kind, **options))
    source = source_for(checkpoint, texts=True)
    lengths = np.array([8, 16, 57, 300, 16])
    texts = source(lengths)
    assert [len(row) for row in checkpoint.tokenizer.encode_batch(texts)] == lengths.tolist()
    assert texts[1] != texts[4]
    assert texts == source_for(checkpoint, texts=True)(lengths)


def test_a_text_that_no_tokenizer_could_give_is_the_nearest_shorter_one():
    writer = Writer(lambda texts: [2 * len(text.split()) for text in texts])  # even numbers only
    assert [len(text.split()) for text in writer.texts([9, 10])] == [4, 5]


def test_token_ids_where_there_is_no_tokenizer(make_model):
    checkpoint = load_checkpoint(make_model(tokenizer=None))
    rows = source_for(checkpoint, texts=False)(np.array([3, 200]))
    assert [len(row) for row in rows] == [3, 200]
    assert max(row.max() for row in rows) < 320


def test_random_weights_have_the_released_shape(tmp_path):
    config = released_shape("600m")
    backbone = config.backbone
    assert (backbone.num_layers, backbone.hidden_size, backbone.intermediate_size) == (28, 1024, 3072)
    assert (backbone.num_heads, backbone.num_kv_heads, backbone.head_dim) == (16, 8, 128)
    assert (config.compressor.mlp, config.compressor.mlp_size, config.embedding_dims) == (
        "swiglu",
        3072,
        2048,
    )
    small = dataclasses.replace(backbone, vocab_size=50, hidden_size=16, head_dim=4, intermediate_size=8)
    config = dataclasses.replace(config, backbone=dataclasses.replace(small, num_layers=1))
    weights = [
        load_checkpoint(write_random_model(tmp_path / name, config)).encoder.state_dict() for name in "ab"
    ]
    assert all(
        torch.equal(weights[0][key], weights[1][key]) for key in weights[0]
    )  # an interrupted run goes on
    assert {weight.dtype for weight in weights[0].values()} == {torch.bfloat16}
    with pytest.raises(InputError, match="1 to 28"):
        released_shape("600m", 29)


@pytest.mark.parametrize("precision", ["float32", "bfloat16", "int8"])
def test_the_rate_of_matrix_products_is_that_of_their_flops(precision, monkeypatch):
    clock = iter(np.arange(0.0, 1000.0, 0.5))  # each look at the clock is half a second later
    monkeypatch.setattr("lab.compare.gemm.time.perf_counter", lambda: float(next(clock)))
    shape = dataclasses.replace(SHAPE, hidden_size=16, intermediate_size=32)
    rate = gemm_rate(precision, shape, torch.device("cpu"), seconds=1.0)
    assert rate in (None, 2 * 2048 * 16 * 32 / 0.5)
    assert rate is not None or precision == "int8"  # not every build of PyTorch has it


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"protocols": ("table5",)}, "table5.*table4, mix, query, start"),
        ({"lengths": (4,)}, "4, it must be 8 to 32768"),
        ({"lengths": (128, 40000)}, "40000"),
        ({"median": 1}, "--median is 1"),
        ({"texts": 0}, "--texts is 0"),
        ({"rounds": 0}, "--rounds is 0"),
        ({"shape": "7b", "model": ""}, "7b"),
        ({"layers": 2}, "--shape"),
        ({"ratios": ()}, "a ratio"),
    ],
)
def test_settings_out_of_range_are_named(options, message):
    with pytest.raises(InputError, match=message):
        settings(**options)


def test_ratios_are_those_of_the_engine():
    with pytest.raises(RatioError, match=r"1\.5"):
        settings(ratios=(1.0, 1.5))


@pytest.mark.parametrize(
    "name", ["theirs", "ours-fast", "padded-int8", "plain-bf16-fp32", "st", "st-tpu", ""]
)
def test_unknown_contenders_are_named(name):
    with pytest.raises(InputError, match=f"'{name}'.*padded"):
        read_contender(name)


def test_contenders_by_name(tmp_path):
    assert read_contender("ours-openvino-int8").runtime == "openvino"
    assert read_contender("ours-int8").dtype == "int8"
    assert read_contender("padded-fp32").dtype == "float32"
    with pytest.raises(JasperError, match="twice"):
        settings("ours", "ours")


def test_peers_are_those_of_an_evaluation(tmp_path):
    peers = tmp_path / "peers.toml"
    entry = '[[peers]]\nname = "e5-bf16"\nkind = "sentence-transformers"\nmodel = "."\ndtype = "{}"\n'
    peers.write_text(entry.format("bfloat16"))
    (peer,) = map(peer_spec, read_peers([str(peers)]))
    assert (peer.name, peer.kind, peer.dtype) == ("e5-bf16", "peer", "bfloat16")
    assert Path(peer.folder).resolve() == tmp_path
    (peer,) = map(peer_spec, read_peers([f"sentence-transformers={tmp_path}"]))
    assert (peer.name, peer.dtype, peer.folder) == (tmp_path.name, "float32", str(tmp_path))
    for wrong in ("e5", f"={tmp_path}", f"e5={tmp_path}"):
        with pytest.raises(ConfigError, match="KIND=PATH"):
            read_peers([wrong])
    with pytest.raises(InputError, match="no folder '/nowhere'"):
        peer_spec(*read_peers(["sentence-transformers=/nowhere"]))
    with pytest.raises(InputError, match="'use', only sentence-transformers"):
        peer_spec(*read_peers([f"use={tmp_path}"]))
    peers.write_text(entry.format("float16"))
    with pytest.raises(InputError, match="'float16'"):
        peer_spec(*read_peers([str(peers)]))
