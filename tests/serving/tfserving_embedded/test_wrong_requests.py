"""What a client can get wrong over gRPC, and what it is told."""

import re
from collections.abc import Callable

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
    from tensorflow_serving.apis import (
        classification_pb2,
        get_model_metadata_pb2,
        get_model_status_pb2,
        inference_pb2,
        input_pb2,
        model_management_pb2,
        predict_pb2,
        regression_pb2,
    )

REGRESS = "tensorflow/serving/regress"

X = np.array([2.0], np.float32)
ROWS = np.ones((1, 2), np.float32)


def spec_request(kind: Callable[..., object], name: str = "default", signature_name: str = "", **fields: object) -> object:
    request = kind(**fields)
    request.model_spec.name, request.model_spec.signature_name = name, signature_name  # type: ignore[attr-defined]
    return request


WRONG = {
    "no model": ("Predict", predict_request("", {"x": X}), "INVALID_ARGUMENT", "ModelSpec has no name specified."),
    "model": ("Predict", predict_request("x", {"x": X}), "NOT_FOUND", "Servable not found for request: Latest(x)"),
    "version": (
        "Predict",
        predict_request("default", {"x": X}, version=7),
        "NOT_FOUND",
        "Servable not found for request: Specific(default, 7)",
    ),
    "label": ("Predict", predict_request("default", {"x": X}, label="a"), "INVALID_ARGUMENT", "Unrecognized servable version label: a"),
    "signature": ("Predict", predict_request("default", {"x": X}, "a"), "FAILED_PRECONDITION", 'Serving signature key "a" not found.'),
    "missing input": (
        "Predict",
        predict_request("default", {}),
        "INVALID_ARGUMENT",
        "input size does not match signature: 0!=1 len({}) != len({x}). Sent extra: {}. Missing but required: {x}.",
    ),
    "extra input": (
        "Predict",
        predict_request("default", {"x": X, "z": X}),
        "INVALID_ARGUMENT",
        "input size does not match signature: 2!=1 len({x,z}) != len({x}). Sent extra: {z}. Missing but required: {}.",
    ),
    "output": (
        "Predict",
        predict_request("default", {"x": X}, output_filter=("z",)),
        "INVALID_ARGUMENT",
        "output tensor alias not found in signature: z Outputs expected to be in the set {y}.",
    ),
    "output twice": (
        "Predict",
        predict_request("default", {"x": X}, output_filter=("y", "y")),
        "INVALID_ARGUMENT",
        "duplicate output tensor alias: y",
    ),
    "type": (
        "Predict",
        predict_request("batch", {"x": ROWS.astype(int)}),
        "INVALID_ARGUMENT",
        "Expects arg[0] to be float but int64 is provided",
    ),
    "string": (
        "Predict",
        predict_request("batch", {"x": np.array([[b"1", b"2"]], object)}),
        "INVALID_ARGUMENT",
        "Expects arg[0] to be float but string is provided",
    ),
    "rank": (
        "Predict",
        predict_request("batch", {"x": X}),
        "INVALID_ARGUMENT",
        "Cannot feed value of shape [1] for input x, which has shape [-1, 2]",
    ),
    "empty": (
        "Predict",
        predict_request("batch", {"x": ROWS[:0]}),
        "INVALID_ARGUMENT",
        "Cannot feed value of shape [0, 2] for input x: it is empty",
    ),
    "refused by the graph": ("Predict", predict_request("batch", {"x": ROWS * 5000}), "INVALID_ARGUMENT", "a row is too large"),
    "no examples": (
        "Classify",
        spec_request(classification_pb2.ClassificationRequest, signature_name="classify_x_to_y"),
        "INVALID_ARGUMENT",
        "Input is empty.",
    ),
    "nothing to classify": (
        "Classify",
        spec_request(classification_pb2.ClassificationRequest, signature_name="a", input=examples(1)),
        "INVALID_ARGUMENT",
        "No signature was found with the name: a",
    ),
    "not a classifier": (
        "Classify",
        spec_request(classification_pb2.ClassificationRequest, input=examples(1)),
        "INVALID_ARGUMENT",
        "No classification inputs found in SignatureDef",
    ),
    "not a regressor": (
        "Regress",
        spec_request(regression_pb2.RegressionRequest, signature_name="classify_x_to_y", input=examples(1)),
        "INVALID_ARGUMENT",
        "No regression outputs found in SignatureDef",
    ),
    "not a classifier either": (
        "Classify",
        spec_request(classification_pb2.ClassificationRequest, signature_name="regress_x_to_y", input=examples(1)),
        "INVALID_ARGUMENT",
        'Expected classification signature outputs to contain at least one of "classes" or "scores".',
    ),
    "example without the feature": (
        "Regress",
        spec_request(
            regression_pb2.RegressionRequest,
            signature_name="regress_x_to_y",
            input=input_pb2.Input(example_list=input_pb2.ExampleList(examples=[{}])),
        ),
        "INVALID_ARGUMENT",
        "Feature: x (data type: float) is required but could not be found",
    ),
    "no tasks": ("MultiInference", inference_pb2.MultiInferenceRequest(), "INVALID_ARGUMENT", "Found ModelSpec with an empty model name."),
    "unknown task": ("MultiInference", multi_inference(a=REGRESS), "INVALID_ARGUMENT", "Requested signature not found in model graph: a"),
    "unknown method": (
        "MultiInference",
        multi_inference(regress_x_to_y="a"),
        "UNIMPLEMENTED",
        "Unsupported signature method_name: a",
    ),
    "no metadata field": (
        "GetModelMetadata",
        spec_request(get_model_metadata_pb2.GetModelMetadataRequest),
        "INVALID_ARGUMENT",
        "GetModelMetadataRequest must specify at least one metadata_field",
    ),
    "metadata field": (
        "GetModelMetadata",
        spec_request(get_model_metadata_pb2.GetModelMetadataRequest, metadata_field=["a"]),
        "INVALID_ARGUMENT",
        "Metadata field a is not supported",
    ),
    "metadata of no model": ("GetModelMetadata", get_model_metadata_pb2.GetModelMetadataRequest(), "INVALID_ARGUMENT", "Missing ModelSpec"),
    "status of no model": ("GetModelStatus", get_model_status_pb2.GetModelStatusRequest(), "INVALID_ARGUMENT", "Missing ModelSpec"),
    "status of a model": (
        "GetModelStatus",
        spec_request(get_model_status_pb2.GetModelStatusRequest, "x"),
        "NOT_FOUND",
        "Could not find any versions of model x",
    ),
    "empty configuration": (
        "HandleReloadConfigRequest",
        model_management_pb2.ReloadConfigRequest(),
        "INVALID_ARGUMENT",
        "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently supported",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_requests(server: EmbeddedServer, case: str) -> None:
    method, request, code, text = WRONG[case]
    call = getattr(server.prediction, method, None) or getattr(server.models, method)
    with pytest.raises(grpc.RpcError) as error:
        call(request, TIMEOUT)
    assert (error.value.code().name, text in error.value.details()) == (code, True), error.value.details()
    assert server.half() == (123, 3.0)


def test_status_of_a_version(server: EmbeddedServer) -> None:
    request = get_model_status_pb2.GetModelStatusRequest()
    request.model_spec.name, request.model_spec.version.value = "default", 7
    with pytest.raises(grpc.RpcError, match=re.escape("Could not find version 7 of model default")):
        server.models.GetModelStatus(request, TIMEOUT)


@pytest.mark.parametrize(
    ("size", "values", "found"),
    [(-1, 1, "shape [-1]"), (2, 3, "3 values for 2 elements"), (2**40, 1, "1 values for 1099511627776 elements"), (2, 0, None)],
)
def test_tensors_that_are_none(server: EmbeddedServer, size: int, values: int, found: str | None) -> None:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "default"
    request.inputs["x"].dtype = 1
    request.inputs["x"].tensor_shape.dim.add(size=size)
    request.inputs["x"].float_val.extend([2.0] * values)
    if found is None:  # no values are zeros
        assert list(server.prediction.Predict(request, TIMEOUT).outputs["y"].float_val) == [2.0, 2.0]
        return
    with pytest.raises(grpc.RpcError) as error:
        server.prediction.Predict(request, TIMEOUT)
    assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
    assert error.value.details().startswith("tensor parsing error: x (")
    assert found in error.value.details()


def test_a_message_of_100_megabytes(server: EmbeddedServer) -> None:
    request = predict_pb2.PredictRequest()
    request.model_spec.name = "batch"
    request.inputs["x"].dtype = 1
    request.inputs["x"].tensor_shape.dim.add(size=25 * 10**6)
    request.inputs["x"].tensor_content = bytes(10**8)
    with pytest.raises(grpc.RpcError, match="Cannot feed value of shape"):
        server.prediction.Predict(request, TIMEOUT)
    assert server.half() == (123, 3.0)
