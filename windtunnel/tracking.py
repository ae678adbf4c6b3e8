"""Log runs and frameworks to MLflow and to one TensorBoard log directory, in which all share the same axes."""

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from urllib.parse import urlsplit

from mlflow import MlflowClient
from mlflow.entities import Metric, Param, RunTag
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import RESOURCE_ALREADY_EXISTS, ErrorCode
from mlflow.utils.mlflow_tags import MLFLOW_PARENT_RUN_ID

from windtunnel.errors import WindtunnelError
from windtunnel.eventlog import EventLog
from windtunnel.model import find_model
from windtunnel.platform.network import without_proxy
from windtunnel.run import Lineage
from windtunnel.settings import Settings
from windtunnel.spec import Training


def client(settings: Settings) -> MlflowClient:
    """Return a client of the platform's MLflow, for tracking and registry."""
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # there are only a few small files
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # the result of a run shows it
    os.environ.update(without_proxy(os.environ, str(urlsplit(settings.mlflow_url).hostname)))  # MLflow's client has no option for it
    return MlflowClient(tracking_uri=settings.mlflow_url, registry_uri=settings.mlflow_url)


@contextmanager
def reachable(settings: Settings) -> Iterator[None]:
    """Turn exceptions of MLflow's client into a one-line error with the next step."""
    try:
        yield
    except MlflowException as error:
        reason = str(error).splitlines()[0]
        raise WindtunnelError(f"a request to MLflow at {settings.mlflow_url} failed ({reason}); see `windtunnel status`") from error


@contextmanager
def created_once() -> Iterator[None]:
    """Ignore MLflow's error that something already exists: another process may have created it at the same time."""
    try:
        yield
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
            raise


def start_parent(mlflow: MlflowClient, model: str, run_name: str, tags: dict[str, str]) -> str:
    """Start the MLflow run of a whole DAG run, in the model's experiment, and return its id."""
    return mlflow.create_run(_experiment(mlflow, model), run_name=run_name, tags=tags).info.run_id


def _experiment(mlflow: MlflowClient, name: str) -> str:
    """Return the id of the experiment of this name. Create it if it is missing; two runs may do so at once."""
    while not (found := mlflow.get_experiment_by_name(name)):
        with created_once():
            mlflow.create_experiment(name)
    return found.experiment_id


class FrameworkRun:
    """Logs one framework's training while it runs: to an MLflow run nested in that of the DAG run, and to TensorBoard, as `log`."""

    def __init__(self, mlflow: MlflowClient, lineage: Lineage, framework: str, spec: Training, logs: Path) -> None:
        self._mlflow = mlflow
        self._metric = find_model(spec.model).metric.name
        experiment = mlflow.get_run(lineage.mlflow_run).info.experiment_id
        # dags/plugins/mlflow_runs.py finds the MLflow runs of a DAG run by `dag_id` and `run_id`
        of = {"dag_id": lineage.dag_id, "run_id": lineage.run_id}
        tags = {MLFLOW_PARENT_RUN_ID: lineage.mlflow_run, "framework": framework, **of}
        self.run_id = mlflow.create_run(experiment, run_name=framework, tags=tags).info.run_id
        hyperparameters = {"framework": framework, **spec.hyperparameters}
        mlflow.log_batch(self.run_id, params=[Param(name, str(value)) for name, value in hyperparameters.items()])
        self.log = EventLog(logs)
        self.log.add_hyperparameters(hyperparameters, f"{framework} {logs.parent.name}", self._metric)

    def log_epoch(self, line: dict[str, float], now: float) -> None:
        """Log a line of `metrics.jsonl`, `now` being seconds since 1970."""
        epoch = int(line["epoch"])
        values = {name: line[name] for name in ("loss", self._metric, "seconds", "samples_per_second")}
        self._mlflow.log_batch(self.run_id, metrics=[Metric(name, value, int(now * 1000), epoch) for name, value in values.items()])
        for name, value in values.items():
            self.log.add_scalar(f"epoch/{name}", value, epoch, now)
        self.log.flush()

    def log_losses(self, losses: list[float]) -> None:
        """Log the loss of the training steps to TensorBoard, about 500 of them at most."""
        for step in range(0, len(losses), max(1, len(losses) // 500)):
            self.log.add_scalar("step/loss", losses[step], step)

    def log_version(self, directory: Path, tags: dict[str, str], metrics: dict[str, float]) -> None:
        """Log the version's files as the artefact `version`, with `tags`, and with `metrics` as `final_…`."""
        self._mlflow.log_batch(
            self.run_id,
            metrics=[Metric(f"final_{name}", value, 0, 0) for name, value in metrics.items()],
            tags=[RunTag(name, value) for name, value in tags.items()],
        )
        self._mlflow.log_artifacts(self.run_id, str(directory), "version")
        for name in (self._metric, "seconds"):
            self.log.add_scalar(f"final/{name}", metrics[name], 0)

    def end(self, status: str) -> None:
        """End the MLflow run as `FINISHED`, `FAILED` or `KILLED`."""
        self.log.close()
        self._mlflow.set_terminated(self.run_id, status)
