"""TensorFlow Serving's gRPC services over the core (tensorflow_serving/apis/prediction_service.proto, model_service.proto)."""

import functools
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import grpc
from grpc_health.v1 import health, health_pb2_grpc
from tensorflow_serving.apis import (
    classification_pb2,
    get_model_metadata_pb2,
    get_model_status_pb2,
    inference_pb2,
    model_management_pb2,
    model_pb2,
    model_service_pb2_grpc,
    predict_pb2,
    prediction_service_pb2_grpc,
    regression_pb2,
)

from serving.tfserving_embedded import metrics
from serving.tfserving_embedded.core import Core, version_choice
from serving.tfserving_embedded.runtime.signatures import DEFAULT_SIGNATURE
from serving.tfserving_embedded.runtime.tensors import fill_proto, to_array
from serving.tfserving_embedded.serving_error import ServingError, invalid_argument

SIGNATURE_DEF = "signature_def"
HANDSHAKE_MILLISECONDS = 10_000  # how long a new connection may take to greet; gRPC's own limit is two minutes


@dataclass(frozen=True)
class GrpcOptions:
    """How gRPC is served; the fields are the command line's flags.

    Attributes:
        channel_arguments: additional gRPC channel arguments, by name.
        enable_healthcheck_service: serve grpc.health.v1.Health too.
        enable_serialization_as_tensor_content: answer Predict with bytes.
    """

    channel_arguments: Sequence[tuple[str, Any]] = ()
    enable_healthcheck_service: bool = False
    enable_serialization_as_tensor_content: bool = False


Method = Callable[[Any, Any, grpc.aio.ServicerContext], Awaitable[Any]]


def _aborting(method: Method) -> Method:
    """Wrap a method so that its ServingError is sent to the client."""

    @functools.wraps(method)
    async def answer(self: Any, request: Any, context: grpc.aio.ServicerContext) -> Any:
        try:
            return await method(self, request, context)
        except ServingError as error:
            await context.abort(error.code, error.message)

    return answer


def _fill_spec(spec: model_pb2.ModelSpec, name: str, version: int, signature_name: str) -> None:
    """Fill in the version that answered."""
    spec.name, spec.signature_name = name, signature_name
    spec.version.value = version


class PredictionService(prediction_service_pb2_grpc.PredictionServiceServicer):
    """Inference and metadata."""

    def __init__(self, core: Core, as_content: bool) -> None:
        self._core = core
        self._as_content = as_content

    def _counted(self, name: str, api: str) -> AbstractContextManager[None]:
        return metrics.request(name if self._core.knows(name) else "", api, "GRPC")

    @_aborting
    async def Predict(self, request: predict_pb2.PredictRequest, context: grpc.aio.ServicerContext) -> predict_pb2.PredictResponse:
        """Run a signature on tensors."""
        with self._counted(request.model_spec.name, "Predict"):
            spec = request.model_spec
            inputs = {alias: to_array(proto, alias) for alias, proto in request.inputs.items()}
            version, outputs = await self._core.predict(
                spec.name, *version_choice(spec), spec.signature_name, inputs, request.output_filter
            )
            response = predict_pb2.PredictResponse()
            _fill_spec(response.model_spec, spec.name, version, spec.signature_name or DEFAULT_SIGNATURE)
            for alias, array in outputs.items():
                fill_proto(response.outputs[alias], array, self._as_content)
            return response

    @_aborting
    async def Classify(
        self, request: classification_pb2.ClassificationRequest, context: grpc.aio.ServicerContext
    ) -> classification_pb2.ClassificationResponse:
        """Classify `tf.Example`s."""
        return await self._on_examples("Classify", request, self._core.classify, classification_pb2.ClassificationResponse)

    @_aborting
    async def Regress(
        self, request: regression_pb2.RegressionRequest, context: grpc.aio.ServicerContext
    ) -> regression_pb2.RegressionResponse:
        """Regress `tf.Example`s."""
        return await self._on_examples("Regress", request, self._core.regress, regression_pb2.RegressionResponse)

    async def _on_examples(self, api: str, request: Any, run: Callable[..., Awaitable[tuple[int, Any]]], answer: Callable[..., Any]) -> Any:
        with self._counted(request.model_spec.name, api):
            spec = request.model_spec
            version, result = await run(spec.name, *version_choice(spec), spec.signature_name, request.input)
            response = answer(result=result)
            _fill_spec(response.model_spec, spec.name, version, spec.signature_name or DEFAULT_SIGNATURE)
            return response

    @_aborting
    async def MultiInference(
        self, request: inference_pb2.MultiInferenceRequest, context: grpc.aio.ServicerContext
    ) -> inference_pb2.MultiInferenceResponse:
        """Classify and regress the same `tf.Example`s."""
        name = request.tasks[0].model_spec.name if request.tasks else ""
        with self._counted(name, "MultiInference"):
            return await self._core.multi_inference(request)

    @_aborting
    async def GetModelMetadata(
        self, request: get_model_metadata_pb2.GetModelMetadataRequest, context: grpc.aio.ServicerContext
    ) -> get_model_metadata_pb2.GetModelMetadataResponse:
        """Return a version's signatures."""
        if not request.HasField("model_spec"):
            raise invalid_argument("Missing ModelSpec")
        if not request.metadata_field:
            raise invalid_argument("GetModelMetadataRequest must specify at least one metadata_field")
        for field in request.metadata_field:
            if field != SIGNATURE_DEF:
                raise invalid_argument(f"Metadata field {field} is not supported")
        version, signatures = self._core.metadata(request.model_spec.name, *version_choice(request.model_spec))
        response = get_model_metadata_pb2.GetModelMetadataResponse()
        response.model_spec.name = request.model_spec.name
        response.model_spec.version.value = version
        response.metadata[SIGNATURE_DEF].Pack(get_model_metadata_pb2.SignatureDefMap(signature_def=signatures))
        return response


class ModelService(model_service_pb2_grpc.ModelServiceServicer):
    """States of versions, and new configurations."""

    def __init__(self, core: Core) -> None:
        self._core = core

    @_aborting
    async def GetModelStatus(
        self, request: get_model_status_pb2.GetModelStatusRequest, context: grpc.aio.ServicerContext
    ) -> get_model_status_pb2.GetModelStatusResponse:
        """Return the states of a model's versions."""
        if not request.HasField("model_spec"):
            raise invalid_argument("Missing ModelSpec")
        response = get_model_status_pb2.GetModelStatusResponse()
        for status in self._core.status(request.model_spec.name, *version_choice(request.model_spec)):
            entry = response.model_version_status.add(version=status.version, state=status.state)
            entry.status.error_code, entry.status.error_message = status.code.value[0], status.message
        return response

    @_aborting
    async def HandleReloadConfigRequest(
        self, request: model_management_pb2.ReloadConfigRequest, context: grpc.aio.ServicerContext
    ) -> model_management_pb2.ReloadConfigResponse:
        """Apply a new configuration, and return how much the metrics named in the request have grown in the meantime."""
        if request.config.WhichOneof("config") != "model_config_list":
            raise invalid_argument(
                "ServerModelConfig type not supported by HandleReloadConfigRequest. Only ModelConfigList is currently supported"
            )
        before = {name: metrics.total(name) for name in request.metric_names}
        await self._core.reload(request.config)
        response = model_management_pb2.ReloadConfigResponse()
        response.status.error_code = 0
        for name, value in before.items():
            response.metric.add(name=name, int64_value_increase=metrics.total(name) - value)
        return response


def make_server(core: Core, options: GrpcOptions) -> grpc.aio.Server:
    """Return a gRPC server of both services, for messages of any size, without a port."""
    settings = {
        "grpc.max_receive_message_length": -1,
        "grpc.max_send_message_length": -1,
        "grpc.so_reuseport": 0,
        "grpc.server_handshake_timeout_ms": HANDSHAKE_MILLISECONDS,
    }
    # Of two arguments of a name, gRPC would take the first.
    server = grpc.aio.server(options=list((settings | dict(options.channel_arguments)).items()))
    prediction = PredictionService(core, options.enable_serialization_as_tensor_content)
    prediction_service_pb2_grpc.add_PredictionServiceServicer_to_server(prediction, server)
    model_service_pb2_grpc.add_ModelServiceServicer_to_server(ModelService(core), server)
    if options.enable_healthcheck_service:
        health_pb2_grpc.add_HealthServicer_to_server(health.aio.HealthServicer(), server)
    return server
