"""The runtime 'compiled' against the runtime 'torch'."""

import shutil

import numpy as np
import pytest
import torch._inductor.exc

from jaspertc.engine.precision import normalized
from jaspertc.engine.runtimes.torch_runtime import TorchRuntime
from jaspertc.errors import InputError
from jaspertc.text.packing import pack
from lab.gpu import compiled as compiled_runtime
from lab.gpu.compiled import CompiledRuntime

LENGTHS = (1, 2, 40, 300, 17, 129, 40)
TOLERANCE = {"float32": 1e-5, "bfloat16": 0.03}


@pytest.mark.skipif(shutil.which("c++") is None, reason="PyTorch's compiler needs a C++ compiler")
@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_vectors_are_those_of_the_torch_runtime(make_encoder, dtype):
    plain, compiled = (
        kind(make_encoder(backbone={"max_positions": 600}), device="cpu", dtype=dtype)
        for kind in (TorchRuntime, CompiledRuntime)
    )
    random = np.random.default_rng(0)
    rows = [random.integers(0, 320, size=length) for length in LENGTHS]
    targets = np.array([len(row) - len(row) // 3 for row in rows])
    expected = normalized(plain.embed(pack(rows), targets))
    found = normalized(compiled.embed(pack(rows), targets))
    assert np.abs(found - expected).max() < TOLERANCE[dtype]
    alone = np.concatenate([compiled.embed(pack([row]), targets[[i]]) for i, row in enumerate(rows)])
    assert np.abs(normalized(alone) - expected).max() < TOLERANCE[dtype]
    assert np.abs(expected[2] - expected[6]).max() > 0.06  # two texts of one length: the bounds are tight


def test_layers_it_does_not_have(make_encoder):
    bert = make_encoder(backbone={"kind": "bert", "num_kv_heads": 4, "causal": False})
    with pytest.raises(InputError, match="has only layers of 'qwen3', not of 'bert'; use 'torch'"):
        CompiledRuntime(bert, device="cpu")


def test_without_a_compiler(make_encoder, monkeypatch):
    def no_compiler(stage):
        def fail(*arguments):
            raise torch._inductor.exc.InvalidCxxCompiler

        return fail

    monkeypatch.setattr(compiled_runtime, "compiled", no_compiler)
    with pytest.raises(InputError, match=r"PyTorch cannot compile here .*use runtime='torch'"):
        CompiledRuntime(make_encoder(), device="cpu")
