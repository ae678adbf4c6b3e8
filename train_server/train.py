"""Train one framework of a run: its program is started, watched and tracked; what it wrote is checked.

    python -m train_server.train --run DIR --framework pytorch

The program keeps the contract of `train_server/README.md` and knows nothing of MLflow, TensorBoard or Airflow.
"""

import json
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from safetensors.numpy import load_file

from train_server.graphs import exported_graph
from train_server.misclassified import as_png, draw_misclassified
from windtunnel.datasets import DataSet, locate
from windtunnel.errors import WindtunnelError
from windtunnel.files import write_atomically
from windtunnel.manifest import verify_version
from windtunnel.process import die_with_parent
from windtunnel.program import run_program
from windtunnel.recordings import locate_recordings
from windtunnel.run import Run
from windtunnel.settings import ROOT, load_settings
from windtunnel.spec import Framework, Spec, load_any_spec
from windtunnel.tracking import FrameworkRun, client, reachable

PROGRAMS: dict[str, dict[Framework, list[str]]] = {
    "lenet5": {
        "libtorch": [str(ROOT / "libtorch_cpp/build/lenet5")],
        "pytorch": [sys.executable, "-m", "train_server.lenet5.pytorch"],
        "tensorflow": [sys.executable, "-m", "train_server.lenet5.tensorflow"],
    },
    "speech_commands": {"pytorch": [sys.executable, "-m", "train_server.speech_commands.pytorch"]},
}
"""The trainer of each model and framework."""


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


def run_trainer(
    framework: Framework, spec: Path, data: Path, conditions: Path, out: Path, after_line: Callable[[], object] = lambda: None
) -> None:
    """Run the program that trains a spec to its end, passing its lines on as they come; `after_line` is called after each.

    Raises:
        WindtunnelError: it could not be started, or ended with another status than 0.
    """
    flags = {"--spec": spec, "--data": data, "--conditions": conditions, "--out": out}
    command = PROGRAMS[load_any_spec(spec).model][framework] + [str(word) for flag in flags.items() for word in flag]
    try:
        trainer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=die_with_parent)
    except OSError as error:
        raise WindtunnelError(f"{command[0]} cannot be started ({error.strerror}); build it with `make setup`") from error
    with trainer:
        try:
            for line in trainer.stdout or ():
                print(line, end="", flush=True)
                after_line()
        except BaseException:
            trainer.kill()
            raise
    if trainer.returncode < 0:
        raise WindtunnelError(f"the {framework} trainer was ended by {signal.Signals(-trainer.returncode).name}; start its task again")
    if trainer.returncode:
        raise WindtunnelError(f"the {framework} trainer ended with status {trainer.returncode}; its lines above say why")


def _show(tracked: FrameworkRun, data: DataSet, version: Path) -> None:
    """To TensorBoard: the loss of each step, digits that were taken for others, the graph."""
    probe: dict[str, np.ndarray] = load_file(version / "probe.safetensors")
    tracked.log_losses(probe["losses"].tolist())
    picture = draw_misclassified(*data.test(), probe["predictions"])
    if picture:
        tracked.log.add_picture("misclassified", as_png(picture), *picture.size)
    tracked.log.add_graph(exported_graph(version))


def main(
    run: Annotated[Path, typer.Option(help="The run's directory, with its spec and conditions.")],
    framework: Annotated[Framework, typer.Option(help="The framework to train.")],
) -> None:
    """Train one framework of a run and track it. A version that is already there whole is kept as it is."""
    die_with_parent()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    settings = load_settings()
    here = Run(run)
    spec, lineage = here.any_spec(), here.lineage()
    data = locate(spec.dataset) if isinstance(spec, Spec) else locate_recordings(spec.dataset)
    version = here.version(framework)
    with reachable(settings):
        logs = settings.tensorboard_logs / here.name / framework
        tracked = FrameworkRun(client(settings), lineage.mlflow_run, framework, spec, logs)
        status = "FAILED"
        try:
            epochs = Epochs(tracked)
            if version.exists():
                print(f"{version} was trained by an earlier try of this task")
                epochs.log_new(version)
            else:
                partial = version.with_name(version.name + ".partial")
                run_trainer(framework, here.spec_file, data.directory, here.conditions, version, lambda: epochs.log_new(partial))
                epochs.log_new(version)
            manifest = verify_version(version)
            if isinstance(data, DataSet):
                _show(tracked, data, version)
            environment = manifest.environment
            packages = {f"package.{name}": number for name, number in environment.packages.items()}
            tags = {"cpu": environment.cpu, "machine": environment.machine, "data_fingerprint": manifest.dataset.fingerprint, **packages}
            tracked.log_version(version, tags, manifest.metrics.model_dump())
            write_atomically(here.tracked(framework), tracked.run_id.encode())
            status = "FINISHED"
        except SystemExit:
            status = "KILLED"
            raise
        finally:
            tracked.end(status)


if __name__ == "__main__":
    run_program(main)
