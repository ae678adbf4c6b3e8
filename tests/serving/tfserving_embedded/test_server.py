"""The program: flags, files that are wrong, the end; and LiteRT."""

import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
from pathlib import Path

import grpc
import numpy as np
import psutil
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from serving.backends.tfserving.serve import command
from serving.tfserving_embedded.flags import meaningless, parse_flags
from tests.serving.tfserving_embedded.embedded_server import EmbeddedServer, messages_alone, predict_request
from tests.waiting import PATIENCE, wait_for
from windtunnel.settings import ROOT, Settings

pytestmark = pytest.mark.minutes(1)

with messages_alone():
    from tensorflow.core.framework import types_pb2
    from tensorflow.core.protobuf import rewriter_config_pb2, saved_model_pb2
    from tensorflow_serving.apis import get_model_metadata_pb2, prediction_service_pb2_grpc

    from serving.tfserving_embedded.server import model_options


def test_flags_with_and_without_an_equals_sign() -> None:
    flags = parse_flags(
        ["--port=1", "--rest_api_port", "2", "--enable_batching", "--prefer_tflite_model=true", "--enable_model_warmup=false"]
    )
    assert (flags.port, flags.rest_api_port) == (1, 2)
    assert (flags.enable_batching, flags.prefer_tflite_model, flags.enable_model_warmup) == (True, True, False)
    assert meaningless(flags) == []


def test_defaults_are_the_real_servers() -> None:
    flags = vars(parse_flags([]))
    assert flags | {"port": 8500, "rest_api_port": 0, "rest_api_timeout_in_ms": 30_000, "model_name": "default"} == flags
    assert flags | {"enable_batching": False, "enable_model_warmup": True, "prefer_tflite_model": False} == flags
    assert flags | {"file_system_poll_wait_seconds": 1, "max_num_load_retries": 5, "load_retry_interval_micros": 60_000_000} == flags
    assert flags | {"enable_grpc_healthcheck_service": False, "enable_serialization_as_tensor_content": False, "version": False} == flags
    assert flags | {"model_config_file_poll_wait_seconds": 0, "saved_model_tags": "serve"} == flags


def test_flags_that_mean_nothing_here_are_named() -> None:
    flags = parse_flags(["--grpc_max_threads=8", "--use_saved_model=true", "--num_unload_threads", "2"])
    assert meaningless(flags) == ["grpc_max_threads", "num_unload_threads", "use_saved_model"]


TRUTHS = """
rest_api_enable_cors_support enable_batching allow_version_labels_for_unavailable_models enable_per_model_batching_parameters
flush_filesystem_caches use_alts_credentials enable_model_warmup version remove_unused_fields_from_bundle_metagraph prefer_tflite_model
enable_signature_method_name_check xla_cpu_compilation_enabled xla_gpu_compilation_enabled enable_profiler skip_initialize_tpu
enable_grpc_healthcheck_service enable_serialization_as_tensor_content
"""
VALUES = """
port grpc_socket_path rest_api_port rest_api_num_threads rest_api_timeout_in_ms batching_parameters_file model_config_file
model_config_file_poll_wait_seconds model_name model_base_path num_load_threads num_unload_threads max_num_load_retries
load_retry_interval_micros file_system_poll_wait_seconds tensorflow_session_parallelism tensorflow_session_config_file
tensorflow_intra_op_parallelism tensorflow_inter_op_parallelism ssl_config_file platform_config_file per_process_gpu_memory_fraction
saved_model_tags grpc_channel_arguments grpc_max_threads num_request_iterations_for_warmup monitoring_config_file num_tflite_pools
num_tflite_interpreters_per_pool thread_pool_factory_config_file mixed_precision
"""


def test_every_flag_of_the_real_server_is_known(capsys: pytest.CaptureFixture[str]) -> None:
    truths, values = TRUTHS.split(), VALUES.split()
    flags = vars(parse_flags([*(f"--{name}" for name in truths), *(f"--{name}=1" for name in values)]))
    assert flags.keys() >= {*truths, *values}
    assert capsys.readouterr().out == ""


def test_an_unknown_flag_is_named_and_the_others_count(capsys: pytest.CaptureFixture[str]) -> None:
    assert parse_flags(["--prot=1", "--rest_api_port=2"]).rest_api_port == 2
    assert capsys.readouterr().out.startswith("unknown argument: --prot=1\nusage: ")


def test_what_a_session_is_told() -> None:
    flags = parse_flags(["--mixed_precision=bfloat16", "--per_process_gpu_memory_fraction=0.5", "--tensorflow_session_parallelism=2"])
    config = model_options(flags).session_config
    assert config.gpu_options.per_process_gpu_memory_fraction == 0.5
    assert config.graph_options.rewrite_options.auto_mixed_precision_onednn_bfloat16 == rewriter_config_pb2.RewriterConfig.ON
    assert (config.intra_op_parallelism_threads, config.inter_op_parallelism_threads) == (2, 2)


def test_on_the_platform_one_broken_model_does_not_stop_the_others() -> None:
    assert parse_flags([]).wait_for_models
    assert not parse_flags(command(Settings())[3:]).wait_for_models


def test_version() -> None:
    command = [sys.executable, "-m", "serving.tfserving_embedded", "--version", "--model_base_path=/nowhere"]
    printed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True, timeout=PATIENCE).stdout
    assert re.fullmatch(r"TensorFlow ModelServer: [0-9.]+ \(embedded\)\nTensorFlow Library: [0-9.]+\n", printed)


@pytest.mark.parametrize(
    ("arguments", "error"),
    [
        (["--port=a"], "argument --port: invalid int value"),
        (["--enable_batching=maybe"], "maybe is neither true nor false"),
    ],
)
def test_wrong_flags(arguments: list[str], error: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse_flags(arguments)
    assert error in capsys.readouterr().err


def test_servers_that_cannot_start(tmp_path: Path, models: Path) -> None:
    (tmp_path / "wrong").write_text("improperly formatted file")
    (tmp_path / "typo").write_text('server_cert: "c"\nserver_kye: "secret"')
    (tmp_path / "no_key").write_text('server_cert: "c"')
    (tmp_path / "no_ca").write_text('server_key: "k" server_cert: "c" client_verify: true')
    (tmp_path / "no_pem").write_text('server_key: "k" server_cert: "c"')
    (tmp_path / "custom").write_text("custom_model_config {}")
    base = f"--model_base_path={models / 'half_plus_two'}"
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        cases = {
            ("--model_config_file=wrong",): "INVALID_ARGUMENT: Error parsing text-format tensorflow.serving.ModelServerConfig: wrong: ",
            ("--model_config_file=none",): "INVALID_ARGUMENT: Error parsing text-format tensorflow.serving.ModelServerConfig: none: ",
            ("--model_config_file=custom",): "INVALID_ARGUMENT: ModelServer does not yet support custom model config.",
            (): "INVALID_ARGUMENT: Both server_options.model_base_path and server_options.model_config_file are empty!",
            ("--model_base_path=a",): "INVALID_ARGUMENT: Expected model default to have an absolute path or URI; got base_path()=a",
            (base, "--batching_parameters_file=wrong"): "without setting server_options.enable_batching to true.",
            (base, "--tensorflow_session_config_file=wrong"): "INVALID_ARGUMENT: Error parsing text-format tensorflow.ConfigProto: wrong: ",
            (base, f"--port={port}"): f"UNAVAILABLE: Cannot listen on 127.0.0.1:{port}: ",
            (base, f"--rest_api_port={port}"): f"UNAVAILABLE: Cannot listen on 127.0.0.1:{port}: ",
            (base, "--use_alts_credentials"): "UNIMPLEMENTED: --use_alts_credentials is not supported: ",
            (base, "--enable_profiler"): "UNIMPLEMENTED: --enable_profiler is not supported: ",
            (base, "--platform_config_file=p"): "UNIMPLEMENTED: --platform_config_file is not supported: ",
            (base, "--mixed_precision=int8"): "INVALID_ARGUMENT: --mixed_precision is wrong: found int8, expected bfloat16",
            (base, "--ssl_config_file=none"): "INVALID_ARGUMENT: Error parsing text-format tensorflow.serving.SSLConfig: none: ",
            (base, "--ssl_config_file=typo"): "INVALID_ARGUMENT: Error parsing text-format tensorflow.serving.SSLConfig: typo: line 2\n",
            (base, "--ssl_config_file=no_key"): "INVALID_ARGUMENT: no_key: server_key is empty: ",
            (base, "--ssl_config_file=no_ca"): "INVALID_ARGUMENT: no_ca: custom_ca is empty: ",
            (base, "--ssl_config_file=no_pem"): "UNAVAILABLE: Cannot serve TLS with the key and certificates of --ssl_config_file on ",
        }
        for flags, error in cases.items():
            with EmbeddedServer(tmp_path, *flags, wait=False) as server:
                assert server.process.wait(timeout=PATIENCE) == 1
                assert "Failed to start server. Error: " in server.log
                assert error in server.log, server.log
                assert "secret" not in server.log


def test_flags_reach_grpc_and_the_session(tmp_path: Path, models: Path) -> None:
    (tmp_path / "session").write_text("intra_op_parallelism_threads: 1")
    flags = ("--tensorflow_session_config_file=session", "--tensorflow_inter_op_parallelism=2", "--grpc_max_threads=8")
    channel_arguments = "grpc.max_connection_age_ms=2000,grpc.lb_policy_name=grpclb,grpc.max_receive_message_length=10000"
    flags += (f"--grpc_channel_arguments={channel_arguments}",)
    with EmbeddedServer(tmp_path, f"--model_base_path={models / 'half_plus_two'}", *flags) as server:
        assert server.half() == (123, 3.0)
        assert "Flags without effect here: grpc_max_threads" in server.log
        with pytest.raises(grpc.RpcError, match="Received message larger than max"):
            server.predict("default", {"x": np.ones(10_000, np.float32)})
        with pytest.raises(grpc.RpcError) as error:
            health_pb2_grpc.HealthStub(server.channel).Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE)
        assert error.value.code() == grpc.StatusCode.UNIMPLEMENTED


def test_health_and_answers_as_bytes(tmp_path: Path, models: Path) -> None:
    flags = ("--enable_grpc_healthcheck_service", "--enable_serialization_as_tensor_content", "--mixed_precision=bfloat16", "--prot=1")
    with EmbeddedServer(tmp_path, f"--model_base_path={models / 'half_plus_two'}", *flags) as server:
        health = health_pb2_grpc.HealthStub(server.channel)
        found = health.Check(health_pb2.HealthCheckRequest(), timeout=PATIENCE)
        assert found.status == health_pb2.HealthCheckResponse.SERVING
        with pytest.raises(grpc.RpcError) as error:
            health.Check(health_pb2.HealthCheckRequest(service="none"), timeout=PATIENCE)
        assert error.value.code() == grpc.StatusCode.NOT_FOUND
        output = server.prediction.Predict(predict_request("default", {"x": np.array([2, 4], np.float32)}), PATIENCE).outputs["y"]
        assert (output.tensor_content, list(output.float_val)) == (np.array([3, 4], np.float32).tobytes(), [])
        assert "unknown argument: --prot=1" in server.log


def certificate(directory: Path, name: str) -> tuple[bytes, bytes]:
    """A new key and its own certificate, as PEM."""
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "1"]
    made += ["-subj", f"/CN={name}", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", f"{name}.key", "-out", f"{name}.pem"]
    subprocess.run(made, cwd=directory, check=True, capture_output=True)
    return (directory / f"{name}.key").read_bytes(), (directory / f"{name}.pem").read_bytes()


@pytest.mark.parametrize("client_verify", [False, True])
def test_tls(tmp_path: Path, models: Path, client_verify: bool) -> None:
    (key, server_certificate), client, stranger = (certificate(tmp_path, name) for name in ("server", "client", "stranger"))
    config = {"server_key": key, "server_cert": server_certificate, "custom_ca": client[1]}
    lines = [f"{field}: {json.dumps(pem.decode())}" for field, pem in config.items()]
    (tmp_path / "ssl").write_text("\n".join([*lines, f"client_verify: {str(client_verify).lower()}"]))
    known = grpc.ssl_channel_credentials(server_certificate, *client)
    anonymous, unknown = grpc.ssl_channel_credentials(server_certificate), grpc.ssl_channel_credentials(server_certificate, *stranger)
    flags = (f"--model_base_path={models / 'half_plus_two'}", "--ssl_config_file=ssl")
    with EmbeddedServer(tmp_path, *flags, credentials=known) as server:
        assert server.half() == (123, 3.0)
        request = predict_request("default", {"x": np.ones(1, np.float32)})
        for credentials, answered in ((None, False), (anonymous, not client_verify), (unknown, not client_verify)):
            with server.connect(credentials) as channel:
                call = prediction_service_pb2_grpc.PredictionServiceStub(channel).Predict.future(request, PATIENCE)
                assert call.exception() is None if answered else call.code() == grpc.StatusCode.UNAVAILABLE


def test_sigterm_answers_what_was_asked_and_ends(tmp_path: Path, models: Path) -> None:
    with EmbeddedServer(tmp_path, f"--model_base_path={models / 'batch'}") as server:
        request = predict_request("default", {"x": np.ones((1, 2), np.float32)})
        server.prediction.Predict(request, PATIENCE)
        process = psutil.Process(server.process.pid)
        before = sum(process.cpu_times()[:2])
        future = server.prediction.Predict.future(request, PATIENCE)
        wait_for(lambda: sum(process.cpu_times()[:2]) > before)  # it has begun
        server.process.send_signal(signal.SIGTERM)
        assert list(future.result().outputs["sum"].float_val) == [2.0]
        assert server.process.wait(timeout=PATIENCE) == 0


def test_the_parents_end_ends_it(tmp_path: Path, models: Path) -> None:
    command = [sys.executable, "-m", "serving.tfserving_embedded", "--port=0", f"--grpc_socket_path={tmp_path}/s"]
    command.append(f"--model_base_path={models / 'half_plus_two'}")
    script = f"import subprocess, time; print(subprocess.Popen({command!r}).pid, flush=True); time.sleep(600)"
    with subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, cwd=ROOT) as parent:
        assert parent.stdout is not None
        server = psutil.Process(int(parent.stdout.readline()))
        wait_for((tmp_path / "s").exists)
        os.kill(parent.pid, signal.SIGKILL)
    server.wait(timeout=PATIENCE)


def test_operations_of_tensorflow_text_are_there_if_it_is_installed(tmp_path: Path) -> None:
    """Something else takes its place: an operation that TensorFlow has in a file of its own, where TensorFlow Text has those files."""
    package = importlib.util.find_spec("tensorflow")
    assert package is not None
    assert package.submodule_search_locations is not None
    library = Path(package.submodule_search_locations[0]) / "lite/experimental/microfrontend/python/ops/_audio_microfrontend_op.so"
    saved = saved_model_pb2.SavedModel(saved_model_schema_version=1)
    meta_graph = saved.meta_graphs.add()
    meta_graph.meta_info_def.tags.append("serve")
    meta_graph.graph_def.node.add(name="audio", op="Placeholder").attr["dtype"].type = types_pb2.DT_INT16
    meta_graph.graph_def.node.add(name="frames", op="AudioMicrofrontend", input=["audio"])
    meta_graph.graph_def.versions.producer = 1087
    signature = meta_graph.signature_def["serving_default"]
    signature.inputs["audio"].name, signature.outputs["frames"].name = "audio:0", "frames:0"
    (tmp_path / "model" / "1").mkdir(parents=True)
    (tmp_path / "model" / "1" / "saved_model.pb").write_bytes(saved.SerializeToString())
    flags = (f"--model_base_path={tmp_path / 'model'}", "--max_num_load_retries=0", "--wait_for_models=false")
    with EmbeddedServer(tmp_path, *flags) as server:
        assert server.states("default") == {1: "END"}
        assert "Op type not registered 'AudioMicrofrontend'" in server.log
        assert "If it is an operation of TensorFlow Text, install tensorflow-text in TensorFlow's version" in server.log
    operations = tmp_path / "tensorflow_text" / "python" / "ops"  # where the server is started, and so looks for packages
    operations.mkdir(parents=True)
    (tmp_path / "tensorflow_text" / "__init__.py").touch()
    (operations / "_operation.so").symlink_to(library)
    with EmbeddedServer(tmp_path, *flags) as server:
        _, outputs = server.predict("default", {"audio": np.zeros(16000, np.int16)})
        assert outputs["frames"].shape == (98, 32)


@pytest.mark.parametrize(("flags", "more"), [((), 1.0), (("--prefer_tflite_model", "--enable_batching"), 2.0)])
def test_tflite_is_served_if_preferred(tmp_path: Path, models: Path, flags: tuple[str, ...], more: float) -> None:
    with EmbeddedServer(tmp_path, f"--model_base_path={models / 'lite'}", *flags) as server:
        for rows in (1, 5, 2):
            x = np.arange(2 * rows, dtype=np.float32).reshape(rows, 2)
            version, outputs = server.predict("default", {"x": x})
            assert version == 1
            np.testing.assert_array_equal(outputs["y"], x + more)
            np.testing.assert_array_equal(outputs["x2"], x * 2)
        assert list(server.predict("default", {"x": x}, output_filter=("y",))[1]) == ["y"]
        with pytest.raises(grpc.RpcError) as error:
            server.predict("default", {"x": np.zeros((1, 2))})
        assert error.value.code() == grpc.StatusCode.INVALID_ARGUMENT
        request = get_model_metadata_pb2.GetModelMetadataRequest(metadata_field=["signature_def"])
        request.model_spec.name = "default"
        signatures = get_model_metadata_pb2.SignatureDefMap()
        server.prediction.GetModelMetadata(request).metadata["signature_def"].Unpack(signatures)
        signature = signatures.signature_def["serving_default"]
        assert (set(signature.inputs), set(signature.outputs)) == ({"x"}, {"y", "x2"})
        assert [dim.size for dim in signature.inputs["x"].tensor_shape.dim] == [-1, 2]


def test_saved_model_is_served_where_there_is_no_tflite(tmp_path: Path, models: Path) -> None:
    with EmbeddedServer(tmp_path, f"--model_base_path={models / 'half_plus_two'}", "--prefer_tflite_model") as server:
        assert server.half() == (123, 3.0)
