"""What every trainer does around its training (`train_server/README.md`): flags, lines of progress, the files of a version.

This module imports no framework.
"""

import argparse
import json
import platform
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import load_file

from windtunnel.errors import WindtunnelError
from windtunnel.files import sha256, write_json
from windtunnel.measure import cpu
from windtunnel.spec import Framework, Training

TOLERANCE = 1e-5  # by which a reloaded export may differ from the golden set: absolute, and relative to what is large

Tensors = dict[str, np.ndarray]
Model = Callable[[np.ndarray], Tensors]
"""What is recognised → `logits` and `probabilities`, float32, a row for each."""


def run_trainer_program(
    module: str, description: str, train: Callable[[Path, Path, Path, Path], None], verify: Callable[[Path], None]
) -> None:
    """Run a trainer's command line: `train(spec, data, conditions, out)`, or `verify(directory)`."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    parser.add_argument("--spec", type=Path, metavar="FILE", help="what to train")
    parser.add_argument("--data", type=Path, metavar="DIR", help="the data set's files")
    parser.add_argument("--conditions", type=Path, metavar="DIR", help="what the run has drawn or collected for its trainers")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the artefacts go; must not exist")
    parser.add_argument("--verify", type=Path, metavar="DIR", help="only reload the export in DIR and compare with its golden set")
    arguments = parser.parse_args()
    paths = (arguments.spec, arguments.data, arguments.conditions, arguments.out)
    if any(paths) if arguments.verify else not all(paths):
        parser.error("give --spec, --data, --conditions and --out, or --verify alone")
    try:
        if arguments.verify:
            verify(arguments.verify)
        else:
            train(*paths)
    except (WindtunnelError, OSError) as error:
        sys.exit(f"error: {error}")


@contextmanager
def new_version(out: Path) -> Iterator[Path]:
    """A directory to write a version into, which becomes `out` when all is written; an error leaves no `out`.

    Raises:
        WindtunnelError: `out` is there already.
    """
    if out.exists():
        raise WindtunnelError(f"{out} exists: choose another --out, or remove it")
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    yield partial
    partial.rename(out)


def report_start(spec: Training, program: str) -> None:
    """Print what is about to be trained, and with what."""
    steps = f"{spec.epochs} epochs of {spec.steps_per_epoch} steps"
    report(f"{program}  threads {spec.threads}  {spec.samples} samples of {spec.dataset}  {steps}")


def note_epoch(directory: Path, spec: Training, epoch: int, losses: np.ndarray, accuracy: float, seconds: float) -> dict[str, Any]:
    """Add an epoch's line to `metrics.jsonl`, print it, and return what it says; `losses` are those of its steps.

    Raises:
        WindtunnelError: a loss is not finite.
    """
    if not np.isfinite(losses).all():
        step = int(np.isfinite(losses).argmin())
        raise WindtunnelError(f"the loss is {losses[step]} in epoch {epoch}, step {step + 1}: train with a lower learning_rate")
    rate = len(losses) * spec.batch_size / seconds
    line = {"epoch": epoch, "loss": float(losses.mean()), "accuracy": accuracy, "seconds": seconds, "samples_per_second": rate}
    with (directory / "metrics.jsonl").open("a") as stream:
        stream.write(json.dumps(line) + "\n")
    report(f"epoch {epoch}/{spec.epochs}  loss {losses.mean():.4f}  accuracy {100 * accuracy:.2f} %  {seconds:.1f} s  {rate:.0f} samples/s")
    return line


def read_golden(directory: Path) -> Tensors:
    """The golden set of a version.

    Raises:
        WindtunnelError: it cannot be read.
    """
    try:
        return load_file(directory / "golden.safetensors")
    except OSError as error:
        raise WindtunnelError(f"{directory / 'golden.safetensors'} cannot be read ({error}): train again") from error


def verify_golden(path: Path, outputs: Tensors, golden: Tensors) -> None:
    """Hold what the export at `path` answers against the golden set.

    Raises:
        WindtunnelError: it differs by more than `TOLERANCE`, or in a label.
    """
    names = ("logits", "probabilities")
    difference = max(float(np.abs(outputs[name] - golden[name]).max()) for name in names)
    close = all(np.allclose(outputs[name], golden[name], rtol=TOLERANCE, atol=TOLERANCE) for name in names)
    wrong = int((outputs["logits"].argmax(axis=1) != golden["label"]).sum())
    if not close or wrong:
        raise WindtunnelError(
            f"{path} differs from its golden set by {difference:.1e} (allowed are {TOLERANCE:.0e}, absolute and "
            f"relative) and in {wrong} labels of {len(golden['label'])}: train again"
        )
    report(f"{path.name} verified against the golden set  largest difference {difference:.1e}")


@contextmanager
def verified_in_fresh_process(module: str, directory: Path) -> Iterator[None]:
    """Run a trainer's `--verify`, while the body runs, in a process that shares nothing with the one that trained.

    Raises:
        WindtunnelError: the export in `directory` differs from its golden set.
    """
    command = [sys.executable, "-m", module, "--verify", str(directory)]
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as verifying:
        try:
            yield
        except BaseException:
            verifying.kill()
            raise
        errors = verifying.communicate()[1].strip().splitlines()
    if verifying.returncode:
        raise WindtunnelError((errors or [f"{command} ended with {verifying.returncode}"])[-1].removeprefix("error: "))


def write_manifest(
    directory: Path,
    spec: Training,
    framework: Framework,
    packages: tuple[str, ...],
    dataset: dict[str, Any],
    epochs: list[dict[str, Any]],
    setup_seconds: float,
) -> None:
    """Write `manifest.json` over everything else in `directory`; `epochs` are the lines of `metrics.jsonl`, the last one the result."""
    seconds = sum(epoch["seconds"] for epoch in epochs)
    files = sorted(file for file in directory.rglob("*") if file.is_file())
    manifest = {
        "manifest_version": 1,
        "model": spec.model,
        "framework": framework,
        "spec": spec.model_dump(),
        "dataset": dataset,
        "metrics": {
            "accuracy": epochs[-1]["accuracy"],
            "loss": epochs[-1]["loss"],
            "seconds": seconds,
            "setup_seconds": setup_seconds,
            "samples_per_second": spec.steps * spec.batch_size / seconds,
        },
        "environment": {
            "packages": {name: version(name) for name in packages},
            "threads": spec.threads,
            "machine": platform.machine(),
            "cpu": cpu(),
        },
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "files": {str(file.relative_to(directory)): sha256(file) for file in files},
    }
    write_json(directory / "manifest.json", manifest)


def report(line: str) -> None:
    """Print a line of progress, at once."""
    print(line, flush=True)
