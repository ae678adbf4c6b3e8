"""Configuration files: protocol buffers in text format, as the real server reads them."""

from pathlib import Path
from typing import Any

import grpc
import numpy as np
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format, wrappers_pb2
from tensorflow_serving.config import model_server_config_pb2

from serving.tfserving_embedded.batching_parameters import BatchingParameters
from serving.tfserving_embedded.serving_error import ServingError, invalid_argument

TENSORFLOW = "tensorflow"


def read_text_proto(path: Path, proto: Any) -> Any:
    """Read a file into a message.

    Raises:
        ServingError: INVALID_ARGUMENT: it cannot be read or parsed; the message names the file and the line.
    """
    try:
        return text_format.Parse(path.read_text(), proto)
    except (OSError, UnicodeDecodeError, text_format.ParseError) as error:
        raise invalid_argument(f"Error parsing text-format {proto.DESCRIPTOR.full_name}: {path}: {error}") from error


def read_model_config(path: Path) -> model_server_config_pb2.ModelServerConfig:
    """Read `--model_config_file`.

    Raises:
        ServingError: INVALID_ARGUMENT.
    """
    return read_text_proto(path, model_server_config_pb2.ModelServerConfig())


def single_model_config(name: str, base_path: str) -> model_server_config_pb2.ModelServerConfig:
    """Return the configuration that `--model_name` and `--model_base_path` stand for."""
    config = model_server_config_pb2.ModelServerConfig()
    config.model_config_list.config.add(name=name, base_path=base_path, model_platform=TENSORFLOW)
    return config


def check_model_config(
    config: model_server_config_pb2.ModelServerConfig,
) -> dict[str, model_server_config_pb2.ModelConfig]:
    """Return the models of a configuration, by name.

    Raises:
        ServingError: INVALID_ARGUMENT: it is invalid; the messages are those of model_servers/server_core.cc.
    """
    if config.HasField("custom_model_config"):
        raise invalid_argument("ModelServer does not yet support custom model config.")
    models: dict[str, model_server_config_pb2.ModelConfig] = {}
    for model in config.model_config_list.config:
        if model.name in models:
            raise invalid_argument(f"Illegal to list model {model.name} multiple times in config list")
        platform = _platform(model)
        if platform != TENSORFLOW:
            raise invalid_argument(f"Model {model.name} requests unsupported platform {platform}")
        if not local_path(model.base_path).is_absolute():
            raise invalid_argument(f"Expected model {model.name} to have an absolute path or URI; got base_path()={model.base_path}")
        models[model.name] = model
    return models


def local_path(base_path: str) -> Path:
    """Return the directory of a base path: a path, or a URI such as `file:///models/lenet5`.

    Raises:
        ServingError: INVALID_ARGUMENT: the URI belongs to another file system.
    """
    scheme, separator, path = base_path.rpartition("://")
    if separator and scheme != "file":
        raise invalid_argument(f"The base path is in a file system that is not served: found {base_path}, expected file:///DIRECTORY")
    return Path(path)


def _platform(model: model_server_config_pb2.ModelConfig) -> str:
    if model.model_type == model_server_config_pb2.MODEL_TYPE_UNSPECIFIED:
        if not model.model_platform:
            raise invalid_argument(
                "Illegal setting neither ModelServerConfig::model_type (deprecated) nor ModelServerConfig::model_platform."
            )
        return model.model_platform
    if model.model_platform:
        raise invalid_argument("Illegal setting both ModelServerConfig::model_type (deprecated) and ModelServerConfig::model_platform.")
    if model.model_type != model_server_config_pb2.TENSORFLOW:
        raise invalid_argument(f"ModelServerConfig::model_type choice {model.model_type} not supported.")
    return TENSORFLOW


# The messages that TensorFlow Serving's package of stubs omits: servables/tensorflow/session_bundle_config.proto,
# config/monitoring_config.proto, config/ssl_config.proto.
_LEFT_OUT = """
name: "windtunnel/tensorflow_serving.proto" package: "tensorflow.serving" syntax: "proto3" dependency: "google/protobuf/wrappers.proto"
message_type {
  name: "BatchingParameters"
  field { name: "max_batch_size" number: 1 type: TYPE_MESSAGE type_name: ".google.protobuf.Int64Value" }
  field { name: "batch_timeout_micros" number: 2 type: TYPE_MESSAGE type_name: ".google.protobuf.Int64Value" }
  field { name: "max_enqueued_batches" number: 3 type: TYPE_MESSAGE type_name: ".google.protobuf.Int64Value" }
  field { name: "num_batch_threads" number: 4 type: TYPE_MESSAGE type_name: ".google.protobuf.Int64Value" }
  field { name: "thread_pool_name" number: 5 type: TYPE_MESSAGE type_name: ".google.protobuf.StringValue" }
  field { name: "allowed_batch_sizes" number: 6 type: TYPE_INT64 label: LABEL_REPEATED }
  field { name: "pad_variable_length_inputs" number: 7 type: TYPE_BOOL }
  field { name: "enable_large_batch_splitting" number: 8 type: TYPE_MESSAGE type_name: ".google.protobuf.BoolValue" }
  field { name: "max_execution_batch_size" number: 9 type: TYPE_MESSAGE type_name: ".google.protobuf.Int64Value" }
}
message_type {
  name: "PrometheusConfig"
  field { name: "enable" number: 1 type: TYPE_BOOL }
  field { name: "path" number: 2 type: TYPE_STRING }
}
message_type {
  name: "MonitoringConfig"
  field { name: "prometheus_config" number: 1 type: TYPE_MESSAGE type_name: ".tensorflow.serving.PrometheusConfig" }
}
message_type {
  name: "SSLConfig"
  field { name: "server_key" number: 1 type: TYPE_STRING }
  field { name: "server_cert" number: 2 type: TYPE_STRING }
  field { name: "custom_ca" number: 3 type: TYPE_STRING }
  field { name: "client_verify" number: 4 type: TYPE_BOOL }
}
"""


def _left_out(name: str) -> Any:
    """Return an empty message of one of those types."""
    file = text_format.Parse(_LEFT_OUT, descriptor_pb2.FileDescriptorProto())
    pool = descriptor_pool.DescriptorPool()
    pool.AddSerializedFile(wrappers_pb2.DESCRIPTOR.serialized_pb)
    pool.AddSerializedFile(file.SerializeToString())
    return message_factory.GetMessageClass(pool.FindMessageTypeByName(f"{file.package}.{name}"))()


def read_prometheus_path(path: Path, default: str) -> str | None:
    """Read `--monitoring_config_file`: the path of the metrics; None if they are not enabled.

    Raises:
        ServingError: INVALID_ARGUMENT.
    """
    config = read_text_proto(path, _left_out("MonitoringConfig")).prometheus_config
    return (config.path or default) if config.enable else None


def read_ssl_config(path: Path) -> grpc.ServerCredentials:
    """Read `--ssl_config_file`: the key and certificates for TLS, as PEM in the file, and whether clients must have a certificate.

    Raises:
        ServingError: INVALID_ARGUMENT. Invalid PEM is only detected when a port is opened.
    """
    config = _left_out("SSLConfig")
    try:
        read_text_proto(path, config)
    except ServingError as error:
        if not isinstance(error.__cause__, text_format.ParseError):
            raise
        line = error.__cause__.GetLine()  # only the line number: the error's text quotes the line, which may contain the key
        raise invalid_argument(f"Error parsing text-format {config.DESCRIPTOR.full_name}: {path}: line {line}") from None
    for name in ("server_key", "server_cert", *(["custom_ca"] if config.client_verify else [])):
        if not getattr(config, name):
            purpose = "client_verify checks clients by it" if name == "custom_ca" else "TLS needs it"
            raise invalid_argument(f"{path}: {name} is empty: found nothing, expected PEM, since {purpose}")
    pair = config.server_key.encode(), config.server_cert.encode()
    return grpc.ssl_server_credentials([pair], config.custom_ca.encode() or None, config.client_verify)


def read_batching_parameters(path: Path) -> BatchingParameters:
    """Read `--batching_parameters_file`; missing parameters get their defaults.

    Raises:
        ServingError: INVALID_ARGUMENT.
    """
    proto = read_text_proto(path, _left_out("BatchingParameters"))
    names = ("max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads", "max_execution_batch_size")
    values = {name: getattr(proto, name).value for name in names if proto.HasField(name)}
    for name, value in values.items():
        if value < (0 if name == "batch_timeout_micros" else 1):
            raise invalid_argument(f"{path}: {name} must be positive; was {value}")
    parameters = BatchingParameters(
        **values,
        allowed_batch_sizes=tuple(proto.allowed_batch_sizes),
        pad_variable_length_inputs=proto.pad_variable_length_inputs,
        enable_large_batch_splitting=proto.enable_large_batch_splitting.value,
    )
    if parameters.batch_size > parameters.max_batch_size:
        found, limit = parameters.batch_size, parameters.max_batch_size
        raise invalid_argument(f"{path}: max_execution_batch_size must not be more than max_batch_size, {limit}; was {found}")
    sizes = parameters.allowed_batch_sizes
    if sizes and (np.any(np.diff(sizes) <= 0) or sizes[-1] != parameters.batch_size):
        last = "max_execution_batch_size" if parameters.batch_size != parameters.max_batch_size else "max_batch_size"
        raise invalid_argument(f"{path}: allowed_batch_sizes must increase, and the last must be {last}; was {list(sizes)}")
    return parameters
