"""MLflow's server as the platform starts it."""

import os
import subprocess
import sys

import httpx
import psutil
import pytest
from mlflow import MlflowClient

from tests.processes import started
from tests.waiting import wait_for
from windtunnel.platform.ports import free_ports
from windtunnel.settings import ROOT

OWN = {"MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "MLFLOW_DISABLE_TELEMETRY": "true", "PYTHONPATH": str(ROOT)}


@pytest.mark.minutes(1)
def test_the_server_is_one_process_that_keeps_runs_and_their_files(tmp_path):
    (port,) = free_ports(1)
    url = f"http://127.0.0.1:{port}"
    flags = ["--host", "127.0.0.1", "--port", str(port), "--workers", "1"]
    flags += ["--backend-store-uri", f"sqlite:///{tmp_path}/mlflow.db", "--artifacts-destination", str(tmp_path / "files")]
    command = [sys.executable, "-m", "windtunnel.platform.mlflow", *flags]
    log = tmp_path / "log"

    def answers() -> bool:
        assert process.poll() is None, log.read_text()[-3000:]
        try:
            return httpx.get(f"{url}/health", trust_env=False).is_success
        except httpx.HTTPError:
            return False

    with log.open("w") as output, started(command, env=os.environ | OWN, cwd=tmp_path, stdout=output, stderr=output) as process:
        wait_for(answers, explain=log.read_text)
        assert psutil.Process(process.pid).children() == []
        client = MlflowClient(url)
        run = client.create_run(client.create_experiment("one")).info.run_id
        client.log_text(run, "a file", "file.txt")
        assert [file.path for file in client.list_artifacts(run)] == ["file.txt"]
        assert [file.read_text() for file in (tmp_path / "files").rglob("file.txt")] == ["a file"]


def test_a_flag_that_is_none_is_an_error(tmp_path):
    command = [sys.executable, "-m", "windtunnel.platform.mlflow", "--nonsense"]
    done = subprocess.run(command, env=os.environ | OWN, cwd=tmp_path, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert "No such option" in done.stderr
