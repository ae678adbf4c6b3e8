"""A client of TensorFlow Serving: its ModelService, and Predict over gRPC and REST.

https://github.com/tensorflow/serving/tree/master/tensorflow_serving/apis, https://www.tensorflow.org/tfx/serving/api_rest
"""

import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import grpc
import httpx
import numpy as np
import orjson

from serving.server import START, Outputs, ServerError
from serving.tfserving.protos import (
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

if TYPE_CHECKING:
    from serving.requests import Batch, Requests

PREDICT = "/tensorflow.serving.PredictionService/Predict"
STATUS_SECONDS = 30.0
PREDICT_SECONDS = 30.0
RELOAD_SECONDS = 60.0  # the server loads models meanwhile

CHANNEL = (
    ("grpc.enable_http_proxy", 0),
    ("grpc.max_send_message_length", -1),
    ("grpc.max_receive_message_length", -1),
    ("grpc.initial_reconnect_backoff_ms", 100),  # a server that was started again is found at once
    ("grpc.max_reconnect_backoff_ms", 500),
)


@dataclass(frozen=True)
class Status:
    """Where a version is in its life: `ended`, or `available`, or between; `error` says why it has ended, if it failed to load."""

    available: bool
    ended: bool
    error: str


class Client:
    """Speaks to one server.

    Raises, from every method:
        ServerError: the server does not answer in time, or refuses; the text says what was asked, and what the server says.
    """

    def __init__(self, grpc_address: str, url: str) -> None:
        self._grpc_address = grpc_address
        self._rest_url = f"{url}/v1/models"
        # No proxy between our own processes, and no TLS, whose set-up takes longer than a request.
        self._http = httpx.Client(timeout=PREDICT_SECONDS, trust_env=False, verify=False)
        channel = grpc.insecure_channel(self._grpc_address, CHANNEL)
        self._models = ModelServiceStub(channel)
        self._predictions = PredictionServiceStub(channel)

    def statuses(self, name: str) -> dict[int, Status]:
        """Every version that the server knows of a model, those that were unloaded too; none of a model it does not know."""
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
        """The version that a label of a model stands for."""
        request = GetModelMetadataRequest(model_spec=ModelSpec(name=name, version_label=label), metadata_field=["signature_def"])
        try:
            return self._predictions.GetModelMetadata(request, timeout=STATUS_SECONDS).model_spec.version.value
        except grpc.RpcError as error:
            if error.code() in (grpc.StatusCode.NOT_FOUND, grpc.StatusCode.INVALID_ARGUMENT):
                return None
            raise self._refused(f"what {label} is of {name}", error) from error

    def reload(self, config: ModelServerConfig) -> None:
        """Have the server load what the configuration names, and unload all else. It may answer before that is done."""
        try:
            status = self._models.HandleReloadConfigRequest(ReloadConfigRequest(config=config), timeout=RELOAD_SECONDS).status
        except grpc.RpcError as error:
            raise self._refused("another configuration", error) from error
        if status.error_code:
            raise ServerError(f"tfserving at {self._grpc_address} refuses another configuration: {status.error_message}")

    def predict_rest(self, name: str, number: int | None, images: np.ndarray) -> Outputs:
        """Ask over REST, in the column format. `images`: float32 (N,28,28,1)."""
        url = self._predict_url(name, number)
        body = orjson.dumps({"inputs": np.ascontiguousarray(images)}, option=orjson.OPT_SERIALIZE_NUMPY)
        try:
            response = self._http.post(url, content=body, headers={"Content-Type": "application/json"})
        except httpx.TransportError as error:
            raise ServerError(f"{url} does not answer ({error or type(error).__name__}): {START}", True) from error
        try:
            answer = json.loads(response.content)  # NaN and Infinity are what TensorFlow Serving writes, and are no JSON for orjson
        except ValueError as error:
            raise ServerError(f"{url} answers {response.status_code} and no JSON: {response.text[:200]!r}; what listens there?") from error
        if response.status_code != 200 or "outputs" not in answer:
            raise ServerError(f"{url} answers {response.status_code}: {answer.get('error', answer)}", response.status_code == 503)
        outputs = answer["outputs"] if isinstance(answer["outputs"], dict) else {"outputs": answer["outputs"]}  # of one, bare
        return {output: np.asarray(values, np.float32) for output, values in outputs.items()}

    def predict_grpc(self, name: str, number: int | None, images: np.ndarray) -> Outputs:
        """Ask over gRPC. `images`: float32 (N,28,28,1)."""
        request = _predict_request(name, number, images)
        asked = name if number is None else f"{name} version {number}"
        try:
            response = self._predictions.Predict(request, timeout=PREDICT_SECONDS)
        except grpc.RpcError as error:
            raise self._refused(f"a prediction of {asked}", error) from error
        for output, tensor in response.outputs.items():
            if tensor.dtype != DT_FLOAT:
                raise ServerError(f"{asked} answers {output} as {DataType.Name(tensor.dtype)}, not as DT_FLOAT; export it again")
        return {output: from_tensor(tensor) for output, tensor in response.outputs.items()}

    def rest_requests(self, name: str, number: int | None, batches: "Sequence[Batch]") -> "Requests":
        """Predict over REST as bytes, in the row format."""
        from serving.requests import Rest

        bodies = [orjson.dumps({"instances": batch.images.tolist()}) for batch in batches]
        return Rest(bodies, [batch.labels for batch in batches], _rest_labels, self._predict_url(name, number), "application/json", {})

    def grpc_requests(self, name: str, number: int | None, batches: "Sequence[Batch]") -> "Requests":
        """Predict over gRPC as bytes."""
        from serving.requests import Grpc

        messages = [_predict_request(name, number, batch.images).SerializeToString() for batch in batches]
        return Grpc(messages, [batch.labels for batch in batches], _grpc_labels, self._grpc_address, PREDICT, {})

    def _predict_url(self, name: str, number: int | None) -> str:
        return f"{self._rest_url}/{name}{'' if number is None else f'/versions/{number}'}:predict"

    def _refused(self, asked: str, error: grpc.RpcError) -> ServerError:
        code, details = error.code(), error.details()
        if code in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED):
            answer, later = f"does not answer ({details}): {START}", True
        else:
            answer, later = f"answers {code.name}: {details}", False
        return ServerError(f"tfserving at {self._grpc_address} was asked for {asked} and {answer}", later)


def _predict_request(name: str, number: int | None, images: np.ndarray) -> PredictRequest:
    request = PredictRequest(model_spec=ModelSpec(name=name, signature_name="serving_default"))
    if number is not None:
        request.model_spec.version.value = number
    request.inputs["image"].CopyFrom(to_tensor(images))
    return request


def _rest_labels(answer: bytes) -> list[int]:
    return [int(np.argmax(prediction["logits"])) for prediction in json.loads(answer)["predictions"]]


def _grpc_labels(answer: bytes) -> list[int]:
    return from_tensor(PredictResponse.FromString(answer).outputs["logits"]).argmax(axis=1).tolist()


def to_tensor(array: np.ndarray) -> TensorProto:
    """A float32 array as a message."""
    tensor = TensorProto(dtype=DT_FLOAT, tensor_content=array.astype("<f4").tobytes())
    for size in array.shape:
        tensor.tensor_shape.dim.add(size=size)
    return tensor


def from_tensor(tensor: TensorProto) -> np.ndarray:
    """A message as a float32 array, in whichever way the server wrote it."""
    shape = [dim.size for dim in tensor.tensor_shape.dim]
    if tensor.tensor_content:
        return np.frombuffer(tensor.tensor_content, "<f4").reshape(shape)
    values = np.array(tensor.float_val, np.float32)
    return np.pad(values, (0, math.prod(shape) - values.size), "edge").reshape(shape)  # the last value stands for all that are not there
