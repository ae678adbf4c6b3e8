"""The trainer contract (`train_server/README.md`) as code: the parts of a LeNet-5 trainer that do not depend on its framework.

A framework's module defines a subclass of `Trainer` and calls `main` with it. This module imports no framework.
"""

import time
from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save_file

from train_server.contract import Model, note_epoch, report_start, run_trainer_program, verify_golden
from train_server.lenet5.model import LENET5, Spec
from windtunnel.data.datasets import TEST_IMAGES, TEST_LABELS, TRAIN_IMAGES, TRAIN_LABELS
from windtunnel.data.idx import read_idx
from windtunnel.errors import WindtunnelError
from windtunnel.golden import Tensors, read_golden
from windtunnel.model import Framework
from windtunnel.spec import load_spec

GOLDEN = 32  # test images in the golden set
REHEARSAL = 101  # steps; the last loss is the loss after 100 steps


@dataclass(frozen=True)
class Conditions:
    """The inputs that all frameworks of a run share."""

    spec: Spec
    weights: Tensors  # in PyTorch's layout
    order: np.ndarray  # int32 (epochs, steps, batch): the training samples of each step
    learning_rate: np.ndarray  # float64 (epochs, steps)
    images: np.ndarray  # uint8 (N,28,28), the training images
    labels: np.ndarray  # uint8 (N)
    test_images: np.ndarray
    test_labels: np.ndarray


class Trainer(ABC):
    """One framework's LeNet-5. The constructor sets the number of threads and compiles everything; it takes no step.

    `dtype`, `float32` or `float64`, is the type of the weights and of all arithmetic.
    """

    framework: ClassVar[Framework]  # its declaration: `save` writes `export`, below OUT; the first package is the framework's own

    @abstractmethod
    def __init__(self, conditions: Conditions, dtype: str) -> None: ...

    @abstractmethod
    def probe(self, batch: np.ndarray) -> Tensors:
        """Return `logits` (B,10) and `gradient.NAME` of every weight, in PyTorch's layout, for the training samples `batch`.

        The state of the trainer does not change.
        """

    @abstractmethod
    def train_epoch(self, order: np.ndarray, learning_rate: np.ndarray) -> np.ndarray:
        """Take a step for each row of `order` (steps, B) at its `learning_rate` (steps); return the loss of each (steps)."""

    @abstractmethod
    def predict(self, images: np.ndarray) -> Tensors:
        """Return `logits` and `probabilities`, float32 (N,10), of `images`, uint8 (N,28,28), from the model as trained so far."""

    @abstractmethod
    def save(self, path: Path) -> None:
        """Write the export, a model whose input is pixels."""

    @staticmethod
    @abstractmethod
    def load(path: Path) -> dict[Path, Model]:
        """Load the export: return the model in each format that `save` wrote, by its path."""


def main(trainer: type[Trainer]) -> None:
    """Run the command line of `trainer`'s program."""
    framework = trainer.framework
    module = framework.command[-1]
    run_trainer_program(module, f"Train {LENET5.title} in {framework.name}.", partial(train, trainer), partial(verify, trainer))


def train(trainer: type[Trainer], spec_file: Path, data: Path, conditions_directory: Path, out: Path) -> None:
    """Read the conditions, train, and export into the directory `out`."""
    train_under(load_conditions(spec_file, data, conditions_directory), trainer, out)


def train_under(conditions: Conditions, trainer: type[Trainer], out: Path) -> None:
    """Train with the given conditions and export into the directory `out`."""
    spec = conditions.spec
    model = trainer(conditions, "float32")
    logits = model.probe(conditions.order[0, 0])["logits"]
    setup_seconds = report_start(spec, f"{trainer.framework.name} {version(trainer.framework.packages[0])}")

    losses = []
    for epoch, (order, learning_rate) in enumerate(zip(conditions.order, conditions.learning_rate, strict=True), start=1):
        start = time.perf_counter()
        losses.append(model.train_epoch(order, learning_rate))
        seconds = time.perf_counter() - start
        outputs = model.predict(conditions.test_images)
        predictions = outputs["logits"].argmax(axis=1)
        accuracy = float((predictions == conditions.test_labels).mean())
        note_epoch(out, spec, epoch, losses[-1], accuracy, seconds, setup_seconds)

    model.save(out / trainer.framework.export)
    image = conditions.test_images[:GOLDEN]
    golden = {name: values[:GOLDEN] for name, values in outputs.items()}
    save_file(
        {"image": image[..., None].astype(np.float32), "label": golden["logits"].argmax(axis=1), **golden}, out / "golden.safetensors"
    )
    probe = {"logits": logits, "predictions": predictions, "losses": np.concatenate(losses), **rehearse(trainer, conditions)}
    save_file(probe, out / "probe.safetensors")


def rehearse(trainer: type[Trainer], conditions: Conditions) -> Tensors:
    """Take the run's first steps in float64, with the code that trains.

    Returns:
        `gradient.NAME` of every weight before the first step, and `rehearsal`, the loss of each step (at most `REHEARSAL` steps).
    """
    order = conditions.order.reshape(-1, conditions.spec.batch_size)[:REHEARSAL]
    few = replace(conditions, images=conditions.images[order.ravel()], labels=conditions.labels[order.ravel()])
    renumbered = np.arange(order.size, dtype=np.int32).reshape(order.shape)
    model = trainer(few, "float64")
    gradients = {name: values for name, values in model.probe(renumbered[0]).items() if name.startswith("gradient.")}
    return gradients | {"rehearsal": model.train_epoch(renumbered, conditions.learning_rate.ravel()[:REHEARSAL])}


def load_conditions(spec_file: Path, data: Path, directory: Path) -> Conditions:
    """Read the spec, the conditions and the data. The host has compared them with their digests.

    Raises:
        WindtunnelError: a file is missing or malformed.
    """
    spec = load_spec(spec_file, Spec)
    images, labels, test_images, test_labels = (read_idx(data / name)[0] for name in (TRAIN_IMAGES, TRAIN_LABELS, TEST_IMAGES, TEST_LABELS))
    try:
        weights = load_file(directory / "weights.safetensors")
        schedule = load_file(directory / "schedule.safetensors")
        order, learning_rate = schedule["order"], schedule["learning_rate"].reshape(spec.epochs, spec.steps_per_epoch)
    except (OSError, SafetensorError, KeyError, ValueError) as error:
        raise WindtunnelError(f"the conditions in {directory} cannot be read ({error}): draw them again") from error
    if order.max() >= len(images):
        raise WindtunnelError(
            f"the sample order does not match {data}: found index {order.max()}, expected less than {len(images)}, its number of training "
            "images. Draw the conditions again"
        )
    return Conditions(spec, weights, order, learning_rate, images, labels, test_images, test_labels)


def verify(trainer: type[Trainer], directory: Path) -> None:
    """Reload the export in `directory` and compare its outputs with the golden set.

    Raises:
        WindtunnelError: they differ.
    """
    golden = read_golden(directory, LENET5)
    for path, model in trainer.load(directory / trainer.framework.export).items():
        verify_golden(path, model(golden[LENET5.input.name]), golden, LENET5)
