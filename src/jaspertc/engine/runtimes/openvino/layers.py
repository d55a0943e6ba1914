"""A backbone's layers compiled by OpenVINO, from arrays to arrays: PyTorch is not needed.

Shape legend: N texts, C compressed tokens, D model width.
"""

import threading
from importlib import import_module
from typing import Any

import numpy as np

from jaspertc.config import BackboneConfig
from jaspertc.engine.runtimes.rows import one_row, plan_rows
from jaspertc.machine import cpu_has_amx, cpu_has_bfloat16
from jaspertc.model.backbones import backbone_class
from jaspertc.model.weights import is_int8
from jaspertc.types import FloatArray, IntArray

SHORT = 32  # compressed tokens of a text: see OpenVINOLayers
NARROW = 8  # rows of graphs for a single shape have multiples of so many tokens
SMALL = 1 << 25  # weights of layers up to which their graph is kept, and compiled for single shapes, too
# Values of a token that share a scale when activations are quantised: fewer are more exact, more are faster.
GROUP, WIDE_GROUP = 128, 256


def graph_class(kind: str) -> Any:
    """The ``Graph`` of a kind of backbone that has one."""
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


class OpenVINOLayers:
    """The layers of a backbone. Their weights are copied and can then be freed, but for large int8 matrices.

    Of layers that are small, the graph is kept and compiled when it is first needed: once for any shape, and
    for one text of up to ``SHORT`` tokens, such as a query, once for each width of its row. The
    arithmetic is the same; but known shapes are not worked out anew at hundreds of operations. Nothing in
    bfloat16 is compiled for known shapes: on CPUs with AVX-512 bfloat16 and no AMX, OpenVINO 2026.4 then
    computes attention wrong (cosines of .2 to .8 to float32; products have been reported, openvino#38256),
    and products of layers left in bfloat16 are rounded in another order.

    With ``int8``, attention is bfloat16 where the CPU computes that natively, but for texts of up to
    ``SHORT`` tokens, where it is float32 so that they can have such graphs. On a CPU with AMX, OpenVINO
    would expand int8 matrices to bfloat16 at each call. There, also in large layers, short texts have int8
    products and float32 attention, since the matrices' size is what counts for them, and longer ones are
    computed in bfloat16 with matrices expanded once. Each of the two is compiled when it is first needed.

    Args:
        weights: as ``LayerGraph`` takes them: modules, or arrays under the same names.
        precision: ``int8``, ``bfloat16`` or ``float32``.
        threads: what is compiled computes with so many.

    Attributes:
        compiles_late: whether nothing is compiled before it is needed.
        has_shapes: whether a short text alone is computed by a graph of its own shape.
    """

    def __init__(self, config: BackboneConfig, weights: Any, *, precision: str, threads: int) -> None:
        self.config, self.threads = config, threads
        self._weights = weights
        self._graph = graph_class(config.kind)
        self._group = WIDE_GROUP if config.hidden_size % WIDE_GROUP == 0 else GROUP
        self._int8 = precision == "int8"
        in_bfloat16 = precision == "bfloat16" or (self._int8 and cpu_has_bfloat16())
        self._hint = "bf16" if in_bfloat16 else "f32"
        count = backbone_class(config.kind).layer_weights(config) * config.num_layers
        self.compiles_late = count <= SMALL
        self._expands = self._int8 and cpu_has_amx()
        apart = self._int8 and in_bfloat16 and (self.compiles_late or self._expands)
        self._short = SHORT if apart else 0
        self.has_shapes = self.compiles_late and (apart or not in_bfloat16)
        self._compiling = threading.Lock()
        self._models: dict[bool, Any] = {}
        self._compiled: dict[tuple[bool, int], CompiledGraph] = {}
        if self.compiles_late or not self._expands:
            self._model(int8=self._int8)
        if not self._expands:
            if not self.compiles_late:
                self._layers_for(int(self.config.max_positions))
                self._models.clear()
            self._weights = [part for part in weights.modules() if is_int8(part)]  # the graph's memory

    def __call__(self, x: FloatArray, lengths: IntArray) -> FloatArray:
        """Token embeddings after compression, shape (C, D) -> last hidden states, shape (C, D).

        Args:
            lengths: compressed tokens of each text, shape (N,), which add up to C.
        """
        out = np.empty_like(x)
        alone = self.has_shapes and len(lengths) == 1 and lengths[0] <= SHORT
        parts = [one_row(int(lengths[0]), NARROW)] if alone else plan_rows(lengths, apart=self._short)
        for rows in parts:
            used = len(rows.tokens)
            tokens: Any = slice(used) if len(lengths) == 1 else rows.tokens
            states = np.zeros((len(rows.places), x.shape[1]), np.float32)
            states[:used] = x[tokens]
            mask = rows.mask(causal=self.config.causal)
            extra = self._graph.extra_values(self.config, rows.positions)
            inputs = [states, rows.cells, rows.places, mask, *extra]
            layers = self._layers_for(int(rows.lengths.max()), inputs if alone else None)
            out[tokens] = layers(inputs)[:used]
        return out

    def _layers_for(self, length: int, inputs: list[np.ndarray] | None = None) -> CompiledGraph:
        """The layers for texts of so many tokens, or for inputs of these very shapes."""
        short = length <= self._short
        key = short, len(inputs[0]) if inputs else 0
        if key not in self._compiled:
            with self._compiling:
                if key not in self._compiled:
                    self._compiled[key] = self._compile(short, inputs)
        return self._compiled[key]

    def _compile(self, short: bool, inputs: list[np.ndarray] | None) -> CompiledGraph:
        hint = "f32" if short else self._hint
        int8 = self._int8 and (short or not self._expands)
        model = self._model(int8=int8)
        if inputs:
            model = model.clone()
            model.reshape({number: list(values.shape) for number, values in enumerate(inputs)})
        return CompiledGraph(model, hint=hint, group=self._group if int8 else 0, threads=self.threads)

    def _model(self, *, int8: bool) -> Any:
        """The graph for any shape, kept where it is small."""
        if int8 in self._models:
            return self._models[int8]
        graph = self._graph(self.config, self._weights, int8=int8, bfloat16=self._expands and not int8)
        model = graph.build()
        self.has_shapes &= not graph.has_bfloat16
        if self.compiles_late or not self._expands:
            self._models[int8] = model
        return model
