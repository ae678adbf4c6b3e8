"""The no-op baseline as a SavedModel and as the same model in LiteRT's format, so that it runs in the runtime that runs models.

Both contain the same graph: a strided slice takes a few numbers of each sample, and their product with the scale is returned as each
output. Samples and outputs are reshaped only where their shapes need it. The models are built from the messages of TensorFlow's and
LiteRT's schemas, because the image that runs benchmarks has no converter.
"""

import math
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from ai_edge_litert.schema_py_generated import (
    BufferT,
    BuiltinOperator,
    BuiltinOptions,
    ModelT,
    MulOptionsT,
    OperatorCodeT,
    OperatorT,
    ReshapeOptionsT,
    StridedSliceOptionsT,
    SubGraphT,
    TensorT,
    TensorType,
)
from ai_edge_litert.tools.flatbuffer_utils import convert_object_to_bytearray

from serving.benchmark.no_op import SCALE, place, rows
from serving.tfserving_protos import messages_alone
from windtunnel.model import Model

with messages_alone():
    from tensorflow.core.framework.attr_value_pb2 import AttrValue
    from tensorflow.core.framework.graph_pb2 import GraphDef
    from tensorflow.core.framework.node_def_pb2 import NodeDef
    from tensorflow.core.framework.tensor_pb2 import TensorProto
    from tensorflow.core.framework.tensor_shape_pb2 import TensorShapeProto
    from tensorflow.core.framework.types_pb2 import DT_FLOAT, DT_INT32
    from tensorflow.core.framework.versions_pb2 import VersionDef
    from tensorflow.core.protobuf.meta_graph_pb2 import MetaGraphDef, SignatureDef, TensorInfo
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

Shape = tuple[int, ...]
"""Of a tensor with its first axis, the samples, which is -1."""

PRODUCER = 1087  # graph version, which tells TensorFlow which behaviour to expect
ALL_SAMPLES = 0b1  # masks have a bit per axis: take the whole first axis


@dataclass(frozen=True)
class Operation:
    """An operation of the graph: `Reshape`, `StridedSlice` or `Mul`, as TensorFlow calls them."""

    kind: str
    inputs: tuple[str, ...]
    output: str
    removed: int = 0  # StridedSlice: the mask of the axes, of length 1, that it removes


@dataclass(frozen=True)
class Graph:
    """The graph of a baseline, for both formats. `shapes` are those of its input and of what its operations compute."""

    taken: str
    outputs: tuple[str, ...]
    shapes: dict[str, Shape]
    constants: dict[str, np.ndarray] = field(default_factory=lambda: {"no_op/scale": np.array(SCALE, np.float32)})
    operations: list[Operation] = field(default_factory=list)

    def reshape(self, tensor: str, shape: Shape, output: str) -> str:
        """Add an operation that gives a tensor this shape."""
        self.constants[f"{output}/shape"] = np.array(shape, np.int32)
        return self._add(Operation("Reshape", (tensor, f"{output}/shape"), output), shape)

    def take(self, count: int) -> str:
        """Add the operations that take as many numbers of each sample."""
        tensor, output = self.taken, f"no_op/{count}"
        sample = self.shapes[tensor][1:]
        view, axis = place(sample, count)
        if view != sample:
            tensor = self.reshape(tensor, (-1, *view), f"{output}/flat")
        end = [count if each == axis else 1 for each in range(len(view))]
        parts = {"begin": np.zeros(1 + len(view)), "end": np.array([0, *end]), "strides": np.ones(1 + len(view))}
        self.constants.update({f"{output}/{name}": part.astype(np.int32) for name, part in parts.items()})
        removed = sum(1 << (1 + each) for each in range(len(view)) if each != axis)
        return self._add(Operation("StridedSlice", (tensor, *(f"{output}/{name}" for name in parts)), output, removed), (-1, count))

    def multiply(self, tensor: str, output: str) -> str:
        """Add the multiplication with the scale."""
        return self._add(Operation("Mul", (tensor, "no_op/scale"), output), self.shapes[tensor])

    def _add(self, operation: Operation, shape: Shape) -> str:
        self.operations.append(operation)
        self.shapes[operation.output] = shape
        return operation.output


def write_no_op(export: Path, model: Model) -> None:
    """Write the baseline of a model into `export`, the directory of a SavedModel, in both formats."""
    graph = _graph(model)
    export.mkdir()
    (export / "saved_model.pb").write_bytes(_saved_model(graph).SerializeToString(deterministic=True))
    (export / "model.tflite").write_bytes(convert_object_to_bytearray(_lite_model(graph)))


def _graph(model: Model) -> Graph:
    shapes = rows(model)
    graph = Graph(model.input.name, tuple(shapes), {model.input.name: (-1, *model.input.shape)})
    taken = {count: graph.take(count) for count in dict.fromkeys(math.prod(row) for row in shapes.values())}
    for name, row in shapes.items():
        numbers = taken[math.prod(row)]
        if len(row) == 1:
            graph.multiply(numbers, name)
        else:
            graph.reshape(graph.multiply(numbers, f"{name}/numbers"), (-1, *row), name)
    return graph


def _saved_model(graph: Graph) -> SavedModel:
    """Build the model for TensorFlow."""
    of_floats, of_integers = AttrValue(type=DT_FLOAT), AttrValue(type=DT_INT32)
    shape = AttrValue(shape=_shape(graph.shapes[graph.taken]))
    nodes = [
        NodeDef(name=graph.taken, op="Placeholder", attr={"dtype": of_floats, "shape": shape}),
        *(_constant(name, value) for name, value in graph.constants.items()),
    ]
    for operation in graph.operations:
        attributes = {"T": of_floats}
        if operation.kind == "Reshape":
            attributes |= {"Tshape": of_integers}
        if operation.kind == "StridedSlice":
            attributes |= {"Index": of_integers, "shrink_axis_mask": AttrValue(i=operation.removed)}
            attributes |= {mask: AttrValue(i=ALL_SAMPLES) for mask in ("begin_mask", "end_mask")}
        nodes.append(NodeDef(name=operation.output, op=operation.kind, input=operation.inputs, attr=attributes))
    signature = SignatureDef(
        method_name="tensorflow/serving/predict",
        inputs={graph.taken: _info(graph.taken, graph.shapes[graph.taken])},
        outputs={name: _info(name, graph.shapes[name]) for name in graph.outputs},
    )
    meta_graph = MetaGraphDef(
        meta_info_def=MetaGraphDef.MetaInfoDef(tags=["serve"]),
        graph_def=GraphDef(node=nodes, versions=VersionDef(producer=PRODUCER)),
        signature_def={"serving_default": signature},
    )
    return SavedModel(saved_model_schema_version=1, meta_graphs=[meta_graph])


def _constant(name: str, value: np.ndarray) -> NodeDef:
    dtype = DT_FLOAT if value.dtype == np.float32 else DT_INT32
    tensor = TensorProto(dtype=dtype, tensor_shape=_shape(value.shape), tensor_content=value.tobytes())
    return NodeDef(name=name, op="Const", attr={"dtype": AttrValue(type=dtype), "value": AttrValue(tensor=tensor)})


def _info(name: str, shape: Shape) -> TensorInfo:
    return TensorInfo(name=f"{name}:0", dtype=DT_FLOAT, tensor_shape=_shape(shape))


def _shape(shape: Shape) -> TensorShapeProto:
    return TensorShapeProto(dim=[TensorShapeProto.Dim(size=size) for size in shape])


def _lite_model(graph: Graph) -> ModelT:
    """Build the model for LiteRT: https://github.com/tensorflow/tensorflow/blob/v2.21.0/tensorflow/compiler/mlir/lite/schema/schema.fbs.

    The file has no signature, so servers name its inputs and outputs after their tensors.
    """
    tensors = [
        *(_lite_constant(name, value, buffer) for buffer, (name, value) in enumerate(graph.constants.items(), 1)),
        *(_lite_variable(name, shape) for name, shape in graph.shapes.items()),
    ]
    numbers = {tensor.name: index for index, tensor in enumerate(tensors)}
    codes = {"Reshape": BuiltinOperator.RESHAPE, "StridedSlice": BuiltinOperator.STRIDED_SLICE, "Mul": BuiltinOperator.MUL}
    used = list(dict.fromkeys(operation.kind for operation in graph.operations))
    operators = []
    for operation in graph.operations:
        kind, options = _lite_options(operation)
        operators.append(
            OperatorT(
                opcodeIndex=used.index(operation.kind),
                inputs=[numbers[name] for name in operation.inputs],
                outputs=[numbers[operation.output]],
                builtinOptionsType=kind,
                builtinOptions=options,
            )
        )
    subgraph = SubGraphT(
        name="main",
        tensors=tensors,
        inputs=[numbers[graph.taken]],
        outputs=[numbers[name] for name in graph.outputs],
        operators=operators,
    )
    return ModelT(
        version=3,
        operatorCodes=[OperatorCodeT(builtinCode=codes[kind], deprecatedBuiltinCode=codes[kind], version=1) for kind in used],
        subgraphs=[subgraph],
        # The first buffer is empty: tensors without a value refer to it.
        buffers=[BufferT(), *(BufferT(data=list(value.tobytes())) for value in graph.constants.values())],
    )


def _lite_options(operation: Operation) -> tuple[int, object]:
    if operation.kind == "Reshape":
        return BuiltinOptions.ReshapeOptions, ReshapeOptionsT()  # the shape is an input
    if operation.kind == "Mul":
        return BuiltinOptions.MulOptions, MulOptionsT()
    options = StridedSliceOptionsT(beginMask=ALL_SAMPLES, endMask=ALL_SAMPLES, shrinkAxisMask=operation.removed)
    return BuiltinOptions.StridedSliceOptions, options


def _lite_variable(name: str, shape: Shape) -> TensorT:
    return TensorT(name=name, type=TensorType.FLOAT32, shape=[abs(size) for size in shape], shapeSignature=shape)


def _lite_constant(name: str, value: np.ndarray, buffer: int) -> TensorT:
    dtype = TensorType.FLOAT32 if value.dtype == np.float32 else TensorType.INT32
    return TensorT(name=name, type=dtype, shape=value.shape, buffer=buffer)
