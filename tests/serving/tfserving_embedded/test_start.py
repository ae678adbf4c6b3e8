"""Which models a server waits for when it starts or gets another configuration, and when it ends instead."""

import signal
from pathlib import Path

import grpc
import pytest

from tests.serving.tfserving_embedded.embedded_server import EmbeddedServer, config_text, entry, failure, reload_request
from tests.waiting import PATIENCE, wait_for

pytestmark = pytest.mark.minutes(1)

RUNNING = "Running gRPC ModelServer at "


def test_loads_are_tried_again_before_the_ports_open(base: Path, models: Path, tmp_path: Path) -> None:
    content = (base / "123" / "saved_model.pb").read_bytes()
    (base / "123" / "saved_model.pb").write_bytes(b"no model")
    flags = ("--max_num_load_retries=1000000", "--load_retry_interval_micros=50000")
    with EmbeddedServer(tmp_path, f"--model_base_path={base}", *flags, wait=False) as server:
        wait_for(lambda: server.log.count("{name: default version: 123} failed: ") > 1)
        assert RUNNING not in server.log
        (base / "123" / "saved_model.pb").write_bytes(content)
        wait_for(lambda: RUNNING in server.log)
        assert server.states("default") == {123: "AVAILABLE"}
        assert server.half() == (123, 3.0)


def test_a_base_path_that_comes_later_is_waited_for(base: Path, tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path, f"--model_base_path={tmp_path / 'later'}", wait=False) as server:
        wait_for(lambda: f"Could not find base path {tmp_path / 'later'}" in server.log)
        base.rename(tmp_path / "later")
        wait_for(lambda: RUNNING in server.log)
        assert server.half() == (123, 3.0)
    log = server.log
    assert log.index("Successfully loaded servable version") < log.index(RUNNING)


def test_a_server_that_waits_can_be_told_to_end(tmp_path: Path) -> None:
    with EmbeddedServer(tmp_path, f"--model_base_path={tmp_path / 'never'}", wait=False) as server:
        wait_for(lambda: "Could not find base path" in server.log)
        server.process.send_signal(signal.SIGTERM)
        assert server.process.wait(timeout=PATIENCE) == 0
        assert RUNNING not in server.log


def test_a_server_whose_model_cannot_be_loaded_ends(base: Path, models: Path, tmp_path: Path) -> None:
    (base / "123" / "saved_model.pb").write_bytes(b"no model")
    config = tmp_path / "models.config"
    config.write_text(config_text(bad=entry(base), good=entry(models / "half_plus_two")))
    with EmbeddedServer(tmp_path, f"--model_config_file={config}", "--max_num_load_retries=0", wait=False) as server:
        assert server.process.wait(timeout=PATIENCE) == 1
        failed = "Failed to start server. Error: UNKNOWN: 1 model(s) did not become available: {{name: bad version: 123 due to error: "
        assert (failed in server.log, RUNNING in server.log) == (True, False)


def test_a_server_that_does_not_wait_serves_what_loads(base: Path, models: Path, tmp_path: Path) -> None:
    (base / "123" / "saved_model.pb").write_bytes(b"no model")
    config = tmp_path / "models.config"
    config.write_text(config_text(bad=entry(base), missing=entry(tmp_path / "missing"), good=entry(models / "half_plus_two")))
    flags = ("--max_num_load_retries=0", "--wait_for_models=false")
    with EmbeddedServer(tmp_path, f"--model_config_file={config}", *flags) as server:
        assert server.half("good") == (123, 3.0)
        assert server.states("bad") == {123: "END"}
        assert failure(lambda: server.half("missing")) == ("NOT_FOUND", "Servable not found for request: Latest(missing)")
        server.reload(config_text(good=entry(models / "half_plus_two"), other=entry(tmp_path / "missing")))
        assert server.half("good") == (123, 3.0)


def test_a_new_configuration_waits_for_its_models(base: Path, models: Path, tmp_path: Path) -> None:
    good = entry(models / "half_plus_two")
    (tmp_path / "models.config").write_text(config_text(good=good))
    with EmbeddedServer(tmp_path, "--model_config_file=models.config") as server:
        later = reload_request(config_text(good=good, later=entry(tmp_path / "later")))
        with pytest.raises(grpc.RpcError) as error:
            server.models.HandleReloadConfigRequest(later, 1)
        assert error.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
        assert server.half("good") == (123, 3.0)
        server.reload(config_text(good=good))  # the server takes other configurations meanwhile
        waiting = server.models.HandleReloadConfigRequest.future(later, PATIENCE)
        wait_for(lambda: server.log.count(f"Could not find base path {tmp_path / 'later'}") > 1)
        assert not waiting.done()
        base.rename(tmp_path / "later")
        assert waiting.result().status.error_code == 0
        assert server.half("later") == (123, 3.0)
        never = server.models.HandleReloadConfigRequest.future(reload_request(config_text(good=good, never=entry(base))), PATIENCE)
        wait_for(lambda: f"Could not find base path {base}" in server.log)
        server.reload(config_text(good=good))
        removed = "1 model(s) did not become available: {{name: never was removed by another configuration}, }"
        assert failure(never.result) == ("UNKNOWN", removed)
