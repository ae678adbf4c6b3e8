"""Tracking: each run and framework in MLflow, and all of them in one TensorBoard log tree, on the same axes."""

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
from windtunnel.network import without_proxy
from windtunnel.settings import Settings
from windtunnel.spec import Framework, Training

EPOCH_METRICS = ("loss", "accuracy", "seconds", "samples_per_second")


def client(settings: Settings) -> MlflowClient:
    """A client of the platform's MLflow, for tracking and registry."""
    logging.getLogger("mlflow").setLevel(logging.WARNING)
    os.environ.setdefault("MLFLOW_ENABLE_ARTIFACTS_PROGRESS_BAR", "false")  # a handful of small files
    os.environ.setdefault("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", "true")  # a run's result names it
    os.environ.update(without_proxy(os.environ, str(urlsplit(settings.mlflow_url).hostname)))  # of all that it can be told, not this
    return MlflowClient(tracking_uri=settings.mlflow_url, registry_uri=settings.mlflow_url)


@contextmanager
def reachable(settings: Settings) -> Iterator[None]:
    """Turn what MLflow's client raises into one line that says what to do."""
    try:
        yield
    except MlflowException as error:
        reason = str(error).splitlines()[0]
        raise WindtunnelError(f"MLflow at {settings.mlflow_url} did not do what was asked ({reason}); see `windtunnel status`") from error


@contextmanager
def created_once() -> Iterator[None]:
    """Pass over MLflow's refusal to create what is there already: another may have created it at the same time."""
    try:
        yield
    except MlflowException as error:
        if error.error_code != ErrorCode.Name(RESOURCE_ALREADY_EXISTS):
            raise


def start_parent(mlflow: MlflowClient, model: str, run_name: str, tags: dict[str, str]) -> str:
    """Start the MLflow run of a whole DAG run, in the model's experiment, and return its id."""
    return mlflow.create_run(_experiment(mlflow, model), run_name=run_name, tags=tags).info.run_id


def _experiment(mlflow: MlflowClient, name: str) -> str:
    """The id of the experiment of this name, which two runs may want to create at once."""
    while not (found := mlflow.get_experiment_by_name(name)):
        with created_once():
            mlflow.create_experiment(name)
    return found.experiment_id


class FrameworkRun:
    """One framework's training, logged while it happens: an MLflow run nested in the DAG run's, and a TensorBoard directory, `log`."""

    def __init__(self, mlflow: MlflowClient, parent: str, framework: Framework, spec: Training, logs: Path) -> None:
        self._mlflow = mlflow
        experiment = mlflow.get_run(parent).info.experiment_id
        tags = {MLFLOW_PARENT_RUN_ID: parent, "framework": framework}
        self.run_id = mlflow.create_run(experiment, run_name=framework, tags=tags).info.run_id
        hyperparameters = {"framework": framework, **spec.hyperparameters}
        mlflow.log_batch(self.run_id, params=[Param(name, str(value)) for name, value in hyperparameters.items()])
        self.log = EventLog(logs)
        self.log.add_hyperparameters(hyperparameters, f"{framework} {logs.parent.name}")

    def log_epoch(self, line: dict[str, float], now: float) -> None:
        """Log a line of `metrics.jsonl`, `now` being seconds since 1970."""
        epoch = int(line["epoch"])
        values = {name: line[name] for name in EPOCH_METRICS}
        self._mlflow.log_batch(self.run_id, metrics=[Metric(name, value, int(now * 1000), epoch) for name, value in values.items()])
        for name, value in values.items():
            self.log.add_scalar(f"epoch/{name}", value, epoch, now)
        self.log.flush()

    def log_losses(self, losses: list[float]) -> None:
        """Log the loss of the training steps to TensorBoard, at most some 500 of them."""
        for step in range(0, len(losses), max(1, len(losses) // 500)):
            self.log.add_scalar("step/loss", losses[step], step)

    def log_version(self, directory: Path, tags: dict[str, str], metrics: dict[str, float]) -> None:
        """Log the whole version as the artefact `version`, with what its manifest says as tags and as `final_…` metrics."""
        self._mlflow.log_batch(
            self.run_id,
            metrics=[Metric(f"final_{name}", value, 0, 0) for name, value in metrics.items()],
            tags=[RunTag(name, value) for name, value in tags.items()],
        )
        self._mlflow.log_artifacts(self.run_id, str(directory), "version")
        for name in ("accuracy", "seconds"):
            self.log.add_scalar(f"final/{name}", metrics[name], 0)

    def end(self, status: str) -> None:
        """End the MLflow run as `FINISHED`, `FAILED` or `KILLED`."""
        self.log.close()
        self._mlflow.set_terminated(self.run_id, status)
