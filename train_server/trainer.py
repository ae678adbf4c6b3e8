"""The trainer contract (`train_server/README.md`) as code: everything of a trainer that is not its framework.

A framework's module defines one `Trainer` and ends in `main(ThatTrainer)`. This module imports no framework.
"""

import json
import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import psutil
from safetensors.numpy import load_file, save_file

from train_server.version import (
    Model,
    Tensors,
    new_version,
    note_epoch,
    read_golden,
    report,
    report_start,
    run_trainer_program,
    verified_in_fresh_process,
    verify_golden,
    write_manifest,
)
from windtunnel.datasets import DataSet
from windtunnel.errors import WindtunnelError
from windtunnel.files import sha256
from windtunnel.spec import Framework, Spec, load_spec

GOLDEN = 32  # test images in the golden set
REHEARSAL = 101  # steps: the last loss is the one after 100


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
    description = f"Train LeNet-5 in {trainer.framework}."
    run_trainer_program(_module(trainer), description, partial(train, trainer), partial(verify, trainer))


def _module(trainer: type[Trainer]) -> str:
    return f"train_server.lenet5.{trainer.framework}"


def train(trainer: type[Trainer], spec_file: Path, data: Path, conditions_directory: Path, out: Path) -> None:
    """Train, export and verify; `out` is whole when this returns, and absent when it does not."""
    train_under(load_conditions(spec_file, data, conditions_directory), trainer, out)


def train_under(conditions: Conditions, trainer: type[Trainer], out: Path) -> None:
    """Train, export and verify under conditions that have been read; `out` is as in `train`."""
    with new_version(out) as directory:
        model = trainer(conditions, "float32")
        probe = model.probe(conditions.order[0, 0])
        setup_seconds = time.time() - psutil.Process().create_time()
        spec = conditions.spec
        report_start(spec, f"{trainer.framework} {version(trainer.packages[0])}")

        epochs, losses = [], []
        for epoch, (order, learning_rate) in enumerate(zip(conditions.order, conditions.learning_rate, strict=True), start=1):
            start = time.perf_counter()
            losses.append(model.train_epoch(order, learning_rate))
            seconds = time.perf_counter() - start
            outputs = model.predict(conditions.test_images)
            predictions = outputs["logits"].argmax(axis=1)
            accuracy = float((predictions == conditions.test_labels).mean())
            epochs.append(note_epoch(directory, spec, epoch, losses[-1], accuracy, seconds))

        model.save(directory / trainer.export)
        image = conditions.test_images[:GOLDEN]
        golden = {name: values[:GOLDEN] for name, values in outputs.items()}
        save_file(
            {"image": image[..., None].astype(np.float32), "label": golden["logits"].argmax(axis=1), **golden},
            directory / "golden.safetensors",
        )
        with verified_in_fresh_process(_module(trainer), directory):
            probe |= {"predictions": predictions, "losses": np.concatenate(losses), "rehearsal": rehearse(trainer, conditions)}
            save_file(probe, directory / "probe.safetensors")
        write_manifest(directory, spec, trainer.framework, trainer.packages, conditions.dataset, epochs, setup_seconds)
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
        WindtunnelError: it differs.
    """
    golden = read_golden(directory)
    for path, model in trainer.load(directory / trainer.export).items():
        verify_golden(path, model(golden["image"]), golden)
