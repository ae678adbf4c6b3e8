"""The cases of TensorFlow Serving's own tensorflow_model_server_test.py that are about gRPC."""

import re
from collections.abc import Callable
from pathlib import Path

import grpc
import numpy as np
import pytest

from tests.serving.tfserving_embedded.embedded_server import (
    TIMEOUT,
    EmbeddedServer,
    examples,
    messages_alone,
    multi_inference,
    predict_request,
)

with messages_alone():
    from tensorflow.core.framework import tensor_pb2
    from tensorflow_serving.apis import (
        classification_pb2,
        get_model_metadata_pb2,
        get_model_status_pb2,
        predict_pb2,
        regression_pb2,
    )

    from serving.tfserving_embedded.runtime.tensors import fill_proto, to_array

CLASSIFY, REGRESS = "tensorflow/serving/classify", "tensorflow/serving/regress"


def test_predict(server: EmbeddedServer) -> None:
    request = predict_request("default", {"x": np.array([2.0], np.float32)}, output_filter=("y",))
    response = server.prediction.Predict(request, TIMEOUT)
    assert list(response.outputs["y"].float_val) == [3.0]  # not tensor_content, which clients written for the real server do not read
    assert (response.model_spec.name, response.model_spec.version.value) == ("default", 123)
    assert response.model_spec.signature_name == "serving_default"
    assert server.half("half_plus_three") == (123, 4.0)


def test_predict_understands_tensor_content(server: EmbeddedServer) -> None:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "default"
    proto = request.inputs["x"]
    proto.dtype = 1
    proto.tensor_shape.dim.add(size=3)
    proto.tensor_content = np.array([2, 4, 6], np.float32).tobytes()
    assert list(server.prediction.Predict(request, TIMEOUT).outputs["y"].float_val) == [3.0, 4.0, 5.0]
    proto.ClearField("tensor_content")
    proto.float_val.append(2)  # one value fills the shape
    assert list(server.prediction.Predict(request, TIMEOUT).outputs["y"].float_val) == [3.0, 3.0, 3.0]


def test_every_type_comes_back(server: EmbeddedServer) -> None:
    from ml_dtypes import bfloat16

    numbers = ("float32", "float64", "int32", "uint8", "int16", "int8", "int64", "uint16", "float16", "uint32", "uint64")
    names = [*numbers, "complex64", "complex128", "bool", "bfloat16"]
    values = {name: np.array([[0, 1, 100]]).astype(bfloat16 if name == "bfloat16" else name) for name in names}
    values |= {"string": np.array([b"", "é".encode(), bytes(range(256)) * 9], object), "float32": np.array(np.nan, np.float32)}
    _, outputs = server.predict("mirror", values)
    assert outputs.keys() == values.keys()
    for name, value in values.items():
        assert outputs[name].dtype == value.dtype
        np.testing.assert_array_equal(outputs[name], value)


@pytest.mark.parametrize("dtype", [np.float32, np.int8, np.float16, np.complex64, np.bool_])
def test_tensors_as_bytes(dtype: type) -> None:
    array, proto = np.array([[0, 1], [1, 0]]).astype(dtype), tensor_pb2.TensorProto()
    fill_proto(proto, array.T, as_content=True)
    assert proto.tensor_content == array.T.tobytes()
    np.testing.assert_array_equal(to_array(proto, "x"), array.T, strict=True)


def test_strings_are_no_bytes() -> None:
    proto = tensor_pb2.TensorProto()
    fill_proto(proto, np.array([b"a", b""], object), as_content=True)
    assert (proto.tensor_content, list(proto.string_val)) == (b"", [b"a", b""])


def test_signatures_are_chosen_by_name(server: EmbeddedServer) -> None:
    inputs = {"x": np.array([2.0, 3.0], np.float32)}
    assert server.predict("two_signatures", inputs)[1] == {"y": 1.0}
    assert server.predict("two_signatures", inputs, "two")[1] == {"y": 2.0, "z": 5.0}
    assert server.predict("two_signatures", inputs, "two", ("z",))[1] == {"z": 5.0}


def test_inputs_that_are_left_out_have_their_defaults(server: EmbeddedServer) -> None:
    x, more = np.array([2.0, 3.0], np.float32), np.array([5.0], np.float32)
    for inputs, expected in (({"x": x}, 7.0), ({"x": x, "more": more}, 5.0)):
        _, outputs = server.predict("defaults", inputs)
        assert (outputs["the_x"].tolist(), outputs["the_more"].tolist()) == ([2.0, 3.0], [expected])
    not_found = "Signature input alias: x(feed name: x:0) not found in request and no default value provided. "
    not_found += "Inputs expected to be in the request {more}, or default input alias set: more"
    for inputs, error in (
        ({"more": more}, not_found),
        ({"x": x, "y": x}, "Inputs contains invalid name. Used request inputs: x, request input: x,y"),
        ({"x": x, "y": x, "more": more}, "Sent extra: {y}. Missing but required: {}."),
    ):
        with pytest.raises(grpc.RpcError, match=re.escape(error)):
            server.predict("defaults", inputs)


def test_any_shape_where_no_operation_minds(server: EmbeddedServer) -> None:
    for shape in ((3,), (), (2, 1), (2, 3, 4), (0,), (0, 2), (1,) * 12):
        _, outputs = server.predict("swish", {"x": np.zeros(shape, np.float32)})
        np.testing.assert_array_equal(outputs["y"], np.zeros(shape))
    with pytest.raises(grpc.RpcError, match=re.escape("1] for input x: it has more than 12 dimensions")):
        server.predict("swish", {"x": np.zeros((1,) * 13, np.float32)})  # it would end the process
    assert server.half() == (123, 3.0)


def test_predict_over_a_unix_socket(server: EmbeddedServer) -> None:
    with grpc.insecure_channel(f"unix:{server.directory / 'grpc.sock'}") as channel:
        call = channel.unary_unary(
            "/tensorflow.serving.PredictionService/Predict",
            predict_pb2.PredictRequest.SerializeToString,
            predict_pb2.PredictResponse.FromString,
        )
        assert call(predict_request("default", {"x": np.array([2.0], np.float32)}), TIMEOUT).outputs["y"].float_val == [3.0]


def test_classify(server: EmbeddedServer) -> None:
    request = classification_pb2.ClassificationRequest(input=examples(2.0, 4.0))
    request.model_spec.name, request.model_spec.signature_name = "default", "classify_x_to_y"
    response = server.prediction.Classify(request, TIMEOUT)
    assert [[(c.label, c.score) for c in one.classes] for one in response.result.classifications] == [[("", 3.0)], [("", 4.0)]]
    assert (response.model_spec.version.value, response.model_spec.signature_name) == (123, "classify_x_to_y")


def test_regress_with_a_context(server: EmbeddedServer) -> None:
    request = regression_pb2.RegressionRequest()
    request.model_spec.name, request.model_spec.signature_name = "default", "regress_x_to_y"
    request.input.example_list_with_context.context.features.feature["x"].float_list.value.append(2.0)
    request.input.example_list_with_context.examples.add()
    response = server.prediction.Regress(request, TIMEOUT)
    assert [regression.value for regression in response.result.regressions] == [3.0]
    assert (response.model_spec.version.value, response.model_spec.signature_name) == (123, "regress_x_to_y")


def test_multi_inference(server: EmbeddedServer) -> None:
    results = server.prediction.MultiInference(multi_inference(regress_x_to_y=REGRESS, classify_x_to_y=CLASSIFY), TIMEOUT).results
    assert results[0].regression_result.regressions[0].value == 3.0
    assert results[1].classification_result.classifications[0].classes[0].score == 3.0
    assert [(r.model_spec.signature_name, r.model_spec.version.value) for r in results] == [
        ("regress_x_to_y", 123),
        ("classify_x_to_y", 123),
    ]


def test_multi_inference_of_signatures_with_a_placeholder_each(server: EmbeddedServer) -> None:
    results = server.prediction.MultiInference(multi_inference("heads", classify=CLASSIFY, regress=REGRESS), TIMEOUT).results
    assert results[0].classification_result.classifications[0].classes[0].score == 3.0
    assert results[1].regression_result.regressions[0].value == 4.0


def test_metadata(server: EmbeddedServer) -> None:
    request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
    request.model_spec.name = "default"
    response = server.prediction.GetModelMetadata(request, TIMEOUT)
    assert (response.model_spec.name, response.model_spec.version.value, list(response.metadata)) == ("default", 123, ["signature_def"])
    signatures = get_model_metadata_pb2.SignatureDefMap()
    assert response.metadata["signature_def"].Unpack(signatures)
    assert set(signatures.signature_def) == {"serving_default", "classify_x_to_y", "regress_x_to_y"}
    x = signatures.signature_def["serving_default"].inputs["x"]
    assert (x.name, x.dtype, [dim.size for dim in x.tensor_shape.dim]) == ("x:0", 1, [-1, 1])


def test_status(server: EmbeddedServer) -> None:
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name = "default"
    (status,) = server.models.GetModelStatus(request, TIMEOUT).model_version_status
    assert (status.version, status.state, status.status.error_code, status.status.error_message) == (123, 30, 0, "")


def test_exports_of_the_trainer(trained: Callable[..., Path], tmp_path: Path) -> None:
    from safetensors.numpy import load_file

    version = trained("tensorflow")
    golden = load_file(version / "golden.safetensors")
    (tmp_path / "lenet5").mkdir()
    (tmp_path / "lenet5" / "1").symlink_to(version / "saved_model")
    with EmbeddedServer(tmp_path, "--model_name=lenet5", f"--model_base_path={tmp_path / 'lenet5'}") as server:
        _, outputs = server.predict("lenet5", {"image": golden["image"]})
        np.testing.assert_allclose(outputs["probabilities"], golden["probabilities"], atol=1e-5)
        for shape in ((28, 28), (1, 28, 28), (1, 32, 32, 1), (1, 28, 28, 3), (0, 28, 28, 1)):  # the first three can end a process
            with pytest.raises(grpc.RpcError, match=f"Cannot feed value of shape {re.escape(str(list(shape)))} for input image"):
                server.predict("lenet5", {"image": np.zeros(shape, np.float32)})
        _, outputs = server.predict("lenet5", {"image": np.full((1, 28, 28, 1), np.nan, np.float32)})
        assert outputs["probabilities"].shape == (1, 10)
        assert np.isnan(outputs["probabilities"]).all(), "no pixels, no answer"
