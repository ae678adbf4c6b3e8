"""Train one framework of a run: its program is started, watched and tracked; what it wrote is checked and registered.

    python -m train_server.train --run DIR --framework pytorch

The program keeps the contract of `train_server/README.md` and knows nothing of MLflow, TensorBoard or Airflow.
"""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from windtunnel.datasets import DataSet, locate
from windtunnel.errors import WindtunnelError
from windtunnel.manifest import verify_version
from windtunnel.process import die_with_parent
from windtunnel.program import run_program
from windtunnel.recordings import locate_recordings
from windtunnel.run import Run
from windtunnel.settings import ROOT
from windtunnel.spans import noted
from windtunnel.spec import Framework, Spec, load_any_spec

PROGRAMS: dict[str, dict[Framework, list[str]]] = {
    "lenet5": {
        "libtorch": [str(ROOT / "libtorch_cpp/build/lenet5")],
        "pytorch": [sys.executable, "-m", "train_server.lenet5.pytorch"],
        "tensorflow": [sys.executable, "-m", "train_server.lenet5.tensorflow"],
    },
    "speech_commands": {"pytorch": [sys.executable, "-m", "train_server.speech_commands.pytorch"]},
}
"""The trainer of each model and framework."""


@contextmanager
def started(framework: Framework, spec: Path, data: Path, conditions: Path, out: Path) -> Iterator[subprocess.Popen[str]]:
    """The program that trains a spec, started; it is killed if the body fails.

    Raises:
        WindtunnelError: it could not be started.
    """
    flags = {"--spec": spec, "--data": data, "--conditions": conditions, "--out": out}
    command = PROGRAMS[load_any_spec(spec).model][framework] + [str(word) for flag in flags.items() for word in flag]
    try:
        trainer = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, preexec_fn=partial(die_with_parent, os.getpid()))
    except OSError as error:
        raise WindtunnelError(f"{command[0]} cannot be started ({error.strerror}); build it with `make setup`") from error
    with trainer:
        try:
            yield trainer
        except BaseException:
            trainer.kill()
            raise


def follow(trainer: subprocess.Popen[str], framework: Framework, after_line: Callable[[], object] = lambda: None) -> None:
    """Wait for the end of a trainer, passing its lines on as they come; `after_line` is called after each.

    Raises:
        WindtunnelError: it ended with another status than 0.
    """
    for line in trainer.stdout or ():
        print(line, end="", flush=True)
        after_line()
    if status := trainer.wait():
        if status < 0:
            raise WindtunnelError(f"the {framework} trainer was ended by {signal.Signals(-status).name}; start its task again")
        raise WindtunnelError(f"the {framework} trainer ended with status {status}; its lines above say why")


def run_trainer(framework: Framework, spec: Path, data: Path, conditions: Path, out: Path) -> None:
    """Run the program that trains a spec to its end, passing its lines on as they come.

    Raises:
        WindtunnelError: it could not be started, or ended with another status than 0.
    """
    with started(framework, spec, data, conditions, out) as trainer:
        follow(trainer, framework)


def main(
    run: Annotated[Path, typer.Option(help="The run's directory, with its spec and conditions.")],
    framework: Annotated[Framework, typer.Option(help="The framework to train.")],
) -> None:
    """Train one framework of a run, track it and register the version. What an earlier try has done is kept as it is."""
    die_with_parent()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    here = Run(run)
    spec, version = here.any_spec(), here.version(framework)
    data = locate(spec.dataset) if isinstance(spec, Spec) else locate_recordings(spec.dataset)
    images = data if isinstance(data, DataSet) else None
    with noted(here, "training"):
        if version.exists():
            verify_version(version)
            print(f"{version} was trained by an earlier try of this task")
            if not here.registered(framework).exists():
                _track(here, framework, images, lambda after_line: None)
            return
        with started(framework, here.spec_file, data.directory, here.conditions, version) as trainer:
            _track(here, framework, images, lambda after_line: follow(trainer, framework, after_line))


def _track(run: Run, framework: Framework, data: DataSet | None, wait: Callable[[Callable[[], object]], None]) -> None:
    """As `train_server.tracked.track`. The trainer has a processor to itself while this one imports MLflow, for two seconds."""
    from train_server.tracked import track

    track(run, framework, data, wait)


if __name__ == "__main__":
    run_program(main)
