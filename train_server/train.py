"""Train one framework of a run: its program is started, watched and tracked; what it wrote is checked.

    python -m train_server.train --run DIR --framework pytorch

The program keeps the contract of `train_server/README.md` and knows nothing of MLflow, TensorBoard or Airflow.
"""

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from safetensors.numpy import load_file

from train_server.graphs import exported_graph
from train_server.misclassified import as_png, draw_misclassified
from windtunnel.datasets import locate
from windtunnel.errors import WindtunnelError
from windtunnel.files import write_atomically
from windtunnel.manifest import verify_version
from windtunnel.process import die_with_parent
from windtunnel.program import run_program
from windtunnel.run import Run
from windtunnel.settings import ROOT, load_settings
from windtunnel.spec import Framework
from windtunnel.tracking import FrameworkRun, client, reachable

PROGRAMS: dict[Framework, list[str]] = {
    "libtorch": [str(ROOT / "libtorch_cpp/build/lenet5")],
    "pytorch": [sys.executable, "-m", "train_server.lenet5.pytorch"],
    "tensorflow": [sys.executable, "-m", "train_server.lenet5.tensorflow"],
}


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


def run_trainer(run: Run, framework: Framework, data: Path, epochs: Epochs) -> None:
    """Run a framework's program to its end, passing its lines on as they come.

    Raises:
        WindtunnelError: it could not be started, or ended with another status than 0.
    """
    version = run.version(framework)
    flags = {"--spec": run.spec_file, "--data": data, "--conditions": run.conditions, "--out": version}
    command = PROGRAMS[framework] + [str(word) for flag in flags.items() for word in flag]
    try:
        trainer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=die_with_parent)
    except OSError as error:
        raise WindtunnelError(f"{command[0]} cannot be started ({error.strerror}); build it with `make setup`") from error
    with trainer:
        try:
            for line in trainer.stdout or ():
                print(line, end="", flush=True)
                epochs.log_new(version.with_name(version.name + ".partial"))
        except BaseException:
            trainer.kill()
            raise
    epochs.log_new(version)
    if trainer.returncode < 0:
        raise WindtunnelError(f"the {framework} trainer was ended by {signal.Signals(-trainer.returncode).name}; start its task again")
    if trainer.returncode:
        raise WindtunnelError(f"the {framework} trainer ended with status {trainer.returncode}; its lines above say why")


def main(
    run: Annotated[Path, typer.Option(help="The run's directory, with its spec and conditions.")],
    framework: Annotated[Framework, typer.Option(help="The framework to train.")],
) -> None:
    """Train one framework of a run and track it. A version that is already there whole is kept as it is."""
    die_with_parent()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    settings = load_settings()
    here = Run(run)
    spec, lineage = here.spec(), here.lineage()
    data = locate(spec.dataset)
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
                run_trainer(here, framework, data.directory, epochs)
            manifest = verify_version(version)
            probe: dict[str, np.ndarray] = load_file(version / "probe.safetensors")
            tracked.log_losses(probe["losses"].tolist())
            picture = draw_misclassified(*data.test(), probe["predictions"])
            if picture:
                tracked.log.add_picture("misclassified", as_png(picture), *picture.size)
            tracked.log.add_graph(exported_graph(version))
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
