"""The part of the trainer contract (`train_server/README.md`) that the Python trainers share: flags, progress, metrics, the golden set.

This module imports no framework.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import psutil

from windtunnel.errors import WindtunnelError
from windtunnel.golden import TOLERANCE, Tensors, far, wrong_labels
from windtunnel.model import Model as Declaration
from windtunnel.model import find_model
from windtunnel.spec import Training

Model = Callable[[np.ndarray], Tensors]
"""Inputs (N,…) → the declared outputs by name, float32, a row for each input."""


def run_trainer_program(
    module: str,
    description: str,
    train: Callable[[Path, Path, Path, Path], None],
    verify: Callable[[Path], None],
    flags: Sequence[str] | None = None,
) -> None:
    """Parse `flags`, or the command line, and call `train(spec, data, conditions, out)` or `verify(directory)`."""
    parser = argparse.ArgumentParser(prog=f"python -m {module}", description=description)
    parser.add_argument("--spec", type=Path, metavar="FILE", help="the spec")
    parser.add_argument("--data", type=Path, metavar="DIR", help="the data set's files")
    parser.add_argument("--conditions", type=Path, metavar="DIR", help="the run's conditions")
    parser.add_argument("--out", type=Path, metavar="DIR", help="an empty directory for the artefacts")
    parser.add_argument("--verify", type=Path, metavar="DIR", help="only reload the export in DIR and compare it with its golden set")
    arguments = parser.parse_args(flags)
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


def report_start(spec: Training, program: str) -> float:
    """Print the program, its threads and the spec; return the seconds since the program started."""
    steps = f"{spec.epochs} epochs of {spec.steps_per_epoch} steps"
    report(f"{program}  threads {spec.threads}  {spec.samples} samples of {spec.dataset}  {steps}")
    return time.time() - psutil.Process().create_time()


def note_epoch(directory: Path, spec: Training, epoch: int, losses: np.ndarray, value: float, seconds: float, setup_seconds: float) -> None:
    """Append an epoch's line to `metrics.jsonl` and print it.

    Args:
        directory: the directory of the artefacts.
        spec: the spec.
        epoch: the number of the epoch, from 1.
        losses: those of its steps.
        value: that of the model's metric on the test set, such as the accuracy, 0..1.
        seconds: the duration of its training.
        setup_seconds: for the first line, from the start of the program to its first step.

    Raises:
        WindtunnelError: a loss is not finite.
    """
    metric = find_model(spec.model).metric
    if not np.isfinite(losses).all():
        step = int(np.isfinite(losses).argmin())
        raise WindtunnelError(f"the loss is {losses[step]} in epoch {epoch}, step {step + 1}: train with a lower learning_rate")
    rate = len(losses) * spec.batch_size / seconds
    line = {"epoch": epoch, "loss": float(losses.mean()), metric.name: value, "seconds": seconds, "samples_per_second": rate}
    if epoch == 1:
        line["setup_seconds"] = setup_seconds
    with (directory / "metrics.jsonl").open("a") as stream:
        stream.write(json.dumps(line) + "\n")
    measured = f"{metric.name} {metric.text(value).replace('%', ' %')}"  # as the C++ trainers print it
    report(f"epoch {epoch}/{spec.epochs}  loss {losses.mean():.4f}  {measured}  {seconds:.1f} s  {rate:.0f} samples/s")


def verify_golden(path: Path, outputs: Tensors, golden: Tensors, declared: Declaration) -> None:
    """Compare the `outputs` of the export at `path` with the golden set of a version of the declared model.

    Raises:
        WindtunnelError: an output is missing or has another shape, a value differs by more than `TOLERANCE`, or a label differs.
    """
    names = [output.name for output in declared.outputs]
    differing = {name: far(outputs.get(name), golden[name]) for name in names}
    for name in names:
        if differing[name] is None:
            found = f"shape {list(outputs[name].shape)}" if name in outputs else "nothing"
            raise WindtunnelError(f"{path} answers {name} of {found}, expected shape {list(golden[name].shape)}: train again")
    difference = max(float(np.abs(outputs[name] - golden[name]).max()) for name in names)
    wrong = wrong_labels(declared, outputs, golden)
    if wrong or any(np.any(each) for each in differing.values()):
        raise WindtunnelError(
            f"{path} differs from its golden set by {difference:.1e} (expected at most {TOLERANCE:.0e}, absolute "
            f"and relative) and in {wrong} of {len(golden['label'])} labels: train again"
        )
    report(f"{path.name} verified against the golden set  largest difference {difference:.1e}")


def report(line: str) -> None:
    """Print a line of progress and flush."""
    print(line, flush=True)
