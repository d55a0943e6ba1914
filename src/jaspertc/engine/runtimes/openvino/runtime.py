"""Runs an encoder's layers with OpenVINO, on the CPU; lookup, compression and pooling stay in PyTorch.

Shape legend: C compressed tokens, D model width.
"""

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from jaspertc.engine.runtimes.rows import plan_rows
from jaspertc.engine.runtimes.torch_runtime import OnTheWay, TorchRuntime, cpu_has_amx, cpu_has_bfloat16
from jaspertc.errors import InputError, MissingExtraError
from jaspertc.model.attention import PackedLayout
from jaspertc.model.backbones import BACKBONES, Backbone, backbone_class
from jaspertc.model.encoder import Encoder
from jaspertc.model.int8 import Int8Linear
from jaspertc.text.packing import PackedBatch
from jaspertc.types import IntArray

logger = logging.getLogger(__name__)

DTYPES = {"auto": "int8", "int8": "int8", "bfloat16": "bfloat16", "float32": "float32"}
SHORT = 32  # compressed tokens of a text: see OpenVINOBackbone
ALONE = 16_384  # tokens x threads up to which one thread does PyTorch's part
# Values of a token that share a scale when activations are quantised: fewer are more exact, more are faster.
GROUP, WIDE_GROUP = 128, 256


def _graph_class(kind: str) -> Any:
    module = backbone_class(kind).openvino_graph
    assert module is not None, "the runtime refuses it first"
    return import_module(module).Graph


class CompiledGraph:
    """A graph compiled for one precision, with a request for each thread."""

    def __init__(self, model: Any, *, hint: str, group: int, threads: int) -> None:
        import openvino as ov

        options = {
            "PERFORMANCE_HINT": "LATENCY",
            # Pinned, threads of several processes share the first cores, and the caller's stays bound to one.
            "ENABLE_CPU_PINNING": False,
            "INFERENCE_NUM_THREADS": threads,
            "INFERENCE_PRECISION_HINT": hint,
            "DYNAMIC_QUANTIZATION_GROUP_SIZE": group,
        }
        self._compiled: Any = ov.Core().compile_model(model, "CPU", options)
        self._requests = threading.local()
        self._tensor = ov.Tensor

    def __call__(self, inputs: list[np.ndarray]) -> np.ndarray:
        """The graph's output, such as last hidden states, (C, D), good until the thread's next call."""
        if not hasattr(self._requests, "request"):
            self._requests.request = self._compiled.create_infer_request()
        request = self._requests.request
        # Given to ``infer`` itself, each array passes through several checks in Python first.
        for number, values in enumerate(inputs):
            request.set_input_tensor(number, self._tensor(np.ascontiguousarray(values), shared_memory=True))
        request.infer()
        states: np.ndarray = request.get_output_tensor(0).data
        return states


class OpenVINOBackbone(Backbone):
    """The layers of another backbone, compiled. Its parameters are copied and can then be freed.

    With ``int8``, attention is bfloat16 where the CPU computes that natively. On a CPU with AMX, OpenVINO
    would then expand int8 matrices to bfloat16 at each call. There, texts of up to ``SHORT`` tokens have int8
    products and float32 attention, since the matrices' size is what counts for them, and longer ones are
    computed in bfloat16 with matrices expanded once; each of the two is compiled when it is first needed.

    Args:
        precision: ``int8``, ``bfloat16`` or ``float32``.

    Attributes:
        threads: what is compiled from now on computes with so many.
    """

    def __init__(self, backbone: Backbone, precision: str) -> None:
        super().__init__(backbone.config)
        self.threads = torch.get_num_threads()
        self._table = backbone.token_table
        self._graph_of = partial(_graph_class(self.config.kind), backbone)
        graph = self._graph_of(int8=precision == "int8")
        self._before: nn.Module | None = graph.before()
        self._extra_values = type(graph).extra_values
        self._shared = [part for part in backbone.modules() if isinstance(part, Int8Linear)]  # graph's memory
        group = WIDE_GROUP if self.config.hidden_size % WIDE_GROUP == 0 else GROUP
        self._short = SHORT if precision == "int8" and cpu_has_amx() else 0
        self._compiling = threading.Lock()
        if self._short:
            self._layers: dict[bool, CompiledGraph] = {}
            self._making = {
                True: lambda: CompiledGraph(
                    self._graph_of(int8=True).build(), hint="f32", group=group, threads=self.threads
                ),
                False: lambda: CompiledGraph(
                    self._graph_of(int8=False, bfloat16=True).build(),
                    hint="bf16",
                    group=0,
                    threads=self.threads,
                ),
            }
        else:
            in_bfloat16 = precision == "bfloat16" or (precision == "int8" and cpu_has_bfloat16())
            hint, group = "bf16" if in_bfloat16 else "f32", group if precision == "int8" else 0
            self._layers = {False: CompiledGraph(graph.build(), hint=hint, group=group, threads=self.threads)}
            del self._graph_of

    @property
    def token_table(self) -> nn.Embedding:
        return self._table

    def forward(self, x: Tensor, layout: PackedLayout) -> Tensor:
        """Token embeddings after compression, shape (C, D) -> last hidden states, shape (C, D)."""
        if self._before is not None:
            x = self._before(x, layout)
        out = torch.empty_like(x)
        for rows in plan_rows(layout.lengths, apart=self._short):
            used = len(rows.tokens)
            tokens: Any = slice(used) if len(layout.lengths) == 1 else torch.from_numpy(rows.tokens)
            states = torch.zeros(len(rows.places), x.shape[1])
            states[:used] = x[tokens]
            mask = rows.mask(causal=self.config.causal)
            extra = self._extra_values(self.config, torch.from_numpy(rows.positions))
            layers = self._layers_for(int(rows.lengths.max()))
            result = layers([states.numpy(), rows.cells, rows.places, mask, *extra])
            out[tokens] = torch.from_numpy(result)[:used]
        return out

    def _layers_for(self, length: int) -> CompiledGraph:
        """The layers for texts of so many tokens."""
        short = length <= self._short
        if short not in self._layers:
            with self._compiling:
                if short not in self._layers:
                    self._layers[short] = self._making[short]()
        return self._layers[short]


class OpenVINORuntime(TorchRuntime):
    """Vectors from packed batches, with int8 weights and activations unless ``dtype`` says otherwise.

    Raises:
        MissingExtraError: OpenVINO is not installed.
        InputError: another device than the CPU, an unknown dtype, or a backbone that has no graph.
    """

    name = "openvino"

    def __init__(self, encoder: Encoder, *, device: str = "auto", dtype: str = "auto") -> None:
        if device not in ("auto", "cpu"):
            raise InputError(
                f"device is {device!r}, the runtime 'openvino' has 'cpu' only; use runtime='torch'"
            )
        if dtype not in DTYPES:
            raise InputError(f"dtype is {dtype!r}, the runtime 'openvino' has {', '.join(DTYPES)}")
        kind = encoder.config.backbone.kind
        if backbone_class(kind).openvino_graph is None:
            known = ", ".join(name for name, cls in BACKBONES.items() if cls.openvino_graph)
            raise InputError(f"the runtime 'openvino' has layers of {known}, not of {kind!r}; use 'torch'")
        try:
            import openvino
        except ImportError as error:
            raise MissingExtraError("openvino", "cpu", "the runtime 'openvino'") from error
        self._layers_in = DTYPES[dtype]
        super().__init__(encoder, device="cpu", dtype="float32")
        self.precision = self._layers_in
        logger.info("runtime: openvino %s on the CPU, %s", openvino.__version__, self.precision)

    def _prepare_layers(self) -> None:
        """The encoder itself gets other layers, so that the memory of its own can be freed."""
        self.encoder.backbone = OpenVINOBackbone(self.encoder.backbone, self._layers_in)

    def _start(self, batch: PackedBatch, targets: IntArray) -> OnTheWay:
        with self._computing():
            threads = torch.get_num_threads()  # one in a forked process, from here on
            few = len(batch.ids) * threads <= ALONE
            if isinstance(self.encoder.backbone, OpenVINOBackbone):
                self.encoder.backbone.threads = threads  # and not one, which PyTorch has below
            with torch_threads(1 if few else threads):
                return super()._start(batch, targets)


@contextmanager
def torch_threads(count: int) -> Iterator[None]:
    """PyTorch on so many threads: idle ones spin for milliseconds, on cores that OpenVINO needs by then."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)
