"""Track a training in MLflow and TensorBoard, and register its version when it is complete."""

import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file

from train_server.reporting.graphs import exported_graph
from train_server.reporting.misclassified import as_png, draw_misclassified
from windtunnel.data.datasets import Content, DataSet
from windtunnel.files import write_atomically, write_json
from windtunnel.manifest import verify_version
from windtunnel.model import find_model
from windtunnel.registry import register
from windtunnel.run import Run
from windtunnel.settings import load_settings
from windtunnel.tracking import FrameworkRun, client, reachable


class Epochs:
    """Logs each line of a trainer's `metrics.jsonl` once, as it appears."""

    def __init__(self, tracked: FrameworkRun) -> None:
        self._tracked = tracked
        self._logged = 0

    def log_new(self, version: Path) -> None:
        """Log the lines that were added to `metrics.jsonl` of `version` since the last call."""
        file = version / "metrics.jsonl"
        if file.exists():
            whole_lines = file.read_text().split("\n")[:-1]
            for line in whole_lines[self._logged :]:
                self._tracked.log_epoch(json.loads(line), time.time())
            self._logged = len(whole_lines)


def track(run: Run, framework: str, data: Content, follow: Callable[[Callable[[], object]], None]) -> None:
    """Track a training of `run` until it ends, and register its version. Registering the same bytes again creates no new version.

    Args:
        run: the run.
        framework: the framework that trains.
        data: the data that it trains on.
        follow: waits until the version is complete; it calls its argument whenever there may be a new epoch.

    Raises:
        WindtunnelError: the training failed, MLflow did not answer or refused, or a file differs from the manifest.
    """
    settings, lineage, version = load_settings(), run.lineage(), run.version(framework)
    partial = version.with_name(version.name + ".partial")
    with reachable(settings):
        mlflow = client(settings)
        logs = settings.tensorboard_logs / run.name / framework
        tracked = FrameworkRun(mlflow, lineage, framework, run.spec(), logs)
        status = "FAILED"
        try:
            epochs = Epochs(tracked)
            follow(lambda: epochs.log_new(partial))
            epochs.log_new(version)
            manifest = verify_version(version)
            _show(tracked, data, version, version / find_model(manifest.model).framework(framework).export)
            environment = manifest.environment
            packages = {f"package.{name}": number for name, number in environment.packages.items()}
            tags = {"cpu": environment.cpu, "machine": environment.machine, "data_fingerprint": manifest.dataset.fingerprint, **packages}
            tracked.log_version(version, tags, manifest.metrics.model_dump())
            registered = register(mlflow, version, tracked.run_id, lineage)
            write_atomically(run.tracked(framework), registered.mlflow_run.encode())
            write_json(run.registered(framework), {**registered.as_dict(), "created": registered.created.isoformat()})
            status = "FINISHED"
        except SystemExit:
            status = "KILLED"
            raise
        finally:
            tracked.end(status)
    print(f"{registered.name} version {registered.version}, {registered.measured}, from {registered.dag_run}")


def _show(tracked: FrameworkRun, data: Content, version: Path, export: Path) -> None:
    """Write what there is of these to TensorBoard: the loss of each step, misclassified images, and the graph of the export."""
    file = version / "probe.safetensors"
    probe: dict[str, np.ndarray] = load_file(file) if file.exists() else {}
    if "losses" in probe:
        tracked.log_losses(probe["losses"].tolist())
    if isinstance(data, DataSet) and "predictions" in probe and (picture := draw_misclassified(*data.test(), probe["predictions"])):
        tracked.log.add_picture("misclassified", as_png(picture), *picture.size)
    if graph := exported_graph(export):
        tracked.log.add_graph(graph)
