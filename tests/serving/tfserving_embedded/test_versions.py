"""Which versions are loaded, when, and who gets them: base paths, policies, labels, new configurations, shared versions, warm-up."""

import shutil
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import grpc
import numpy as np
import pytest

from tests.serving.tfserving_embedded.embedded_server import (
    EmbeddedServer,
    add,
    config_text,
    entry,
    failure,
    messages_alone,
    predict_request,
)
from tests.waiting import PATIENCE, wait_for
from windtunnel.files import write_atomically
from windtunnel.settings import ROOT

pytestmark = pytest.mark.minutes(1)

with messages_alone():
    from google.protobuf import text_format
    from tensorflow_serving.apis import model_management_pb2, prediction_log_pb2
    from tensorflow_serving.config import model_server_config_pb2

LOADED = "Successfully loaded servable version"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, models: Path) -> Iterator[EmbeddedServer]:
    """A server that looks at its base paths only when it gets a configuration, so that nothing happens by chance."""
    directory = tmp_path_factory.mktemp("server")
    config = directory / "models.config"
    config.write_text("model_config_list {}")
    with EmbeddedServer(
        directory, f"--model_config_file={config}", "--file_system_poll_wait_seconds=0", "--max_num_load_retries=0"
    ) as server:
        yield server


def test_new_version_replaces_the_old_one_and_goes_again(base: Path, models: Path, tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path, f"--model_base_path={base}") as server:
        assert server.half() == (123, 3.0)
        (base / "not-a-version").mkdir()
        add(base, models)
        wait_for(lambda: server.half() == (124, 4.0))
        wait_for(lambda: server.states("default") == {124: "AVAILABLE", 123: "END"})
        assert failure(lambda: server.half(version=123)) == ("NOT_FOUND", "Servable not found for request: Specific(default, 123)")
        shutil.rmtree(base / "124")
        wait_for(lambda: server.half() == (123, 3.0))


def test_a_reload_tells_by_how_much_metrics_grew(server: EmbeddedServer, base: Path) -> None:
    """A version's warm-up runs its graph; a reload that loads nothing does not."""
    write_warm_up(base / "123", records(GOOD, GOOD))
    runs, unknown = "/tensorflow/core/graph_runs", "/tensorflow/none"
    request = model_management_pb2.ReloadConfigRequest(metric_names=[runs, unknown])
    text_format.Parse(config_text(grown=entry(base)), request.config)
    for increase in (2, 0):
        found = {metric.name: metric.int64_value_increase for metric in server.models.HandleReloadConfigRequest(request, PATIENCE).metric}
        assert found == {runs: increase, unknown: 0}


def test_no_request_fails_while_versions_are_switched(base: Path, models: Path, tmp_path: Path) -> None:
    shutil.copytree(base, tmp_path / "other")
    add(tmp_path / "other", models)
    answers, errors, stop = set(), [], threading.Event()
    with EmbeddedServer(tmp_path, f"--model_base_path={base}", "--enable_batching") as server:

        def ask() -> None:
            while not stop.is_set():
                try:
                    answers.add(server.half())
                except grpc.RpcError as error:
                    errors.append(error)

        threads = [threading.Thread(target=ask) for _ in range(4)]
        for thread in threads:
            thread.start()
        for versions in ((123, 124), (124,), (123, 124), (123,)) * 3:
            server.reload(config_text(default=entry(tmp_path / "other", *versions)))
            wait_for(lambda versions=versions: {n for n, s in server.states("default").items() if s != "END"} == set(versions))
        stop.set()
        for thread in threads:
            thread.join()
    assert errors == []
    assert answers == {(123, 3.0), (124, 4.0)}


def test_policies(server: EmbeddedServer, models: Path) -> None:
    path = f'base_path: "{models / "two_versions"}"'
    cases = {
        "": {124},
        "model_version_policy { latest { num_versions: 2 } }": {123, 124},
        "model_version_policy { all {} }": {123, 124},
        "model_version_policy { specific { versions: 123 versions: 7 } }": {123},
    }
    for policy, versions in cases.items():
        server.reload(config_text(policies=f"{path} {policy}"))
        wait_for(lambda versions=versions: {n for n, s in server.states("policies").items() if s == "AVAILABLE"} == versions)
        assert server.half("policies") == {124: (124, 4.0), 123: (123, 3.0)}[max(versions)]


@pytest.mark.parametrize(
    ("name", "number"),
    [("1764396678123456789", 1764396678123456789), ("9223372036854775807", 2**63 - 1), ("0" * 30 + "200", 200), ("0123", 123)],
)
def test_a_version_is_any_number_of_64_bits(server: EmbeddedServer, base: Path, models: Path, name: str, number: int) -> None:
    add(base, models, name)
    add(base, models, "9223372036854775808")  # none
    model = f"numbers-{name}"
    server.reload(config_text(**{model: f'base_path: "{base}"'}))
    assert server.half(model) == server.half(model, version=number)
    assert server.half(model) == ((123, 3.0) if number == 123 else (number, 4.0))  # of two names for a number, the last


def test_a_base_path_can_be_a_uri(server: EmbeddedServer, models: Path) -> None:
    server.reload(config_text(uri=f'base_path: "file://{models}/two_versions"'))
    assert server.half("uri") == (124, 4.0)


def test_labels_point_to_available_versions(server: EmbeddedServer, models: Path) -> None:
    path = models / "two_versions"
    server.reload(config_text(labels=entry(path)))
    wait_for(lambda: server.states("labels") == {123: "AVAILABLE", 124: "AVAILABLE"})
    server.reload(config_text(labels=entry(path, labels={"stable": 123, "canary": 124})))
    assert server.half("labels", label="stable") == (123, 3.0)
    assert server.half("labels", label="canary") == (124, 4.0)
    refused = "Request to assign label to version 7 of model labels, which is not currently available for inference"
    wrong = config_text(labels=entry(path, 123, labels={"stable": 7}))
    assert failure(lambda: server.reload(wrong)) == ("FAILED_PRECONDITION", refused)
    assert server.half("labels", label="stable") == (123, 3.0)
    assert server.states("labels") == {123: "AVAILABLE", 124: "AVAILABLE"}


def test_labels_of_versions_that_are_not_there_yet(tmp_path: Path, models: Path) -> None:
    config = tmp_path / "models.config"
    config.write_text(config_text(labels=entry(models / "two_versions", labels={"stable": 123})))
    with EmbeddedServer(tmp_path, f"--model_config_file={config}", "--allow_version_labels_for_unavailable_models") as server:
        wait_for(lambda: server.states("labels") == {123: "AVAILABLE", 124: "AVAILABLE"})  # a server listens when one of them is
        assert server.half("labels", label="stable") == (123, 3.0)
        moved = config_text(labels=entry(models / "two_versions", labels={"stable": 7}))  # one in use is not taken away
        assert failure(lambda: server.reload(moved))[0] == "FAILED_PRECONDITION"
    with EmbeddedServer(tmp_path, f"--model_config_file={config}", wait=False) as server:
        assert server.process.wait(timeout=PATIENCE) == 1
        assert "Failed to start server. Error: FAILED_PRECONDITION: Request to assign label to version 123" in server.log


def test_two_entries_share_a_version(server: EmbeddedServer, models: Path) -> None:
    path = models / "two_versions"
    server.reload(config_text(shared=entry(path, 123), **{"shared-standby": entry(path, 124)}))
    assert server.half("shared") == (123, 3.0)
    loads = server.log.count("INFO Loaded ")
    for users, standby in (((123, 124), ()), ((123,), (124,)), ((124,), (123,)), ((123,), (124,))):
        entries = {"shared": users, "shared-standby": standby}
        server.reload(config_text(**{name: entry(path, *versions) for name, versions in entries.items() if versions}))
        number = max(users)
        assert server.half("shared") == (number, number - 120.0)  # at once: there is nothing to wait for
    assert server.log.count("INFO Loaded ") == loads


def test_a_version_is_unloaded_when_its_requests_have_ended(server: EmbeddedServer, models: Path) -> None:
    server.reload(config_text(busy=entry(models / "batch", 1)))
    rows = np.ones((1, 2), np.float32)
    pending = [server.prediction.Predict.future(predict_request("busy", {"x": rows}), PATIENCE) for _ in range(12)]
    wait_for(lambda: any(future.done() for future in pending))
    server.reload(config_text(other=entry(models / "two_versions", 123)))
    assert server.states("busy")[1] in ("UNLOADING", "END")
    assert failure(lambda: server.predict("busy", {"x": rows})) == ("NOT_FOUND", "Servable not found for request: Latest(busy)")
    assert {future.result().outputs["sum"].float_val[0] for future in pending} == {2.0}
    wait_for(lambda: server.states("busy") == {1: "END"})


def test_a_client_that_goes_away_does_not_end_the_server(server: EmbeddedServer, models: Path) -> None:
    server.reload(config_text(left=entry(models / "batch", 1)))
    pending = [server.prediction.Predict.future(predict_request("left", {"x": np.ones((1, 2), np.float32)}), PATIENCE) for _ in range(8)]
    wait_for(lambda: any(future.done() for future in pending))
    for future in pending:
        future.cancel()
    server.reload(config_text(other=entry(models / "two_versions", 123)))
    wait_for(lambda: server.states("left") == {1: "END"})
    assert server.half("other") == (123, 3.0)


def test_a_version_that_cannot_be_loaded(server: EmbeddedServer, base: Path, models: Path) -> None:
    server.reload(config_text(broken=entry(base)))
    add(base, models)
    (base / "124" / "saved_model.pb").write_bytes(b"no model")
    server.reload(config_text(broken=f'base_path: "{base}"'))  # the latest only, but not at the price of the one that answers
    wait_for(lambda: server.states("broken")[124] == "END")
    assert server.states("broken") == {124: "END", 123: "AVAILABLE"}
    assert server.half("broken") == (123, 3.0)
    code, text = failure(lambda: server.reload(config_text(new=f'base_path: "{base}"')))
    assert code == "UNKNOWN"
    assert text.startswith("1 model(s) did not become available: {{name: new version: 124 due to error: ")
    shutil.rmtree(base / "124")
    server.reload(config_text(new=f'base_path: "{base}"'))
    wait_for(lambda: server.states("new") == {124: "END", 123: "AVAILABLE"})
    assert server.half("new") == (123, 3.0)


WRONG_CONFIGURATIONS = {
    'config { name: "a" base_path: "/a" model_platform: "tensorflow" }' * 2: "Illegal to list model a multiple times in config list",
    'config { name: "a" base_path: "a" model_platform: "tensorflow" }': "Expected model a to have an absolute path or URI; got",
    'config { name: "a" base_path: "gs://a" model_platform: "tensorflow" }': "found gs://a, expected file:///DIRECTORY",
    'config { name: "a" base_path: "/a" model_platform: "caffe" }': "Model a requests unsupported platform caffe",
    'config { name: "a" base_path: "/a" }': "Illegal setting neither ModelServerConfig::model_type (deprecated) nor",
    'config { name: "a" base_path: "/a" model_type: TENSORFLOW model_platform: "tensorflow" }': "Illegal setting both",
}


@pytest.mark.parametrize("text", WRONG_CONFIGURATIONS)
def test_a_wrong_configuration_changes_nothing(server: EmbeddedServer, models: Path, text: str) -> None:
    server.reload(config_text(kept=entry(models / "two_versions", 123)))
    code, found = failure(lambda: server.reload(f"model_config_list {{ {text} }}"))
    assert (code, WRONG_CONFIGURATIONS[text] in found) == ("INVALID_ARGUMENT", True), found
    assert server.half("kept") == (123, 3.0)


def test_the_config_file_is_read_again(tmp_path: Path, models: Path) -> None:
    config = tmp_path / "models.config"
    config.write_text(config_text(first=entry(models / "half_plus_two")))
    with EmbeddedServer(tmp_path, f"--model_config_file={config}", "--model_config_file_poll_wait_seconds=1") as server:
        assert server.half("first") == (123, 3.0)
        write_atomically(config, b"this is no configuration")
        wait_for(lambda: "stays as it was: Error parsing text-format tensorflow.serving.ModelServerConfig" in server.log)
        config.write_text("")
        wait_for(lambda: "stays as it was: Cannot transition to requested config." in server.log)
        assert server.half("first") == (123, 3.0)
        write_atomically(config, config_text(first=entry(models / "half_plus_two"), never=entry(tmp_path / "nowhere")).encode())
        wait_for(lambda: f"Could not find base path {tmp_path / 'nowhere'}" in server.log)
        message = text_format.Parse(config_text(second=entry(models / "half_plus_three")), model_server_config_pb2.ModelServerConfig())
        write_atomically(config, text_format.MessageToString(message).encode())
        wait_for(lambda: "name: second version: 123" in server.log)
        assert server.half("second") == (123, 4.0)
        assert failure(lambda: server.half("first"))[0] == "NOT_FOUND"


def records(*logs: bytes) -> bytes:
    """A TFRecord file."""
    return b"".join(struct.pack("<Q", len(log)) + bytes(4) + log + bytes(4) for log in logs)


def write_warm_up(version: Path, content: bytes) -> None:
    (version / "assets.extra").mkdir(exist_ok=True)
    (version / "assets.extra" / "tf_serving_warmup_requests").write_bytes(content)


def predict_log(**inputs: np.ndarray) -> bytes:
    log = prediction_log_pb2.PredictionLog()
    log.predict_log.request.CopyFrom(predict_request("any", inputs))
    return log.SerializeToString()


def examples_log(kind: str, signature_name: str) -> bytes:
    log = prediction_log_pb2.PredictionLog()
    request = getattr(log, f"{kind}_log").request
    request.model_spec.signature_name = signature_name
    request.input.example_list.examples.add().features.feature["x"].float_list.value.append(1)
    return log.SerializeToString()


GOOD = predict_log(x=np.ones(3, np.float32))
WARM_UPS = {
    "every kind": (records(GOOD, examples_log("classify", "classify_x_to_y"), examples_log("regress", "regress_x_to_y")), None),
    "wrong input": (records(GOOD, predict_log(y=np.ones(3, np.float32))), "Signature input alias: x(feed name: x:0) not found in request"),
    "no request": (records(GOOD, b"no record"), "Failed to parse warmup record: number 1"),
    "empty log": (records(b""), "Unsupported log_type for warmup: None"),
    "too many": (records(*[GOOD] * 1001), "Number of warmup records exceeds the maximum (1000)"),
    "cut off": (records(GOOD, GOOD)[:-30], "Please verify your warmup data is in TFRecord format"),
}


@pytest.mark.parametrize("case", WARM_UPS)
def test_a_version_must_answer_its_warm_up(server: EmbeddedServer, base: Path, case: str) -> None:
    content, error = WARM_UPS[case]
    write_warm_up(base / "123", content)
    name = case.replace(" ", "-")
    if error is None:
        server.reload(config_text(**{name: entry(base)}))
        assert server.half(name) == (123, 3.0)
    else:
        code, text = failure(lambda: server.reload(config_text(**{name: entry(base)})))
        assert (code, error in text) == ("UNKNOWN", True), text


def test_warm_up_can_be_left_out(base: Path, tmp_path: Path) -> None:
    write_warm_up(base / "123", b"no record")
    with EmbeddedServer(tmp_path, f"--model_base_path={base}", "--enable_model_warmup=false") as server:
        assert server.half() == (123, 3.0)


def test_a_server_of_low_priority_loads_at_its_own() -> None:
    look = "import os, threading; os.nice(19); from serving.tfserving_embedded.runtime.library import _give_way; _give_way(); "
    look += "print(os.getpriority(os.PRIO_PROCESS, threading.get_native_id()))"  # only root could raise it
    assert subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True, cwd=ROOT).stdout == "19\n"
