"""The trainer contract (`train_server/README.md`) as code: everything of a trainer that is not its framework.

A framework's module defines one `Trainer` and ends in `main(ThatTrainer)`. This module imports no framework.
"""

import argparse
import json
import platform
import shutil
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import psutil
from safetensors.numpy import load_file, save_file

from windtunnel.datasets import DataSet
from windtunnel.errors import WindtunnelError
from windtunnel.files import sha256, write_json
from windtunnel.measure import cpu
from windtunnel.spec import Framework, Spec, load_spec

GOLDEN = 32  # test images in the golden set
REHEARSAL = 101  # steps: the last loss is the one after 100
TOLERANCE = 1e-5  # by which a reloaded export may differ from the golden set: absolute, and relative to what is large

Tensors = dict[str, np.ndarray]
Model = Callable[[np.ndarray], Tensors]
"""Pixels 0..255, float32 (N,28,28,1) → `logits` and `probabilities`, float32 (N,10)."""


@dataclass(frozen=True)
class Conditions:
    """What every framework of a run shares, read and checked."""

    spec: Spec
    dataset: dict[str, Any]  # as in conditions.json
    weights: Tensors  # in PyTorch's layout
    order: np.ndarray  # int32 (epochs, steps, batch): the training samples of each step
    learning_rate: np.ndarray  # float64 (epochs, steps)
    images: np.ndarray  # uint8 (N,28,28), the training images
    labels: np.ndarray  # uint8 (N)
    test_images: np.ndarray
    test_labels: np.ndarray


class Trainer(ABC):
    """One framework's LeNet-5. The constructor sets the threads and ends with everything compiled, no step taken.

    `dtype`, `float32` or `float64`, is that of the weights and of all arithmetic.
    """

    framework: ClassVar[Framework]
    packages: ClassVar[tuple[str, ...]]  # the distributions whose versions the manifest records
    export: ClassVar[str]  # the file or directory, below OUT, that `save` writes

    @abstractmethod
    def __init__(self, conditions: Conditions, dtype: str) -> None: ...

    @abstractmethod
    def probe(self, batch: np.ndarray) -> Tensors:
        """`logits` (B,10) and `gradient.NAME` of every weight, in PyTorch's layout, for the training samples `batch`. Changes nothing."""

    @abstractmethod
    def train_epoch(self, order: np.ndarray, learning_rate: np.ndarray) -> np.ndarray:
        """Take a step for each row of `order` (steps, B) at its `learning_rate` (steps); return the loss of each (steps)."""

    @abstractmethod
    def predict(self, images: np.ndarray) -> Tensors:
        """`logits` and `probabilities`, float32 (N,10), of `images`, uint8 (N,28,28), from the model as trained so far."""

    @abstractmethod
    def save(self, path: Path) -> None:
        """Write the export: a model that takes pixels."""

    @staticmethod
    @abstractmethod
    def load(path: Path) -> dict[Path, Model]:
        """Read what `save` wrote: a model for each file or directory that holds it in another form."""


def main(trainer: type[Trainer]) -> None:
    """Run the command line of `trainer`'s program."""
    parser = argparse.ArgumentParser(
        prog=f"python -m train_server.lenet5.{trainer.framework}", description=f"Train LeNet-5 in {trainer.framework}."
    )
    parser.add_argument("--spec", type=Path, metavar="FILE", help="what to train")
    parser.add_argument("--data", type=Path, metavar="DIR", help="the data set's four IDX files, plain or .gz")
    parser.add_argument("--conditions", type=Path, metavar="DIR", help="initial weights, sample order and learning rates")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where the artefacts go; must not exist")
    parser.add_argument("--verify", type=Path, metavar="DIR", help="only reload the export in DIR and compare with its golden set")
    arguments = parser.parse_args()
    paths = (arguments.spec, arguments.data, arguments.conditions, arguments.out)
    if any(paths) if arguments.verify else not all(paths):
        parser.error("give --spec, --data, --conditions and --out, or --verify alone")
    try:
        if arguments.verify:
            verify(trainer, arguments.verify)
        else:
            train(trainer, *paths)
    except (WindtunnelError, OSError) as error:
        sys.exit(f"error: {error}")


def train(trainer: type[Trainer], spec_file: Path, data: Path, conditions_directory: Path, out: Path) -> None:
    """Train, export and verify; `out` is whole when this returns, and absent when it does not."""
    if out.exists():
        raise WindtunnelError(f"{out} exists: choose another --out, or remove it")
    conditions = load_conditions(spec_file, data, conditions_directory)
    partial = out.with_name(out.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)

    model = trainer(conditions, "float32")
    probe = model.probe(conditions.order[0, 0])
    setup_seconds = time.time() - psutil.Process().create_time()
    spec = conditions.spec
    steps = f"{spec.epochs} epochs of {spec.steps_per_epoch} steps"
    report(f"{trainer.framework} {version(trainer.packages[0])}  threads {spec.threads}  {spec.samples} samples of {spec.dataset}  {steps}")

    epochs, losses = [], []
    for epoch, (order, learning_rate) in enumerate(zip(conditions.order, conditions.learning_rate, strict=True), start=1):
        start = time.perf_counter()
        losses.append(model.train_epoch(order, learning_rate))
        seconds = time.perf_counter() - start
        if not np.isfinite(losses[-1]).all():
            step = int(np.isfinite(losses[-1]).argmin())
            raise WindtunnelError(f"the loss is {losses[-1][step]} in epoch {epoch}, step {step + 1}: train with a lower learning_rate")
        outputs = model.predict(conditions.test_images)
        predictions = outputs["logits"].argmax(axis=1)
        accuracy = float((predictions == conditions.test_labels).mean())
        epochs.append({
            "epoch": epoch,
            "loss": float(losses[-1].mean()),
            "accuracy": accuracy,
            "seconds": seconds,
            "samples_per_second": order.size / seconds,
        })  # fmt: skip
        with (partial / "metrics.jsonl").open("a") as stream:
            stream.write(json.dumps(epochs[-1]) + "\n")
        report(
            f"epoch {epoch}/{spec.epochs}  loss {losses[-1].mean():.4f}  accuracy {100 * accuracy:.2f} %  "
            f"{seconds:.1f} s  {order.size / seconds:.0f} samples/s"
        )

    model.save(partial / trainer.export)
    image = conditions.test_images[:GOLDEN]
    golden = {name: values[:GOLDEN] for name, values in outputs.items()}
    save_file(
        {"image": image[..., None].astype(np.float32), "label": golden["logits"].argmax(axis=1), **golden},
        partial / "golden.safetensors",
    )
    probe |= {"predictions": predictions, "losses": np.concatenate(losses), "rehearsal": rehearse(trainer, conditions)}
    save_file(probe, partial / "probe.safetensors")
    verify_in_fresh_process(trainer, partial)
    write_manifest(partial, trainer, conditions, epochs, setup_seconds)
    partial.rename(out)
    report(f"export verified in a fresh process  {out}")


def rehearse(trainer: type[Trainer], conditions: Conditions) -> np.ndarray:
    """The losses of the run's first steps, taken in float64 by the code that trains: float64 (at most `REHEARSAL`)."""
    order = conditions.order.reshape(-1, conditions.spec.batch_size)[:REHEARSAL]
    few = replace(conditions, images=conditions.images[order.ravel()], labels=conditions.labels[order.ravel()])
    renumbered = np.arange(order.size, dtype=np.int32).reshape(order.shape)
    return trainer(few, "float64").train_epoch(renumbered, conditions.learning_rate.ravel()[:REHEARSAL])


def load_conditions(spec_file: Path, data: Path, directory: Path) -> Conditions:
    """Read spec, conditions and data.

    Raises:
        WindtunnelError: something is missing or malformed, or is not what `conditions.json` says it is.
    """
    spec = load_spec(spec_file)
    try:
        index = json.loads((directory / "conditions.json").read_bytes())
        digests, dataset = index["files"], index["dataset"]
        for file in (spec_file, directory / "weights.safetensors", directory / "schedule.safetensors"):
            wanted = digests["spec.json" if file == spec_file else file.name]
            if (found := sha256(file)) != wanted:
                raise WindtunnelError(
                    f"{file} has SHA-256 {found}, {directory / 'conditions.json'} wants {wanted}: draw the conditions again"
                )
        samples = DataSet(dataset["name"], data, spec.mean, spec.std, dataset["files"])
        images, labels = samples.train()
        test_images, test_labels = samples.test()
    except OSError as error:
        raise WindtunnelError(f"{error.filename} cannot be read ({error.strerror}): draw the conditions again") from error
    except (ValueError, KeyError, TypeError) as error:
        raise WindtunnelError(f"{directory / 'conditions.json'} is malformed ({error!r}): draw the conditions again") from error
    schedule = load_file(directory / "schedule.safetensors")
    order, learning_rate = schedule["order"], schedule["learning_rate"].reshape(spec.epochs, spec.steps_per_epoch)
    if order.max() >= len(images):
        raise WindtunnelError(
            f"{data} has {len(images)} training images, the sample order asks for number {order.max()}: draw the conditions again"
        )
    weights = load_file(directory / "weights.safetensors")
    return Conditions(spec, dataset, weights, order, learning_rate, images, labels, test_images, test_labels)


def verify(trainer: type[Trainer], directory: Path) -> None:
    """Reload the export in `directory` and compare what it answers with the golden set.

    Raises:
        WindtunnelError: it differs by more than `TOLERANCE`, or in a label.
    """
    try:
        golden = load_file(directory / "golden.safetensors")
    except OSError as error:
        raise WindtunnelError(f"{directory / 'golden.safetensors'} cannot be read ({error}): train again") from error
    names = ("logits", "probabilities")
    for path, model in trainer.load(directory / trainer.export).items():
        outputs = model(golden["image"])
        difference = max(float(np.abs(outputs[name] - golden[name]).max()) for name in names)
        close = all(np.allclose(outputs[name], golden[name], rtol=TOLERANCE, atol=TOLERANCE) for name in names)
        wrong = int((outputs["logits"].argmax(axis=1) != golden["label"]).sum())
        if not close or wrong:
            raise WindtunnelError(
                f"{path} differs from its golden set by {difference:.1e} (allowed are {TOLERANCE:.0e}, absolute and "
                f"relative) and in {wrong} labels of {len(golden['label'])}: train again"
            )
        report(f"{path.name} verified against the golden set  largest difference {difference:.1e}")


def verify_in_fresh_process(trainer: type[Trainer], directory: Path) -> None:
    """Run `--verify` in a process that shares nothing with the one that trained."""
    command = [sys.executable, "-m", f"train_server.lenet5.{trainer.framework}", "--verify", str(directory)]
    done = subprocess.run(command, stderr=subprocess.PIPE, text=True)
    if done.returncode:
        raise WindtunnelError((done.stderr.strip().splitlines() or [f"{command} ended with {done.returncode}"])[-1].removeprefix("error: "))


def write_manifest(
    directory: Path, trainer: type[Trainer], conditions: Conditions, epochs: list[dict[str, Any]], setup_seconds: float
) -> None:
    """Write `manifest.json` over everything else in `directory`."""
    seconds = sum(epoch["seconds"] for epoch in epochs)
    files = sorted(file for file in directory.rglob("*") if file.is_file())
    manifest = {
        "manifest_version": 1,
        "model": conditions.spec.model,
        "framework": trainer.framework,
        "spec": conditions.spec.model_dump(),
        "dataset": conditions.dataset,
        "metrics": {
            "accuracy": epochs[-1]["accuracy"],
            "loss": epochs[-1]["loss"],
            "seconds": seconds,
            "setup_seconds": setup_seconds,
            "samples_per_second": conditions.order.size / seconds,
        },
        "environment": {
            "packages": {name: version(name) for name in trainer.packages},
            "threads": conditions.spec.threads,
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
