"""The protocol floor as a SavedModel and as its twin in LiteRT's format, so that it is computed by the runtime that computes models.

Both are written as messages: TensorFlow's own Python is not where benchmarks run.
"""

from pathlib import Path
from typing import Any

import flatbuffers
import numpy as np
from ai_edge_litert import schema_py_generated as litert
from flatbuffers import flexbuffers

from serving.tfserving.protos import messages_alone

with messages_alone():
    from tensorflow.core.framework import tensor_pb2, types_pb2
    from tensorflow.core.protobuf import meta_graph_pb2, saved_model_pb2

SIDE = 28
SIGNATURE = "serving_default"
INPUT = "image"
OUTPUTS = ("logits", "probabilities")
PRODUCER = 1087  # of the graph, which tells TensorFlow what it may expect
ALL_OF_FIRST_AXIS, WITHOUT_ROW_AND_CHANNEL = 0b0001, 0b1010  # masks of a strided slice, a bit an axis


def write_floor(directory: Path, classes: int, scale: float) -> None:
    """Write it into a version's directory."""
    saved_model = directory / "saved_model"
    saved_model.mkdir()
    message = _saved_model(classes, scale)
    (saved_model / "saved_model.pb").write_bytes(message.SerializeToString(deterministic=True))
    signature = message.meta_graphs[0].signature_def[SIGNATURE]
    (saved_model / "model.tflite").write_bytes(_lite_model(signature, classes, scale))


def _corners(classes: int) -> dict[str, np.ndarray]:
    """Where the slice of the first pixels begins and ends, and its strides."""
    corners = {"begin": [0, 0, 0, 0], "end": [0, 1, classes, 1], "strides": [1, 1, 1, 1]}
    return {name: np.array(values, np.int32) for name, values in corners.items()}


def _saved_model(classes: int, scale: float) -> Any:
    saved = saved_model_pb2.SavedModel(saved_model_schema_version=1)
    meta_graph = saved.meta_graphs.add()
    meta_graph.meta_info_def.tags.append("serve")
    graph = meta_graph.graph_def
    graph.versions.producer = PRODUCER
    image = graph.node.add(name=INPUT, op="Placeholder")
    image.attr["dtype"].type = types_pb2.DT_FLOAT
    for size in (-1, SIDE, SIDE, 1):
        image.attr["shape"].shape.dim.add(size=size)
    for name, value in {**_corners(classes), "scale": np.array(scale, np.float32)}.items():
        constant = graph.node.add(name=name, op="Const")
        constant.attr["dtype"].type = types_pb2.DT_FLOAT if name == "scale" else types_pb2.DT_INT32
        constant.attr["value"].tensor.CopyFrom(_tensor(value, constant.attr["dtype"].type))
    pixels = graph.node.add(name="pixels", op="StridedSlice", input=[INPUT, *_corners(classes)])
    pixels.attr["T"].type, pixels.attr["Index"].type = types_pb2.DT_FLOAT, types_pb2.DT_INT32
    masks = {"begin_mask": ALL_OF_FIRST_AXIS, "end_mask": ALL_OF_FIRST_AXIS, "shrink_axis_mask": WITHOUT_ROW_AND_CHANNEL}
    for name, mask in masks.items():
        pixels.attr[name].i = mask
    for name in OUTPUTS:
        graph.node.add(name=name, op="Mul", input=["pixels", "scale"]).attr["T"].type = types_pb2.DT_FLOAT
    signature = meta_graph.signature_def[SIGNATURE]
    signature.method_name = "tensorflow/serving/predict"
    _describe(signature.inputs[INPUT], INPUT, (-1, SIDE, SIDE, 1))
    for name in OUTPUTS:
        _describe(signature.outputs[name], name, (-1, classes))
    return saved


def _tensor(value: np.ndarray, kind: int) -> Any:
    tensor = tensor_pb2.TensorProto(dtype=kind, tensor_content=value.tobytes())
    for size in value.shape:
        tensor.tensor_shape.dim.add(size=size)
    return tensor


def _describe(info: meta_graph_pb2.TensorInfo, name: str, shape: tuple[int, ...]) -> None:
    info.name, info.dtype = f"{name}:0", types_pb2.DT_FLOAT
    for size in shape:
        info.tensor_shape.dim.add(size=size)


def _lite_model(signature: meta_graph_pb2.SignatureDef, classes: int, scale: float) -> bytes:
    """The same for LiteRT; https://github.com/tensorflow/tensorflow/blob/v2.21.0/tensorflow/compiler/mlir/lite/schema/schema.fbs."""
    model = litert.ModelT()
    model.version, model.description = 3, "the protocol floor"
    model.buffers = [litert.BufferT()]  # the first is empty, for tensors without a value
    graph = litert.SubGraphT()
    graph.name, graph.tensors = "main", []
    model.subgraphs, model.operatorCodes = [graph], []

    def buffer(content: bytes) -> int:
        filled = litert.BufferT()
        filled.data = np.frombuffer(content, np.uint8)
        model.buffers.append(filled)
        return len(model.buffers) - 1

    def tensor(name: str, shape: tuple[int, ...], value: np.ndarray | None = None) -> int:
        made = litert.TensorT()
        made.name, made.shape = name, [abs(size) for size in shape]
        made.type = litert.TensorType.FLOAT32 if value is None or value.dtype == np.float32 else litert.TensorType.INT32
        if value is None:
            made.shapeSignature = list(shape)
        made.buffer = 0 if value is None else buffer(value.tobytes())
        graph.tensors.append(made)
        return len(graph.tensors) - 1

    def operator(code: int, kind: int, options: Any, inputs: list[int], output: int) -> Any:
        opcode = litert.OperatorCodeT()
        opcode.builtinCode, opcode.deprecatedBuiltinCode, opcode.version = code, code, 1
        model.operatorCodes.append(opcode)
        made = litert.OperatorT()
        made.opcodeIndex, made.inputs, made.outputs = len(model.operatorCodes) - 1, inputs, [output]
        made.builtinOptionsType, made.builtinOptions = kind, options
        return made

    image = tensor(f"{INPUT}:0", (-1, SIDE, SIDE, 1))
    corners = [tensor(name, value.shape, value) for name, value in _corners(classes).items()]
    factor = tensor("scale", (), np.array(scale, np.float32))
    pixels = tensor("pixels", (-1, classes))
    outputs = {name: tensor(f"{name}:0", (-1, classes)) for name in OUTPUTS}
    slice_options = litert.StridedSliceOptionsT()
    slice_options.beginMask = slice_options.endMask = ALL_OF_FIRST_AXIS
    slice_options.shrinkAxisMask = WITHOUT_ROW_AND_CHANNEL
    slicing, multiplying = litert.BuiltinOptions.StridedSliceOptions, litert.BuiltinOptions.MulOptions
    graph.operators = [
        operator(litert.BuiltinOperator.STRIDED_SLICE, slicing, slice_options, [image, *corners], pixels),
        *(operator(litert.BuiltinOperator.MUL, multiplying, litert.MulOptionsT(), [pixels, factor], place) for place in outputs.values()),
    ]
    graph.inputs, graph.outputs = [image], list(outputs.values())
    own = litert.SignatureDefT()
    own.signatureKey, own.subgraphIndex = SIGNATURE, 0
    own.inputs, own.outputs = [_place(INPUT, image)], [_place(name, place) for name, place in outputs.items()]
    model.signatureDefs = [own]
    # The SavedModel's signature too, which is the one that TensorFlow Serving reads: as in train_server/lenet5/litert.py.
    serialized = signature.SerializeToString(deterministic=True)
    stand_in = b"s" * len(serialized)  # a string is wanted, and Python's FlexBuffers take none but UTF-8
    metadata = litert.MetadataT()
    metadata.name = "signature_defs_metadata"
    metadata.buffer = buffer(bytes(flexbuffers.Dumps({SIGNATURE: stand_in.decode()})).replace(stand_in, serialized))
    model.metadata = [metadata]
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def _place(name: str, tensor: int) -> Any:
    made = litert.TensorMapT()
    made.name, made.tensorIndex = name, tensor
    return made
