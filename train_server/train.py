"""Train one framework of a run: start its trainer, track it, then verify and register the version that it wrote.

    python -m train_server.train --run DIR --framework pytorch

The trainer keeps the contract of `train_server/README.md` and does not depend on MLflow, TensorBoard or Airflow.
"""

import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from train_server.version import check_conditions, new_directory, verify_export, write_manifest
from windtunnel.data.datasets import Content
from windtunnel.errors import WindtunnelError
from windtunnel.log_groups import folded_if_long
from windtunnel.manifest import verify_version
from windtunnel.model import Framework, find_model, load_any_spec
from windtunnel.platform.child_processes import die_with_parent, ending_with_parent
from windtunnel.platform.program import run_program
from windtunnel.run import Run
from windtunnel.spans import noted

AfterLine = Callable[[], object]
"""Called after each line that a trainer has printed."""

_print = partial(print, flush=True)


@contextmanager
def training(
    framework: Framework, spec_file: Path, data: Content, conditions: Path, out: Path, say: Callable[[str], object] = _print
) -> Iterator[Callable[[AfterLine], None]]:
    """Start a trainer that writes a new version. The context yields a function; the body calls it once to wait until `out` is complete.

    The trainer writes into `out`.partial, which is renamed after the export was verified in a fresh process, so `out` is either complete
    or absent. The trainer is killed if the body fails.

    Args:
        framework: the framework that trains.
        spec_file: the spec.
        data: the data, which was verified when it was read.
        conditions: the directory of the run's conditions.
        out: the version's directory.
        say: receives each line that the trainer prints.

    Raises:
        WindtunnelError: an input differs from the conditions, `out` exists, the trainer could not be started or failed, or its export
            differs from the trained model.
    """
    check_conditions(spec_file, data, conditions)
    directory = new_directory(out)
    with _started(framework, spec_file, data.directory, conditions, directory) as trainer:

        def finish(after_line: AfterLine) -> None:
            _follow(trainer, framework.name, say, after_line)
            verify_export(framework.command, directory, say)
            write_manifest(directory, load_any_spec(spec_file), framework, data.lineage())
            directory.rename(out)
            say(f"export verified in a fresh process  {out}")

        yield finish


@contextmanager
def _started(framework: Framework, spec_file: Path, data: Path, conditions: Path, out: Path) -> Iterator[subprocess.Popen[str]]:
    flags = {"--spec": spec_file, "--data": data, "--conditions": conditions, "--out": out}
    command = [*framework.command, *(str(word) for flag in flags.items() for word in flag)]
    if not shutil.which(command[0]):
        raise WindtunnelError(f"{command[0]} is no program that can be started. Build it with `make setup`")
    with subprocess.Popen(ending_with_parent(command), stdout=subprocess.PIPE, text=True) as trainer:
        try:
            yield trainer
        except BaseException:
            trainer.kill()
            raise


def _follow(trainer: subprocess.Popen[str], framework: str, say: Callable[[str], object], after_line: AfterLine) -> None:
    for line in trainer.stdout or ():
        say(line.rstrip("\n"))
        after_line()
    if status := trainer.wait():
        if status < 0:
            raise WindtunnelError(f"the {framework} trainer was terminated by {signal.Signals(-status).name}. Run its task again")
        raise WindtunnelError(f"the {framework} trainer ended with status {status}. See its error above")


def run_trainer(
    framework: Framework, spec_file: Path, data: Content, conditions: Path, out: Path, say: Callable[[str], object] = _print
) -> None:
    """Train a version with `training` and wait until it is complete.

    Raises:
        WindtunnelError: as for `training`.
    """
    with training(framework, spec_file, data, conditions, out, say) as finish:
        finish(lambda: None)


def main(
    run: Annotated[Path, typer.Option(help="The run's directory, with its spec and conditions.")],
    framework: Annotated[str, typer.Option(help="The framework to train.")],
) -> None:
    """Train one framework of a run, track it and register the version. A version that an earlier attempt trained is kept."""
    die_with_parent()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    here = Run(run)
    spec, version = here.spec(), here.version(framework)
    model = find_model(spec.model)
    trainer = model.framework(framework)
    data: Content = model.load(model.data)(spec.dataset)
    with noted(here, "training"):
        if version.exists():
            verify_version(version)
            print(f"{version} was trained by an earlier attempt of this task")
            if not here.registered(framework).exists():
                _track(here, framework, data, lambda after_line: None)
            return
        with training(trainer, here.spec_file, data, here.conditions, version) as finish:

            def wait(after_line: AfterLine) -> None:
                with folded_if_long(f"{spec.epochs} epochs", spec.epochs):
                    finish(after_line)

            _track(here, framework, data, wait)


def _track(run: Run, framework: str, data: Content, wait: Callable[[AfterLine], None]) -> None:
    """Call `train_server.tracked.track`. Its import of MLflow takes two seconds, during which the trainer already runs."""
    from train_server.tracked import track

    track(run, framework, data, wait)


if __name__ == "__main__":
    run_program(main)
