"""A client of TensorFlow Serving: ModelService, and Predict over gRPC and REST.

https://github.com/tensorflow/serving/tree/master/tensorflow_serving/apis, https://www.tensorflow.org/tfx/serving/api_rest
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING

import grpc
import httpx
import numpy as np
import orjson

from serving.backends.base import START, Outputs, ServerError
from serving.tfserving_protos import (
    DT_FLOAT,
    DataType,
    GetModelMetadataRequest,
    GetModelStatusRequest,
    ModelServerConfig,
    ModelServiceStub,
    ModelSpec,
    ModelVersionStatus,
    PredictionServiceStub,
    PredictRequest,
    PredictResponse,
    ReloadConfigRequest,
    TensorProto,
)
from windtunnel.golden import labels

if TYPE_CHECKING:
    from serving.load.requests import Batch, Requests
    from windtunnel.model import Model

PREDICT = "/tensorflow.serving.PredictionService/Predict"
STATUS_SECONDS = 30.0
PREDICT_SECONDS = 30.0
RELOAD_SECONDS = 60.0  # the server loads models during this call

CHANNEL = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),  # reconnect at once to a server that was restarted
    ("grpc.max_reconnect_backoff_ms", 500),
)


@dataclass(frozen=True)
class Status:
    """The state of a version: `ended`, `available`, or neither (in between). `error` says why it ended, if it failed to load."""

    available: bool
    ended: bool
    error: str


class Client:
    """A client of one server.

    Every method raises:
        ServerError: the server does not answer in time, or refuses; the message contains the request and the server's answer.
    """

    def __init__(self, grpc_address: str, url: str) -> None:
        self._grpc_address = grpc_address
        self._rest_url = f"{url}/v1/models"
        # No proxy between our own processes, and no TLS context: creating one takes longer than a request.
        self._http = httpx.Client(timeout=PREDICT_SECONDS, trust_env=False, verify=False)
        channel = grpc.insecure_channel(self._grpc_address, CHANNEL)
        self._models = ModelServiceStub(channel)
        self._predictions = PredictionServiceStub(channel)

    def statuses(self, name: str) -> dict[int, Status]:
        """Return all versions of a model that the server knows, including unloaded ones; empty for an unknown model."""
        try:
            response = self._models.GetModelStatus(GetModelStatusRequest(model_spec=ModelSpec(name=name)), timeout=STATUS_SECONDS)
        except grpc.RpcError as error:
            if error.code() == grpc.StatusCode.NOT_FOUND:
                return {}
            raise self._refused(f"the status of {name}", error) from error
        return {
            found.version: Status(
                found.state == ModelVersionStatus.AVAILABLE,
                found.state == ModelVersionStatus.END,
                found.status.error_message if found.state == ModelVersionStatus.END else "",
            )
            for found in response.model_version_status
        }

    def labelled(self, name: str, label: str) -> int | None:
        """Return the version that a model's label points to."""
        request = GetModelMetadataRequest(model_spec=ModelSpec(name=name, version_label=label), metadata_field=["signature_def"])
        try:
            return self._predictions.GetModelMetadata(request, timeout=STATUS_SECONDS).model_spec.version.value
        except grpc.RpcError as error:
            if error.code() in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT):
                return None
            raise self._refused(f"the version labelled {label} of {name}", error) from error

    def reload(self, config: ModelServerConfig) -> None:
        """Make the server load what the configuration names and unload everything else. It may answer before it has finished."""
        try:
            status = self._models.HandleReloadConfigRequest(ReloadConfigRequest(config=config), timeout=RELOAD_SECONDS).status
        except grpc.RpcError as error:
            raise self._refused("a change of its configuration", error) from error
        if status.error_code:
            raise ServerError(f"tfserving at {self._grpc_address} rejects the new configuration: {status.error_message}")

    def predict_rest(self, name: str, number: int | None, samples: np.ndarray, model: "Model") -> Outputs:
        """Predict over REST, in the column format. `samples`: float32 (N, shape)."""
        url = self._predict_url(name, number)
        body = orjson.dumps({"inputs": np.ascontiguousarray(samples)}, option=orjson.OPT_SERIALIZE_NUMPY)
        try:
            response = self._http.post(url, content=body, headers={"Content-Type": "application/json"})
        except httpx.TransportError as error:
            raise ServerError(f"{url} does not answer ({error or type(error).__name__}). {START}", True) from error
        try:
            answer = json.loads(response.content)  # TensorFlow Serving writes NaN and Infinity, which orjson rejects
        except ValueError as error:
            found = f"found {response.status_code} {response.text[:200]!r}"
            raise ServerError(f"{url} does not answer with JSON: {found}. Check which program listens there") from error
        if response.status_code != 200 or "outputs" not in answer:
            raise ServerError(f"{url} answers {response.status_code}: {answer.get('error', answer)}", response.status_code == 503)
        bare = model.outputs[0].name if len(model.outputs) == 1 else "outputs"  # the server does not name a single output
        outputs = answer["outputs"] if isinstance(answer["outputs"], dict) else {bare: answer["outputs"]}
        return {output: np.asarray(values, np.float32) for output, values in outputs.items()}

    def predict_grpc(self, name: str, number: int | None, samples: np.ndarray, model: "Model") -> Outputs:
        """Predict over gRPC. `samples`: float32 (N, shape)."""
        request = _predict_request(name, number, samples, model)
        asked = name if number is None else f"{name} version {number}"
        try:
            response = self._predictions.Predict(request, timeout=PREDICT_SECONDS)
        except grpc.RpcError as error:
            raise self._refused(f"a prediction of {asked}", error) from error
        for output, tensor in response.outputs.items():
            if tensor.dtype != DT_FLOAT:
                raise ServerError(f"{asked} answers {output} as {DataType.Name(tensor.dtype)}, expected DT_FLOAT. Export it again")
        return {output: from_tensor(tensor) for output, tensor in response.outputs.items()}

    def rest_requests(self, name: str, number: int | None, batches: "Sequence[Batch]", model: "Model") -> "Requests":
        """Return Predict requests over REST, serialised, in the row format."""
        from serving.load.requests import Rest

        bodies = [orjson.dumps({"instances": batch.images.tolist()}) for batch in batches]
        read = partial(_rest_labels, model.outputs[0].name)
        return Rest(bodies, [batch.labels for batch in batches], read, self._predict_url(name, number), "application/json", {})

    def grpc_requests(self, name: str, number: int | None, batches: "Sequence[Batch]", model: "Model") -> "Requests":
        """Return Predict requests over gRPC, serialised."""
        from serving.load.requests import Grpc

        messages = [_predict_request(name, number, batch.images, model).SerializeToString() for batch in batches]
        read = partial(_grpc_labels, model.outputs[0].name)
        return Grpc(messages, [batch.labels for batch in batches], read, self._grpc_address, PREDICT, {})

    def _predict_url(self, name: str, number: int | None) -> str:
        return f"{self._rest_url}/{name}{'' if number is None else f'/versions/{number}'}:predict"

    def _refused(self, asked: str, error: grpc.RpcError) -> ServerError:
        code, details = error.code(), error.details()
        if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
            answer, later = f"does not answer ({details}). {START}", True
        else:
            answer, later = f"answers {code.name}: {details}", False
        return ServerError(f"tfserving at {self._grpc_address} was asked for {asked} and {answer}", later)


def _predict_request(name: str, number: int | None, samples: np.ndarray, model: "Model") -> PredictRequest:
    request = PredictRequest(model_spec=ModelSpec(name=name, signature_name="serving_default"))
    if number is not None:
        request.model_spec.version.value = number
    request.inputs[model.input.name].CopyFrom(to_tensor(samples))
    return request


def _rest_labels(first: str, answer: bytes) -> list[int]:
    """Read the labels from the output `first` of an answer in the row format, in which a single output has no name."""
    return [int(np.argmax(row[first] if isinstance(row, dict) else row)) for row in json.loads(answer)["predictions"]]


def _grpc_labels(first: str, answer: bytes) -> list[int]:
    return labels(from_tensor(PredictResponse.FromString(answer).outputs[first])).tolist()


def to_tensor(array: np.ndarray) -> TensorProto:
    """Convert a float32 array to a message."""
    tensor = TensorProto(dtype=DT_FLOAT, tensor_content=array.astype("<f4").tobytes())
    for size in array.shape:
        tensor.tensor_shape.dim.add(size=size)
    return tensor


def from_tensor(tensor: TensorProto) -> np.ndarray:
    """Convert a message to a float32 array, whichever of the possible encodings the server used."""
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    if tensor.tensor_content:
        return np.frombuffer(tensor.tensor_content, "<f4").reshape(shape)
    values = np.array(tensor.float_val, np.float32)
    return np.pad(values, (0, math.prod(shape) - values.size), "edge").reshape(shape)  # the last value stands for all omitted ones
