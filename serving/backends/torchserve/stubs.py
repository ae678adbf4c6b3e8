"""The part of TorchServe's gRPC inference API that is used here: https://github.com/pytorch/serve/tree/master/frontend/server/src/main/resources/proto.

The wheel contains the API as `inference.proto` inside the frontend's jar, without Python stubs. The few messages are declared here.
"""

from typing import Any

import grpc
from google.protobuf.descriptor_pb2 import FieldDescriptorProto, FileDescriptorProto
from google.protobuf.descriptor_pool import DescriptorPool
from google.protobuf.message_factory import GetMessageClass

PACKAGE = "org.pytorch.serve.grpc.inference"
PREDICTIONS = f"/{PACKAGE}.InferenceAPIsService/Predictions"


def _messages() -> tuple[Any, Any]:
    """Return the classes `PredictionsRequest` (model_name, model_version, input) and `PredictionResponse` (prediction)."""
    file = FileDescriptorProto(name="inference.proto", package=PACKAGE, syntax="proto3")
    request, response = file.message_type.add(name="PredictionsRequest"), file.message_type.add(name="PredictionResponse")
    string, data, message = FieldDescriptorProto.TYPE_STRING, FieldDescriptorProto.TYPE_BYTES, FieldDescriptorProto.TYPE_MESSAGE
    one, many = FieldDescriptorProto.LABEL_OPTIONAL, FieldDescriptorProto.LABEL_REPEATED
    request.field.add(name="model_name", number=1, type=string, label=one)
    request.field.add(name="model_version", number=2, type=string, label=one)
    entry = request.nested_type.add(name="InputEntry")  # map<string, bytes> consists of these
    entry.options.map_entry = True
    entry.field.add(name="key", number=1, type=string, label=one)
    entry.field.add(name="value", number=2, type=data, label=one)
    request.field.add(name="input", number=3, type=message, label=many, type_name=f".{PACKAGE}.PredictionsRequest.InputEntry")
    response.field.add(name="prediction", number=1, type=data, label=one)
    pool = DescriptorPool()  # a separate pool does not clash with other stubs of the same file
    pool.Add(file)
    return tuple(GetMessageClass(pool.FindMessageTypeByName(f"{PACKAGE}.{each.name}")) for each in (request, response))  # type: ignore[return-value]


PredictionsRequest, PredictionResponse = _messages()


def predictions(channel: grpc.Channel) -> Any:
    """Return the call `Predictions`: PredictionsRequest → PredictionResponse."""
    return channel.unary_unary(
        PREDICTIONS,
        request_serializer=PredictionsRequest.SerializeToString,
        response_deserializer=PredictionResponse.FromString,
    )
