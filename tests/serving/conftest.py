"""A registry and the model servers, real, on free ports, with a home of their own; shared by the tests of a module."""

import os
import signal
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import pytest
from mlflow import MlflowClient

from serving.server import Server
from serving.servers import connect
from tests.waiting import PATIENCE, wait_for
from windtunnel.errors import WindtunnelError
from windtunnel.ports import platform_ports
from windtunnel.registered import RegisteredVersion
from windtunnel.registry import register
from windtunnel.run import Lineage
from windtunnel.settings import ROOT, Settings
from windtunnel.tracking import client

LINEAGE = Lineage(dag_id="lenet5", run_id="test", git_commit="c0ffee", mlflow_run="parent", frameworks=("pytorch",))


@dataclass
class House:
    """Where a release happens. `start` and `kill` are for what is to go wrong."""

    settings: Settings
    processes: dict[str, subprocess.Popen[bytes]] = field(default_factory=dict)

    @property
    def environment(self) -> dict[str, str]:
        return (
            os.environ
            | self.settings.variables
            | {"TF_CPP_MIN_LOG_LEVEL": "2", "OMP_NUM_THREADS": "1", "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false", "PYTHONPATH": str(ROOT)}
        )

    @property
    def mlflow(self) -> MlflowClient:
        return client(self.settings)

    def server(self, name: str) -> Server:
        return connect(name, self.settings)

    def start(self, *names: str) -> None:
        """Start what is named of `mlflow`, `torchserve` and `tfserving`, at once, and wait until all answer.

        No thread may do that: a server ends with the thread that started it (PR_SET_PDEATHSIG).
        """
        home = self.settings.home
        mlflow = ["-m", "mlflow", "server", "--host", "127.0.0.1", "--port", str(self.settings.mlflow_port), "--workers", "1"]
        mlflow += ["--backend-store-uri", f"sqlite:///{home}/mlflow.db", "--artifacts-destination", f"{home}/mlruns"]
        for name in names:
            command = [sys.executable, *(mlflow if name == "mlflow" else ["-m", f"serving.{name}.serve"])]
            with (home / f"{name}.log").open("ab") as log:
                arguments = {"cwd": home, "stdout": log, "stderr": log, "start_new_session": True}
                self.processes[name] = subprocess.Popen(command, env=self.environment, **arguments)
        for name in names:
            wait_for(lambda name=name: self._answers(name), explain=lambda name=name: (home / f"{name}.log").read_text()[-3000:])

    def kill(self, name: str) -> None:
        """What `kill -9` does."""
        self.processes[name].send_signal(signal.SIGKILL)
        self.processes[name].wait()

    def stop(self) -> None:
        for process in self.processes.values():
            tree = psutil.Process(process.pid).children(recursive=True) if process.poll() is None else []
            process.terminate()
            process.wait(PATIENCE)
            _, alive = psutil.wait_procs(tree, PATIENCE)
            assert not alive, f"{alive} outlived its server"

    def register(self, directory: Path) -> RegisteredVersion:
        """Register a version's directory in the real registry."""
        experiment = self.mlflow.get_experiment_by_name("lenet5")
        run = self.mlflow.create_run(experiment.experiment_id if experiment else self.mlflow.create_experiment("lenet5"))
        self.mlflow.log_artifacts(run.info.run_id, str(directory), "version")
        return register(self.mlflow, directory, run.info.run_id, LINEAGE)

    def _answers(self, name: str) -> bool:
        assert self.processes[name].poll() is None, f"{name} has ended: {(self.settings.home / f'{name}.log').read_text()[-3000:]}"
        try:
            if name == "mlflow":
                return httpx.get(f"{self.settings.mlflow_url}/health", trust_env=False).is_success
            self.server(name).names()
            return self.server(name).served("lenet5-none").champion is None
        except (WindtunnelError, httpx.HTTPError):
            return False


@pytest.fixture(scope="module")
def house(tmp_path_factory):
    """Registry and both servers, up."""
    home = tmp_path_factory.mktemp("house")
    made = House(Settings(home=home, schedule=None, **platform_ports()))
    try:
        made.start("mlflow", "torchserve", "tfserving")
        yield made
    finally:
        made.stop()
