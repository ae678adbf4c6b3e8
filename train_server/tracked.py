"""A training as the platform keeps it: followed in MLflow and TensorBoard, and registered when its version is whole."""

import json
import time
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from train_server.graphs import exported_graph
from train_server.misclassified import as_png, draw_misclassified
from windtunnel.datasets import DataSet
from windtunnel.files import write_atomically, write_json
from windtunnel.manifest import verify_version
from windtunnel.registry import register
from windtunnel.run import Run
from windtunnel.settings import load_settings
from windtunnel.spec import Framework
from windtunnel.tracking import FrameworkRun, client, reachable


class Epochs:
    """Logs the lines of a trainer's `metrics.jsonl` as they appear, each once."""

    def __init__(self, tracked: FrameworkRun) -> None:
        self._tracked = tracked
        self._logged = 0

    def log_new(self, version: Path) -> None:
        """Log what has been added to `metrics.jsonl` of `version` since the last call."""
        file = version / "metrics.jsonl"
        if file.exists():
            whole_lines = file.read_text().split("\n")[:-1]
            for line in whole_lines[self._logged :]:
                self._tracked.log_epoch(json.loads(line), time.time())
            self._logged = len(whole_lines)


def track(run: Run, framework: Framework, data: DataSet | None, follow: Callable[[Callable[[], object]], None]) -> None:
    """Track a training of `run` to its end and register its version, once: the same bytes become one version.

    Args:
        run: whose spec it is.
        framework: what trains.
        data: the images it is tested on, if it is images.
        follow: waits until the version is whole, and meanwhile calls what it is given whenever there may be a new epoch.

    Raises:
        WindtunnelError: the training failed, MLflow does not do what it is asked, or a file is not what the manifest says.
    """
    settings, lineage, version = load_settings(), run.lineage(), run.version(framework)
    partial = version.with_name(version.name + ".partial")
    with reachable(settings):
        mlflow = client(settings)
        logs = settings.tensorboard_logs / run.name / framework
        tracked = FrameworkRun(mlflow, lineage.mlflow_run, framework, run.any_spec(), logs)
        status = "FAILED"
        try:
            epochs = Epochs(tracked)
            follow(lambda: epochs.log_new(partial))
            epochs.log_new(version)
            manifest = verify_version(version)
            if data:
                _show(tracked, data, version)
            environment = manifest.environment
            packages = {f"package.{name}": number for name, number in environment.packages.items()}
            tags = {"cpu": environment.cpu, "machine": environment.machine, "data_fingerprint": manifest.dataset.fingerprint, **packages}
            tracked.log_version(version, tags, manifest.metrics.model_dump())
            registered = register(mlflow, version, tracked.run_id, lineage)
            write_atomically(run.tracked(framework), registered.mlflow_run.encode())
            write_json(run.registered(framework), {**asdict(registered), "created": registered.created.isoformat()})
            status = "FINISHED"
        except SystemExit:
            status = "KILLED"
            raise
        finally:
            tracked.end(status)
    print(f"{registered.name} version {registered.version}, accuracy {registered.accuracy:.2%}, from {registered.dag_run}")


def _show(tracked: FrameworkRun, data: DataSet, version: Path) -> None:
    """To TensorBoard: the loss of each step, digits that were taken for others, the graph."""
    probe: dict[str, np.ndarray] = load_file(version / "probe.safetensors")
    tracked.log_losses(probe["losses"].tolist())
    picture = draw_misclassified(*data.test(), probe["predictions"])
    if picture:
        tracked.log.add_picture("misclassified", as_png(picture), *picture.size)
    tracked.log.add_graph(exported_graph(version))
