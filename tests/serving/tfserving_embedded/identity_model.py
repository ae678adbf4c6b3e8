"""A model that gives back what it is given, written without TensorFlow, in milliseconds."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from serving.tfserving_protos import messages_alone

with messages_alone():
    from tensorflow.core.framework import types_pb2
    from tensorflow.core.protobuf import saved_model_pb2

    from serving.tfserving_embedded.runtime.tensors import fill_proto


def write_identity(directory: Path, defaults: Mapping[str, np.ndarray] | None = None, **types: int) -> None:
    """Write a SavedModel with an input of each name and type, of any shape, some with defaults, and an output `the_NAME` for each."""
    saved = saved_model_pb2.SavedModel(saved_model_schema_version=1)
    meta_graph = saved.meta_graphs.add()
    meta_graph.meta_info_def.tags.append("serve")
    meta_graph.graph_def.versions.producer = 1087
    signature = meta_graph.signature_def["serving_default"]
    signature.method_name = "tensorflow/serving/predict"
    for name, dtype in types.items():
        into = meta_graph.graph_def.node.add(name=name, op="Placeholder")
        into.attr["dtype"].type = dtype
        into.attr["shape"].shape.unknown_rank = True
        out = meta_graph.graph_def.node.add(name=f"the_{name}", op="Identity", input=[name])
        out.attr["T"].type = dtype
        for tensors, tensor in ((signature.inputs[name], into.name), (signature.outputs[out.name], out.name)):
            tensors.name, tensors.dtype, tensors.tensor_shape.unknown_rank = f"{tensor}:0", dtype, True
    for name, value in (defaults or {}).items():
        fill_proto(signature.defaults[name], value)
    directory.mkdir(parents=True)
    (directory / "saved_model.pb").write_bytes(saved.SerializeToString())


def write_json_types(directory: Path) -> None:
    """Write one with the types that differ in JSON."""
    types = {"decimal": "FLOAT", "whole": "INT64", "truth": "BOOL", "text": "STRING", "some_bytes": "STRING"}
    write_identity(directory, **{name: types_pb2.DataType.Value(f"DT_{dtype}") for name, dtype in types.items()})


def write_defaults(directory: Path) -> None:
    """Write one with an input `x`, which has no default, and `more`, which has: [7]."""
    write_identity(directory, {"more": np.array([7.0], np.float32)}, x=types_pb2.DT_FLOAT, more=types_pb2.DT_FLOAT)
