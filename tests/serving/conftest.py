"""A registry and the model servers, real, on free ports, with a home of their own; shared by the tests of a module."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx
import psutil
import pytest
from mlflow import MlflowClient

from serving.backends.base import Server
from serving.backends.catalog import connect
from tests.waiting import PATIENCE, wait_for
from windtunnel.backend import find_backend
from windtunnel.errors import WindtunnelError
from windtunnel.platform.ports import platform_ports
from windtunnel.platform.secrets import make_signing_key
from windtunnel.registered import RegisteredVersion
from windtunnel.registry import register
from windtunnel.run import Lineage
from windtunnel.settings import ROOT, Settings
from windtunnel.signatures import sign_registered
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
            command = [sys.executable, *(mlflow if name == "mlflow" else ["-m", find_backend(name).program])]
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

    def register(self, directory: Path, signed: bool = True) -> RegisteredVersion:
        """Register a version's directory in the real registry, and sign it, as a training task does."""
        experiment = self.mlflow.get_experiment_by_name("lenet5")
        run = self.mlflow.create_run(experiment.experiment_id if experiment else self.mlflow.create_experiment("lenet5"))
        self.mlflow.log_artifacts(run.info.run_id, str(directory), "version")
        known = register(self.mlflow, directory, run.info.run_id, LINEAGE)
        if signed:
            sign_registered(self.settings, known.name, known.version, directory, known.dag_run)
        return known

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
    with house_of(tmp_path_factory.mktemp("house"), "mlflow", "torchserve", "tfserving") as made:
        yield made


@pytest.fixture(scope="module")
def small_house(tmp_path_factory):
    """Registry and the embedded server, up; TorchServe and the speech server are down."""
    with house_of(tmp_path_factory.mktemp("house"), "mlflow", "tfserving") as made:
        yield made


@contextmanager
def house_of(home: Path, *names: str) -> Iterator[House]:
    """What is named, up, with a home of its own."""
    made = House(Settings(home=home, schedule=None, **platform_ports()))
    make_signing_key(made.settings)
    try:
        made.start(*names)
        yield made
    finally:
        made.stop()
