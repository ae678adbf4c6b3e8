"""Files of LiteRT: what is read of those that other tools write, and what is asked of a model."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flatbuffers
import grpc
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from flatbuffers import flexbuffers

from serving.tfserving_protos import messages_alone

with messages_alone():
    from tensorflow.core.protobuf import meta_graph_pb2

    from serving.tfserving_embedded.runtime.lite import FILE, LiteModel
    from serving.tfserving_embedded.serving_error import ServingError

Changed = Callable[..., LiteModel]
X = np.array([[1.0, 2.0]], np.float32)


@pytest.fixture
def changed(models: Path, tmp_path: Path) -> Changed:
    """Loads the model with changes made to its file: it has an input x, which is declared as rows of two, and the outputs x + 2 and 2x."""

    def load(change: Callable[[Any], None]) -> LiteModel:
        content = (models / "lite" / "1" / FILE).read_bytes()
        model = schema.ModelT.InitFromPackedBuf(content, 0)
        change(model)
        builder = flatbuffers.Builder()
        builder.Finish(model.Pack(builder), b"TFL3")
        (tmp_path / FILE).write_bytes(builder.Output())
        return LiteModel(tmp_path / FILE, 1)

    return load


def fix_shape(model: Any) -> None:
    for tensor in model.subgraphs[0].tensors:
        tensor.shapeSignature = None


def forget_shape(model: Any) -> None:
    fix_shape(model)
    graph = model.subgraphs[0]
    graph.tensors[graph.inputs[0]].shape = np.array([], np.int32)


def remove_signatures(model: Any) -> None:
    model.signatureDefs = []


def store_signature(name: str) -> Callable[[Any], None]:
    """Write a signature into the metadata, as TensorFlow Lite's tools did for TensorFlow Serving."""

    def store(model: Any) -> None:
        graph = model.subgraphs[0]
        signature = meta_graph_pb2.SignatureDef()
        signature.inputs["in"].name = name
        signature.outputs["out"].name = graph.tensors[graph.outputs[0]].name.decode()
        builder = flexbuffers.Builder()
        with builder.Map():
            builder.String("mine", signature.SerializeToString().decode())
        model.buffers.append(schema.BufferT())
        model.buffers[-1].data = np.frombuffer(bytes(builder.Finish()), np.uint8)
        metadata = schema.MetadataT()
        metadata.name, metadata.buffer = b"signature_defs_metadata", len(model.buffers) - 1
        model.metadata = [*(model.metadata or []), metadata]

    return store


def make_custom(model: Any) -> None:
    for code in model.operatorCodes:
        code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
        code.customCode = b"Frobnicate"


@pytest.mark.parametrize("shape", [(1, 2), (5, 2)])
def test_a_model_is_resized_for_the_rows_that_it_is_given(changed: Changed, shape: tuple[int, ...]) -> None:
    model = changed(fix_shape)
    assert [dim.size for dim in model.signatures["serving_default"].inputs["x"].tensor_shape.dim] == [1, 2]
    (y,) = model.run("serving_default", {"x": np.ones(shape, np.float32)}, ["y"])
    np.testing.assert_array_equal(y, np.full(shape, 3.0))


@pytest.mark.parametrize("change", [lambda _: None, fix_shape], ids=["open rows", "one row"])
@pytest.mark.parametrize("shape", [(1, 3), (2,), (1,), (), (2, 3, 4), (1,) * 12])
def test_a_shape_that_is_not_declared_is_refused(changed: Changed, change: Callable[[Any], None], shape: tuple[int, ...]) -> None:
    model = changed(change)
    refused = re.escape(f"Cannot feed value of shape {list(shape)} for input x, which has shape [-1, 2]")
    with pytest.raises(ServingError, match=refused) as error:
        model.run("serving_default", {"x": np.ones(shape, np.float32)}, ["y"])
    assert error.value.code == grpc.StatusCode.INVALID_ARGUMENT
    np.testing.assert_array_equal(model.run("serving_default", {"x": X}, ["y"])[0], X + 2)


def test_an_empty_batch_could_end_the_process_and_is_refused(changed: Changed) -> None:
    model = changed(lambda _: None)
    with pytest.raises(ServingError, match=re.escape("Cannot feed value of shape [0, 2] for input x: it is empty")):
        model.run("serving_default", {"x": X[:0]}, ["y"])
    np.testing.assert_array_equal(model.run("serving_default", {"x": X}, ["y"])[0], X + 2)


def test_without_a_declared_shape_only_what_could_end_the_process_is_refused(changed: Changed) -> None:
    model = changed(forget_shape)
    np.testing.assert_array_equal(model.run("serving_default", {"x": np.ones(3, np.float32)}, ["y"])[0], np.full(3, 3.0))
    for shape in ((1,) * 12, (0, 2)):
        with pytest.raises(ServingError, match=re.escape(f"Cannot feed value of shape {list(shape)} for input x: it is empty or has more")):
            model.run("serving_default", {"x": np.ones(shape, np.float32)}, ["y"])


def test_without_signatures_tensors_have_their_own_names(changed: Changed) -> None:
    model = changed(remove_signatures)
    (signature,) = model.signatures.values()
    assert list(signature.inputs) == ["serving_default_x"]
    outputs = sorted(signature.outputs)
    found = model.run("serving_default", {"serving_default_x": X}, outputs)
    assert sorted(map(np.ndarray.tolist, found)) == [[[2.0, 4.0]], [[3.0, 4.0]]]


@pytest.mark.parametrize("name", ["serving_default_x:0", "serving_default_x"])
def test_signatures_in_the_metadata_come_first(changed: Changed, name: str) -> None:
    def older(model: Any) -> None:
        store_signature("serving_default_x:0")(model)
        graph = model.subgraphs[0]
        graph.tensors[graph.inputs[0]].name = name.encode()

    model = changed(older)
    assert list(model.signatures) == ["mine"]
    (out,) = model.run("mine", {"in": X}, ["out"])
    assert out.tolist() in ([[2.0, 4.0]], [[3.0, 4.0]])


def test_a_signature_of_a_tensor_that_is_not_there(changed: Changed) -> None:
    with pytest.raises(ServingError, match=r"found y:0, expected one of \['serving_default_x:0'\]"):
        changed(store_signature("y:0"))


def test_a_custom_operation_is_named(changed: Changed) -> None:
    with pytest.raises(ServingError, match=r"/model.tflite: Encountered unresolved custom op: Frobnicate\. See instructions"):
        changed(make_custom)
