"""The embedded server as a process, and requests to it by TensorFlow Serving's own stubs."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import TracebackType

import grpc
import numpy as np
import psutil
import pytest

from serving.tfserving_protos import messages_alone
from tests.waiting import PATIENCE
from windtunnel.platform.ports import free_ports
from windtunnel.settings import ROOT

with messages_alone():
    from google.protobuf import text_format
    from tensorflow_serving.apis import (
        get_model_status_pb2,
        inference_pb2,
        input_pb2,
        model_management_pb2,
        model_service_pb2_grpc,
        predict_pb2,
        prediction_service_pb2_grpc,
    )

    from serving.tfserving_embedded.runtime.tensors import fill_proto, to_array

TIMEOUT = PATIENCE
UNLIMITED = [("grpc.max_send_message_length", -1), ("grpc.max_receive_message_length", -1)]
SOON = [("grpc.initial_reconnect_backoff_ms", 100), ("grpc.max_reconnect_backoff_ms", 500)]  # after the server has begun to listen


class EmbeddedServer:
    """A server with these flags, in a context; it has a gRPC port of its own and answers when the context is entered."""

    def __init__(self, directory: Path, *flags: str, wait: bool = True, credentials: grpc.ChannelCredentials | None = None) -> None:
        self.port, self.rest_port = free_ports(2)
        self.directory = directory
        self._log = directory / f"server-{self.port}.log"
        self._wait = wait
        self._credentials = credentials
        command = [sys.executable, "-m", "serving.tfserving_embedded", f"--port={self.port}", *flags]
        environment = os.environ | {"TF_CPP_MIN_LOG_LEVEL": "2", "PYTHONPATH": str(ROOT)}
        with self._log.open("wb") as log:
            self.process = subprocess.Popen(command, env=environment, cwd=directory, stdout=log, stderr=log)

    def __enter__(self) -> "EmbeddedServer":
        self.channel = self.connect(self._credentials)
        self.prediction = prediction_service_pb2_grpc.PredictionServiceStub(self.channel)
        self.models = model_service_pb2_grpc.ModelServiceStub(self.channel)
        if self._wait:
            try:
                grpc.channel_ready_future(self.channel).result(timeout=PATIENCE)
            except grpc.FutureTimeoutError:
                self.__exit__(None, None, None)
                raise AssertionError(f"the server does not answer: {self.log}") from None
            listening = {c.laddr.port for c in psutil.Process(self.process.pid).net_connections() if c.status == psutil.CONN_LISTEN}
            assert self.port in listening, "another server answers"
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.channel.close()
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(timeout=PATIENCE) in (0, 1), self.log

    def connect(self, credentials: grpc.ChannelCredentials | None) -> grpc.Channel:
        address = f"127.0.0.1:{self.port}"
        options = UNLIMITED + SOON
        return grpc.secure_channel(address, credentials, options) if credentials else grpc.insecure_channel(address, options)

    @property
    def log(self) -> str:
        return self._log.read_text()

    def predict(
        self,
        name: str,
        inputs: dict[str, np.ndarray],
        signature_name: str = "",
        output_filter: tuple[str, ...] = (),
        version: int | None = None,
        label: str | None = None,
    ) -> tuple[int, dict[str, np.ndarray]]:
        """Which version answers, and what."""
        response = self.prediction.Predict(predict_request(name, inputs, signature_name, output_filter, version, label), TIMEOUT)
        assert response.model_spec.name == name
        assert response.model_spec.signature_name == (signature_name or "serving_default")
        return response.model_spec.version.value, {alias: to_array(proto, alias) for alias, proto in response.outputs.items()}

    def half(self, name: str = "default", version: int | None = None, label: str | None = None) -> tuple[int, float]:
        """Which version of a half_plus model answers, and what it makes of 2."""
        number, outputs = self.predict(name, {"x": np.array([2.0], np.float32)}, version=version, label=label)
        return number, float(outputs["y"][0])

    def states(self, name: str) -> dict[int, str]:
        """The state of each version of a model."""
        request = get_model_status_pb2.GetModelStatusRequest()
        request.model_spec.name = name
        statuses = self.models.GetModelStatus(request, TIMEOUT).model_version_status
        return {status.version: get_model_status_pb2.ModelVersionStatus.State.Name(status.state) for status in statuses}

    def reload(self, config: str) -> None:
        """Give the server a model config list in the text format."""
        response = self.models.HandleReloadConfigRequest(reload_request(config), TIMEOUT)
        assert response.status.error_code == 0


def predict_request(
    name: str,
    inputs: dict[str, np.ndarray],
    signature_name: str = "",
    output_filter: tuple[str, ...] = (),
    version: int | None = None,
    label: str | None = None,
) -> predict_pb2.PredictRequest:
    request = predict_pb2.PredictRequest(output_filter=output_filter)
    request.model_spec.name, request.model_spec.signature_name = name, signature_name
    if version is not None:
        request.model_spec.version.value = version
    if label is not None:
        request.model_spec.version_label = label
    for alias, array in inputs.items():
        fill_proto(request.inputs[alias], array)
    return request


def reload_request(config: str) -> model_management_pb2.ReloadConfigRequest:
    request = model_management_pb2.ReloadConfigRequest()
    text_format.Parse(config, request.config)
    return request


def config_text(**models: str) -> str:
    """A model config list: names and what is in their entries besides."""
    entries = (f'config {{ name: "{name}" model_platform: "tensorflow" {fields} }}' for name, fields in models.items())
    return f"model_config_list {{ {' '.join(entries)} }}"


def examples(*values: float) -> input_pb2.Input:
    result = input_pb2.Input()
    for value in values:
        result.example_list.examples.add().features.feature["x"].float_list.value.append(value)
    return result


def multi_inference(model: str = "default", **methods: str) -> inference_pb2.MultiInferenceRequest:
    request = inference_pb2.MultiInferenceRequest(input=examples(2.0))
    for signature_name, method in methods.items():
        task = request.tasks.add(method_name=method)
        task.model_spec.name, task.model_spec.signature_name = model, signature_name
    return request


def add(base: Path, models: Path, name: str = "124") -> None:
    shutil.copytree(models / "two_versions" / "124", base / ".new")
    (base / ".new").rename(base / name)


def entry(base: Path, *versions: int, labels: dict[str, int] | None = None) -> str:
    text = "".join(f" versions: {number}" for number in versions)
    policy = f"model_version_policy {{ specific {{{text} }} }}" if versions else "model_version_policy { all {} }"
    return f'base_path: "{base}" {policy}' + "".join(
        f' version_labels {{ key: "{label}" value: {number} }}' for label, number in (labels or {}).items()
    )


def failure(call: Callable[[], object]) -> tuple[str, str]:
    with pytest.raises(grpc.RpcError) as error:
        call()
    return error.value.code().name, error.value.details()
