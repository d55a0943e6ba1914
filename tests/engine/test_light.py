"""Texts without PyTorch: the same vectors, and clear errors for what needs it."""

import os
import subprocess
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from engine_shapes import BERT
from safetensors.torch import load_file, save_file

from jaspertc import Embedder
from jaspertc.checkpoint import load_checkpoint
from jaspertc.checkpoint.layouts import read_info
from jaspertc.checkpoint.load import load_arrays
from jaspertc.config import CompressorConfig, HeadConfig
from jaspertc.engine.runtimes.cpu_engine import CpuEngine
from jaspertc.engine.runtimes.light import LightRuntime
from jaspertc.engine.runtimes.onnx_runtime import ONNX_RUNTIME
from jaspertc.engine.runtimes.openvino.runtime import OPENVINO
from jaspertc.errors import CheckpointError, InputError, MissingExtraError
from jaspertc.model.compressors import COMPRESSORS, AdaptiveAverage
from jaspertc.model.compressors.adaptive_average import AdaptiveAverageConfig
from jaspertc.model.compressors.disjoint import DisjointAverageConfig
from jaspertc.model.compressors.fractional import FractionalAverageConfig

ENGINES = [
    pytest.param(
        engine,
        marks=pytest.mark.skipif(not engine.can_compute("bert"), reason=f"{engine.name} is not installed"),
    )
    for engine in (OPENVINO, ONNX_RUNTIME)
]
any_engine = pytest.mark.parametrize("engine", ENGINES, ids=lambda engine: engine.name)

LONG = {"max_positions": 600}
SHAPES: dict[str, dict[str, Any]] = {
    "bert": {"backbone": BERT, "compressor": DisjointAverageConfig(mlp="residual-swiglu", mlp_size=24)},
    "tanh, first": {
        "backbone": BERT | {"gelu": "tanh"},
        "compressor": AdaptiveAverageConfig(),
        "pooler": "first",
    },
    "xlm-roberta": {
        "backbone": BERT | {"position_offset": 2},
        "compressor": CompressorConfig(),
        "head": HeadConfig(),
    },
    "qwen3": {"backbone": LONG, "compressor": AdaptiveAverageConfig(mlp="swiglu", mlp_size=40)},
    "not causal": {"backbone": LONG | {"causal": False}, "compressor": FractionalAverageConfig()},
    "last": {"backbone": LONG, "compressor": DisjointAverageConfig(), "pooler": "last"},
}
ROWS = [np.random.default_rng(length).integers(1, 250, length) for length in (1, 3, 17, 31, 100, 64, 300, 2)]


def light(folder: Path, engine: CpuEngine, **options: str) -> LightRuntime:
    return LightRuntime(load_arrays(str(folder), folder, read_info(folder)), engine, **options)


def without_torch(folder: Path, engine: CpuEngine) -> Embedder:
    runtime = light(folder, engine)
    return Embedder(load_arrays(str(folder), folder, read_info(folder)), runtime)


@pytest.mark.parametrize("weights", ["float32", "bfloat16"])
@pytest.mark.parametrize("shape", SHAPES)
@any_engine
def test_equals_torch_in_float32(
    make_model: Callable[..., Path], shape: str, weights: str, engine: CpuEngine
) -> None:
    folder = make_model(**SHAPES[shape], save={"weights": weights})
    expected = Embedder.load(folder, runtime="torch", dtype="float32")
    found = without_torch(folder, engine)
    assert found.runtime.precision == "float32"
    for ratio in (1.0, 0.5, 0.1) if expected.checkpoint.compressor.can_compress else (1.0,):
        options: dict[str, Any] = {"ratio": ratio, "normalize": False}
        options |= {"threshold": 8} if ratio < 1 else {}
        exact = expected.encode_ids(ROWS, **options)
        assert np.abs(found.encode_ids(ROWS, **options) - exact).max() <= 2e-5 * np.abs(exact).max()


@pytest.mark.parametrize("shape", SHAPES)
@any_engine
def test_int8_equals_the_engine_beside_torch(
    make_model: Callable[..., Path], shape: str, engine: CpuEngine
) -> None:
    folder = make_model(**SHAPES[shape], save={"weights": "int8"})
    expected = Embedder.load(folder, runtime=engine.name).encode_ids(ROWS)
    found = without_torch(folder, engine)
    assert found.runtime.precision == "int8"
    vectors = found.encode_ids(ROWS)
    # What is quantised may be rounded the other way where the sums before it differ in their last bit.
    assert (vectors * expected).sum(axis=1).min() >= 0.9995
    alone = np.concatenate([found.encode_ids([row]) for row in ROWS])
    assert np.abs(vectors - alone).max() <= 1e-6


def test_every_compressor_of_ours_computes_in_numpy() -> None:
    assert all(cls.computes_in_numpy() for cls in COMPRESSORS.values())


@pytest.mark.parametrize("name", ["forward", "windows", "transform"])
def test_a_compressor_with_a_way_of_its_own_needs_torch(
    make_model: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    own = type("Own", (AdaptiveAverage,), {name: lambda *_: None})
    if name == "transform":
        own.transform_rows = COMPRESSORS["none"].transform_rows
    folder = make_model(**SHAPES["bert"])
    checkpoint = load_arrays("own", folder, read_info(folder))
    monkeypatch.setattr(checkpoint, "compressor", own.rules(CompressorConfig()))
    with pytest.raises(MissingExtraError, match=r"the compressor 'disjoint-average' needs .*\[torch\]"):
        LightRuntime(checkpoint, OPENVINO)


@pytest.mark.parametrize("name", ["word_embeddings.weight", "linear_1.weight", "query.weight"])
@pytest.mark.parametrize("fault", ["missing", "shape"])
@any_engine
def test_a_tensor_that_is_missing_or_odd_is_named(
    make_model: Callable[..., Path], name: str, fault: str, engine: CpuEngine
) -> None:
    folder = make_model(**SHAPES["bert"])
    tensors = load_file(folder / "model.safetensors")
    (key, *_) = [key for key in sorted(tensors) if key.endswith(name)]
    tensors[key] = tensors[key][:, :-1].contiguous()
    if fault == "missing":
        del tensors[key]
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="small"):
        light(folder, engine).embed_rows(np.ones((2, 64)), np.array([2]))


@any_engine
def test_wrong_arguments(model_folder: Path, engine: CpuEngine) -> None:
    with pytest.raises(InputError, match="'cpu' only"):
        light(model_folder, engine, device="cuda")
    with pytest.raises(InputError, match="float16"):
        light(model_folder, engine, dtype="float16")
    with pytest.raises(InputError, match="token id 4000 is outside"):
        without_torch(model_folder, engine).encode_ids([[1, 4000]])


def test_the_encoder_of_such_a_checkpoint_says_what_is_missing(model_folder: Path) -> None:
    checkpoint = load_arrays("small", model_folder, read_info(model_folder))
    with pytest.raises(MissingExtraError, match=r"jaspertc\[torch\]"):
        _ = checkpoint.encoder.backbone
    assert checkpoint.fingerprint == load_checkpoint(model_folder).fingerprint


# Packages as if they were not installed.
BEGINNING = """
import importlib.machinery as machinery, os, sys

real = machinery.PathFinder.find_spec.__func__

def find_spec(cls, name, path=None, target=None):
    return None if name.partition(".")[0] in os.environ["HIDDEN"].split() else real(cls, name, path, target)

machinery.PathFinder.find_spec = classmethod(find_spec)
"""


def run(script: str, *arguments: object, hidden: str = "") -> str:
    process = subprocess.run(
        [sys.executable, "-c", BEGINNING + textwrap.dedent(script), *map(str, arguments)],
        env=os.environ | {"PYTHONPATH": os.pathsep.join(sys.path), "HIDDEN": f"torch {hidden}"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert process.returncode == 0, process.stderr
    assert "torch" not in process.stdout.split()
    return process.stdout


@any_engine
def test_texts_are_embedded_and_searched_without_torch(tmp_path: Path, engine: CpuEngine) -> None:
    others = {"openvino", "onnx", "onnxruntime"} - {*engine.packages}
    texts = ["dough rises because yeast turns sugar into gas", "一只猫在垫子上", "a cat " * 700]
    run(
        """
        import pickle
        import numpy as np
        from jaspertc import Document, Embedder, SearchIndex

        model = Embedder.load()
        texts = ["dough rises because yeast turns sugar into gas", "一只猫在垫子上", "a cat " * 700]
        for name, some in (("usual", model), ("exact", Embedder.load(dtype="float32"))):
            vectors = np.concatenate([some.encode(texts, ratio=ratio) for ratio in (1.0, 0.33)])
            np.save(f"{sys.argv[1]}/{name}.npy", vectors)
        assert repr(model).startswith("Embedder('mini', dims=384, device='cpu', runtime='" + sys.argv[2])
        assert len(list(model.encode_pieces(texts))) == 3
        assert pickle.loads(pickle.dumps(model)) is model
        with SearchIndex.create_or_open(sys.argv[1] + "/index.sqlite", model) as index:
            index.add([Document(id=str(number), text=text) for number, text in enumerate(texts)])
            assert index.search("why does dough grow?", k=1)[0].id == "0"
        print(*(name for name in sys.modules if name == "torch"))
        """,
        tmp_path,
        engine.name,
        hidden=" ".join(others),
    )
    model = Embedder.load("mini", runtime=engine.name, dtype="float32")
    expected = np.concatenate([model.encode(texts, ratio=ratio) for ratio in (1.0, 0.33)])
    np.testing.assert_allclose(np.load(tmp_path / "exact.npy"), expected, rtol=0, atol=1e-5)
    # In int8, sums that differ in their last bit are rounded to other steps, here and with PyTorch.
    least = 0.995 if engine is OPENVINO else 0.99
    assert (np.load(tmp_path / "usual.npy") * expected).sum(axis=1).min() >= least


def test_auto_takes_what_was_measured_without_torch(tmp_path: Path) -> None:
    engines = [engine.name for engine in (OPENVINO, ONNX_RUNTIME) if engine.can_compute("bert")]
    run(
        """
        import json
        from pathlib import Path
        from jaspertc import Embedder
        from jaspertc.engine.measuring import measure_runtimes
        from jaspertc.engine.runtimes import choosing

        os.environ["JASPERTC_CACHE"], choosing.ROUNDS = sys.argv[1], 1
        found = measure_runtimes("mini").candidates
        assert {item.runtime for item in found} == set(sys.argv[2:]), found
        assert all(item.cosine > 0.99 for item in found), found
        (path,) = Path(sys.argv[1], "runtimes").iterdir()
        content = json.loads(path.read_text())
        for name in sys.argv[2:]:
            for item in content["candidates"]:
                fast = (item["runtime"], item["dtype"]) == (name, "float32")
                item["query_ms"] = item["text_ms"] = 1 if fast else 100
            path.write_text(json.dumps(content))
            model = Embedder.load("mini")
            assert (model.runtime.name, model.runtime.precision) == (name, "float32")
            assert Embedder.load("mini", dtype="int8").runtime.precision == "int8"
        """,
        tmp_path,
        *engines,
    )


def test_where_neither_engine_is_installed_the_error_names_what_to_install() -> None:
    run(
        """
        import jaspertc
        from jaspertc.engine.measuring import measure_runtimes
        from jaspertc.errors import MissingExtraError

        try:
            measure_runtimes("mini")
        except MissingExtraError as error:
            assert "pip install 'jaspertc[cpu]'" in str(error), error
        else:
            raise AssertionError("measured")
        for runtime, extra in (("auto", "cpu"), ("openvino", "cpu"), ("onnxruntime", "onnx")):
            try:
                jaspertc.Embedder.load(runtime=runtime)
            except MissingExtraError as error:
                assert f"pip install 'jaspertc[{extra}]'" in str(error), error
            else:
                raise AssertionError(runtime)
        """,
        hidden="openvino onnx onnxruntime",
    )


def test_what_needs_torch_says_so() -> None:
    run(
        """
        import jaspertc
        from jaspertc.errors import MissingExtraError

        model = jaspertc.Embedder.load()
        for use in (
            lambda: jaspertc.Embedder.load(runtime="torch"),
            lambda: jaspertc.distil,
            lambda: jaspertc.teach,
            lambda: model.checkpoint.encoder.compressor,
        ):
            try:
                use()
            except MissingExtraError as error:
                assert "pip install 'jaspertc[torch]'" in str(error), error
            else:
                raise AssertionError(use)
        """
    )


def test_commands_without_torch(tmp_path: Path) -> None:
    (tmp_path / "texts.txt").write_text("a cat on the mat\nbread and yeast\n", encoding="utf-8")
    script = """
        import sys
        from jaspertc.cli import main

        sys.argv[0] = "jaspertc"
        try:
            main()
        except SystemExit as end:
            print("ended with", end.code or 0)
        """
    assert "ended with 0" in run(script, "embed", tmp_path / "texts.txt", "--output", tmp_path / "v.npy")
    assert np.load(tmp_path / "v.npy").shape == (2, 384)
    assert "ended with 0" in run(script, "inspect", "mini")
    for command in (
        ["graft", "mini", tmp_path / "out"],
        ["distil", tmp_path / "r.toml"],
        ["optimize", "mini", "o"],
    ):
        assert "ended with 1" in run(script, *command)
