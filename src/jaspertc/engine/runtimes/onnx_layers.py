"""A backbone's layers in ONNX Runtime, from arrays to arrays: export's graph, of the layers alone.

Shape legend: N texts, C compressed tokens, R rows of a product, I inputs, O outputs, D model width.
"""

import os
from collections.abc import Sequence
from typing import Any

import numpy as np
import onnxruntime
from onnx import TensorProto, helper

from jaspertc.config import BackboneConfig
from jaspertc.engine.runtimes.rows import plan_rows
from jaspertc.errors import InputError
from jaspertc.export.backbones import layers_graph
from jaspertc.export.compression import layout_of
from jaspertc.export.graph import INLINE_BYTES, Array, Graph, Value, model_of
from jaspertc.export.products import MIDDLE, Products, unsigned
from jaspertc.machine import cpu_has_vnni
from jaspertc.model.weights import int8_rows, is_int8
from jaspertc.types import FloatArray, IntArray

STEP = np.array(1 / 127, np.float32)  # between the values that rows are rounded to, of their largest
CONTRIBUTED = "com.microsoft"  # operators of ONNX Runtime's own


class RuntimeProducts(Products):
    """Products of float32 with float32 or, where a layer's weights are int8, of int8 with int8.

    Each row is rounded by itself, so a text's vector does not depend on its neighbours, to 255 values from
    minus its largest to its largest. Without VNNI the weights are unsigned, too; see ``unsigned``.

    Args:
        every: int8 also for layers whose weights are not, because none are.
    """

    def __init__(self, graph: Graph, *, int8: bool, every: bool) -> None:
        super().__init__(graph, "float32")
        self._int8, self._every, self._signed = int8, every, cpu_has_vnni()

    def _is_int8(self, layer: Any) -> bool:
        return self._int8 and (self._every or is_int8(layer))

    def _int8_product(self, name: str, x: Value, layers: Sequence[Any], bias: Array | None) -> Value:
        graph = self.graph
        pairs = [int8_rows(layer) for layer in layers]
        whole = np.concatenate([rows for rows, _ in pairs]).T
        scales = np.concatenate([scale for _, scale in pairs])[:, 0]
        stored = np.ascontiguousarray(whole) if self._signed else unsigned(whole)
        most = graph.reduce("Max", abs(x), 1, keepdims=True)
        # In a row of zeros NaN is rounded to some number, which is then multiplied by zero.
        rounded = graph.op("QuantizeLinear", x / most, STEP, MIDDLE)
        out: Value = graph.op(
            "MatMulIntegerToFloat",
            rounded,
            graph.weight(f"{name}.weight", stored),
            STEP,
            graph.weight(f"{name}.scale", scales),
            MIDDLE,
            np.array(0, np.int8) if self._signed else MIDDLE,
            domain=CONTRIBUTED,
        )
        out *= most
        return out if bias is None else out + graph.weight(f"{name}.bias", bias)


class OnnxLayers:
    """The layers of a backbone; their weights are copied.

    Args:
        weights: as ``layers_graph`` takes them: modules, or arrays under the same names.
        precision: ``int8`` or ``float32``.
        threads: what is computed with.

    Raises:
        InputError: the weights are more than a graph can hold (1.9 GB).
    """

    compiles_late = False

    def __init__(self, config: BackboneConfig, weights: Any, *, precision: str, threads: int) -> None:
        self.threads, self._own_threads, self._process = threads, threads, os.getpid()
        graph = Graph()
        every = not any(map(is_int8, weights.modules()))
        states, lengths = Value(graph, "states"), Value(graph, "lengths")
        products = RuntimeProducts(graph, int8=precision == "int8", every=every)
        out = layers_graph(products, config, weights, layout_of(graph, lengths), states)
        graph.nodes.append(helper.make_node("Identity", [out.name], ["out"]))
        if sum(values.nbytes for values in graph.weights.values()) > INLINE_BYTES:
            raise InputError(
                "the model is too large for the runtime 'onnxruntime'; use 'openvino' or 'torch'"
            )
        width = ["tokens", config.hidden_size]
        model = model_of(
            graph,
            inputs=[
                helper.make_tensor_value_info("states", TensorProto.FLOAT, width),
                helper.make_tensor_value_info("lengths", TensorProto.INT64, ["texts"]),
            ],
            outputs=[helper.make_tensor_value_info("out", TensorProto.FLOAT, width)],
        )
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads, options.log_severity_level = threads, 3
        # Its threads wait busily for more within a call, but not after one, when others need the cores.
        options.add_session_config_entry("session.force_spinning_stop", "1")
        self._session = onnxruntime.InferenceSession(
            model.SerializeToString(), options, providers=["CPUExecutionProvider"]
        )

    def __call__(self, x: FloatArray, lengths: IntArray) -> FloatArray:
        """Token embeddings after compression, shape (C, D) -> last hidden states, shape (C, D).

        Args:
            lengths: compressed tokens of each text, shape (N,), which add up to C.

        Raises:
            InputError: a fork has cut off the session's threads.
        """
        if self._own_threads > 1 and self._process != os.getpid():
            raise InputError(
                "this process was forked from one that uses ONNX Runtime, whose threads it lacks; start "
                "processes with multiprocessing.get_context(\"spawn\"), or load with runtime='openvino'"
            )
        if len(lengths) == 1:
            return self._run(x, lengths)
        out = np.empty_like(x)
        for rows in plan_rows(lengths):
            out[rows.tokens] = self._run(x[rows.tokens], rows.lengths[rows.lengths > 0])
        return out

    def _run(self, x: FloatArray, lengths: IntArray) -> FloatArray:
        (states,) = self._session.run(None, {"states": x, "lengths": lengths})
        return np.asarray(states)
