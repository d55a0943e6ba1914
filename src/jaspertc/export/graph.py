"""An ONNX graph under construction: values with Python's operators, constants once, weights by name."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from jaspertc.files.aside import written_aside

OPSET = 20  # the first with Gelu; ONNX Runtime has it since 1.17
IR_VERSION = 9
INLINE_BYTES = 1_900_000_000  # a protocol buffer holds 2 GiB; beyond this the weights lie beside the file
ALIGNMENT = 4096  # external weights can then be mapped into memory

Array: TypeAlias = np.ndarray[Any, Any]


class Value:
    """The output of a node, with the operators that Python's numbers and numpy's arrays have.

    ``//`` is exact for integers that are not negative: ONNX rounds towards zero.
    """

    def __init__(self, graph: "Graph", name: str) -> None:
        self.graph, self.name = graph, name

    def _with(self, kind: str, other: "Value | Array | float", *, swap: bool = False) -> "Value":
        right = self.graph.value(other)
        return self.graph.op(kind, *((right, self) if swap else (self, right)))

    def __add__(self, other: "Value | Array | float") -> "Value":
        return self._with("Add", other)

    def __sub__(self, other: "Value | Array | float") -> "Value":
        return self._with("Sub", other)

    def __mul__(self, other: "Value | Array | float") -> "Value":
        return self._with("Mul", other)

    def __floordiv__(self, other: "Value | Array | float") -> "Value":
        return self._with("Div", other)

    def __truediv__(self, other: "Value | Array | float") -> "Value":
        return self._with("Div", other)

    def __lt__(self, other: "Value | Array | float") -> "Value":
        return self._with("Less", other)

    def __abs__(self) -> "Value":
        return self.graph.op("Abs", self)

    __radd__, __rmul__ = __add__, __mul__


class Graph:
    """Nodes and initialisers in the order in which they are made."""

    def __init__(self) -> None:
        self.nodes: list[onnx.NodeProto] = []
        self.weights: dict[str, Array] = {}
        self._constants: dict[tuple[Any, ...], Value] = {}

    def op(self, kind: str, *inputs: "Value | Array | float | None", **attributes: Any) -> Value:
        """The single output of a new node of ONNX operator ``kind``."""
        return self.ops(kind, 1, *inputs, **attributes)[0]

    def ops(
        self, kind: str, outputs: int, *inputs: "Value | Array | float | None", **attributes: Any
    ) -> list[Value]:
        """All outputs of a new node; an input of ``None`` is left out."""
        names = ["" if item is None else self.value(item).name for item in inputs]
        values = [Value(self, f"v{len(self.nodes)}_{number}") for number in range(outputs)]
        self.nodes.append(helper.make_node(kind, names, [value.name for value in values], **attributes))
        return values

    def value(self, item: "Value | Array | float") -> Value:
        """A value as it is; an array as a constant; a Python integer as int64, a float as float32."""
        if isinstance(item, Value):
            return item
        if isinstance(item, (bool, int, float)):
            item = np.array(item, dtype=np.int64 if isinstance(item, int) else np.float32)
        key = (item.dtype, item.shape, item.tobytes())
        if key not in self._constants:
            name = f"c{len(self._constants)}"
            self.weights[name] = item
            self._constants[key] = Value(self, name)
        return self._constants[key]

    def weight(self, name: str, array: Array) -> Value:
        """An initialiser under a name of its own; the array is not copied."""
        assert name not in self.weights, name
        self.weights[name] = array
        return Value(self, name)

    def cast(self, x: Value, dtype: Any) -> Value:
        """``x`` as another numpy dtype."""
        return self.op("Cast", x, to=helper.np_dtype_to_tensor_dtype(np.dtype(dtype)))

    def reshape(self, x: Value, *shape: int) -> Value:
        """``x`` in another shape; 0 keeps a dimension, -1 is what is left."""
        return self.op("Reshape", x, np.array(shape, dtype=np.int64))

    def unsqueeze(self, x: Value, *axes: int) -> Value:
        """``x`` with new dimensions of size 1."""
        return self.op("Unsqueeze", x, np.array(axes, dtype=np.int64))

    def reduce(self, kind: str, x: Value, *axes: int, keepdims: bool = False) -> Value:
        """``ReduceSum``, ``ReduceMax`` ... over ``axes``, or over all."""
        return (
            self.op(f"Reduce{kind}", x, np.array(axes, dtype=np.int64), keepdims=int(keepdims))
            if (axes)
            else self.op(f"Reduce{kind}", x, keepdims=0)
        )

    def dimension(self, x: Value, axis: int) -> Value:
        """The size of one dimension, shape ()."""
        return self.op("Gather", self.op("Shape", x), np.array(axis, dtype=np.int64), axis=0)

    def range(self, count: Value) -> Value:
        """0 ... count - 1, int64, for a count of shape ()."""
        return self.op("Range", 0, count, 1)


def save(
    graph: Graph,
    path: Path,
    *,
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
    metadata: dict[str, str],
    external: bool | None = None,
) -> list[Path]:
    """Write the graph as ``path``, weights inside or, when they are large, in ``path`` + ``.data``.

    Args:
        external: weights beside the file; by default only where a file cannot hold them.

    Returns:
        The files written.
    """
    size = sum(array.nbytes for array in graph.weights.values())
    beside = size > INLINE_BYTES if external is None else external
    data = path.with_name(path.name + ".data")
    tensors = _written_beside(graph, data) if beside else _inside(graph)
    proto = model_of(graph, tensors, inputs=inputs, outputs=outputs)
    proto.producer_version = metadata["jaspertc.version"]
    helper.set_model_props(proto, metadata)
    with written_aside(path) as file:
        file.write(proto.SerializeToString())
    return [path, data] if beside else [path]


def model_of(
    graph: Graph,
    tensors: Sequence[onnx.TensorProto] | None = None,
    *,
    inputs: Sequence[onnx.ValueInfoProto],
    outputs: Sequence[onnx.ValueInfoProto],
) -> onnx.ModelProto:
    """The graph as ONNX has it.

    Args:
        tensors: the weights; by default all lie inside.
    """
    domains = {"", *(node.domain for node in graph.nodes)}
    return helper.make_model(
        helper.make_graph(
            graph.nodes,
            "jaspertc",
            list(inputs),
            list(outputs),
            _inside(graph) if tensors is None else tensors,
        ),
        opset_imports=[helper.make_opsetid(name, 1 if name else OPSET) for name in sorted(domains)],
        ir_version=IR_VERSION,
        producer_name="jaspertc",
    )


def _inside(graph: Graph) -> list[onnx.TensorProto]:
    return [numpy_helper.from_array(array, name) for name, array in graph.weights.items()]


def _written_beside(graph: Graph, path: Path) -> list[onnx.TensorProto]:
    """Small constants inside (ONNX Runtime wants shapes there), weights one after another in ``path``."""
    tensors = []
    with written_aside(path) as file:
        for name, array in graph.weights.items():
            if array.nbytes < ALIGNMENT:
                tensors.append(numpy_helper.from_array(array, name))
                continue
            file.write(b"\0" * (-file.tell() % ALIGNMENT))
            kind = helper.np_dtype_to_tensor_dtype(array.dtype)
            tensor = TensorProto(name=name, dims=array.shape, data_type=kind)
            tensor.data_location = TensorProto.EXTERNAL
            where = {"location": path.name, "offset": file.tell(), "length": array.nbytes}
            for key, value in where.items():
                tensor.external_data.add(key=key, value=str(value))
            file.write(np.ascontiguousarray(array).data)
            tensors.append(tensor)
    return tensors
