"""A model: in which quadrant of a circle is a source, given what six sensors around it measure?

    windtunnel run quadrants --param weight_decay=0.001

It has an input, classes, a metric, data and a field of its spec of its own. Two frameworks train it with the code below: `numpy` exports a
`.npz` for the npz server (`backend.py`), `torchscript` a TorchScript module for TorchServe.
"""

import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Annotated, ClassVar, Literal

import numpy as np
from pydantic import Field
from safetensors.numpy import load_file, save_file

from train_server.contract import note_epoch, report_start, run_trainer_program, verify_golden
from windtunnel.data.datasets import Content, Source, locate_among
from windtunnel.files import sha256
from windtunnel.golden import Tensors, labels, read_golden
from windtunnel.metric import Metric
from windtunnel.model import Framework, Input, Model, Output, python_module
from windtunnel.spec import Decay, Positive, Training, load_spec

SAMPLES = {"train": 4000, "test": 1000}
SENSORS, CLASSES = 6, 4
GOLDEN = 32  # test samples in the golden set
MODULE = "windtunnel_examples.quadrants"
PROGRAM = python_module(MODULE)


class Spec(Training):
    """The spec of a run of `quadrants`."""

    model: Literal["quadrants"] = "quadrants"
    learning_rate: Annotated[Positive, Field(description="The learning rate of stochastic gradient descent.")] = 0.5
    weight_decay: Annotated[Decay, Field(description="How strongly large weights are reduced in each step.")] = 0.0001


QUADRANTS = Model(
    name="quadrants",
    title="Quadrants",
    spec=Spec,
    data=f"{MODULE}:locate",
    metric=Metric("error", higher_is_better=False, format="{:.2%}", low=0, high=1, margin=0.01),
    frameworks=(
        Framework("numpy", (*PROGRAM, "npz"), "model.npz", "npz_server", ("numpy",), colour="#56B4E9", marker="P"),
        Framework("torchscript", (*PROGRAM, "pt"), "model.pt", "torchserve", ("numpy", "torch"), colour="#D55E00", marker="s"),
    ),
    input=Input("readings", (SENSORS,), codec="array", reader="serving.backends.arrays:read_arrays"),
    outputs=(Output("probabilities", (CLASSES,)),),
)


@dataclass(frozen=True)
class Readings(Content):
    """The samples in one directory: `train.safetensors` and `test.safetensors`."""

    name: str
    directory: Path
    files: Mapping[str, str]

    def train(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the training samples: the readings, float32 (N,6), and the quadrants, int64 (N)."""
        return read(self.directory, "train")

    def test(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the test samples, like `train`."""
        return read(self.directory, "test")

    def counts(self) -> dict[str, int]:
        """Return the number of samples in each part."""
        return {"train": len(self.train()[1]), "test": len(self.test()[1])}


@dataclass(frozen=True, kw_only=True)
class Simulation(Source[Readings]):
    """Data that is computed where another data set is downloaded."""

    verb: ClassVar[str] = "construct"

    @property
    def remedy(self) -> str:
        """The next step if no folder can be written."""
        return "name a folder that can be written in WINDTUNNEL_DATA"

    def is_in(self, directory: Path) -> bool:
        """Whether both files exist."""
        return all((directory / file(part)).is_file() for part in SAMPLES)

    def is_alone_in(self, directory: Path) -> bool:
        """Never: it is only found in a folder of its name."""
        return False

    def get(self, directory: Path) -> None:
        """Simulate the samples. Equal versions of NumPy simulate equal samples."""
        directory.mkdir(parents=True, exist_ok=True)
        for seed, (part, count) in enumerate(SAMPLES.items()):
            generator = np.random.default_rng(seed)
            quadrants = generator.integers(0, CLASSES, count)
            angles = (quadrants + generator.uniform(0, 1, count)) * np.pi / 2
            distances = generator.uniform(0.5, 1, count)
            towards = np.cos(angles[:, None] - np.arange(SENSORS) * 2 * np.pi / SENSORS)
            readings = distances[:, None] * towards + generator.normal(0, 0.1, (count, SENSORS))
            save_file({"readings": readings.astype(np.float32), "quadrants": quadrants}, directory / file(part))

    def read(self, name: str, directory: Path) -> Readings:
        """Return the data set with the digests of its files."""
        return Readings(name, directory, {file(part): sha256(directory / file(part)) for part in SAMPLES})


def file(part: str) -> str:
    """Return the name of the file of `train` or `test`."""
    return f"{part}.safetensors"


def read(directory: Path, part: str) -> tuple[np.ndarray, np.ndarray]:
    """Return the readings and the quadrants of `train` or `test`."""
    tensors = load_file(directory / file(part))
    return tensors["readings"], tensors["quadrants"]


def locate(name: str, say: Callable[[str], None] = print) -> Readings:
    """Find the data set, or simulate it in the platform's folder of data sets."""
    return locate_among({"quadrants": Simulation(title="Quadrants", folders=("quadrants",))}, name, say)


def predict(readings: np.ndarray, weights: np.ndarray, bias: np.ndarray) -> Tensors:
    """Return `probabilities`, float32 (N,4), of the readings, float32 (N,6): a softmax regression."""
    powers = np.exp(readings @ weights + bias)
    return {"probabilities": powers / powers.sum(axis=1, keepdims=True)}


def train(export: str, spec_file: Path, data: Path, conditions: Path, out: Path) -> None:
    """Train with stochastic gradient descent, and export into the directory `out`. The model has no conditions but the spec."""
    spec = load_spec(spec_file, Spec)
    readings, quadrants = read(data, "train")
    test_readings, test_quadrants = read(data, "test")
    generator = np.random.default_rng(spec.seed)
    chosen = generator.permutation(len(readings))[: spec.samples]
    weights, bias = np.zeros((SENSORS, CLASSES), np.float32), np.zeros(CLASSES, np.float32)
    rate, size = np.float32(spec.learning_rate), spec.batch_size
    setup_seconds = report_start(spec, f"NumPy {np.__version__}")
    for epoch in range(1, spec.epochs + 1):
        start, losses = time.perf_counter(), []
        for batch in generator.permutation(chosen)[: spec.steps_per_epoch * size].reshape(-1, size):
            difference = predict(readings[batch], weights, bias)["probabilities"]
            losses.append(-np.log(difference[np.arange(size), quadrants[batch]]).mean())
            difference[np.arange(size), quadrants[batch]] -= 1
            weights -= rate * (readings[batch].T @ difference / size + np.float32(spec.weight_decay) * weights)
            bias -= rate * difference.mean(axis=0)
        seconds = time.perf_counter() - start
        outputs = predict(test_readings, weights, bias)
        error = float((labels(outputs["probabilities"]) != test_quadrants).mean())
        note_epoch(out, spec, epoch, np.array(losses), error, seconds, setup_seconds)

    EXPORTS[export][0](out / f"model.{export}", weights, bias)
    golden = {"readings": test_readings, "label": labels(outputs["probabilities"]), **outputs}
    save_file({name: np.ascontiguousarray(values[:GOLDEN]) for name, values in golden.items()}, out / "golden.safetensors")


def verify(export: str, directory: Path) -> None:
    """Reload the export in `directory` and compare its outputs with the golden set."""
    golden, path = read_golden(directory, QUADRANTS), directory / f"model.{export}"
    verify_golden(path, EXPORTS[export][1](path, golden["readings"]), golden, QUADRANTS)


def save_npz(path: Path, weights: np.ndarray, bias: np.ndarray) -> None:
    """Write the weights for the npz server."""
    np.savez(path, weights=weights, bias=bias)


def run_npz(path: Path, readings: np.ndarray) -> Tensors:
    """Return the outputs of an export for the npz server."""
    return predict(readings, **np.load(path))


def save_torchscript(path: Path, weights: np.ndarray, bias: np.ndarray) -> None:
    """Write the model as TorchScript."""
    import torch

    matrix, offset = torch.from_numpy(weights), torch.from_numpy(bias)

    def served(readings: torch.Tensor) -> dict[str, torch.Tensor]:
        return {"probabilities": (readings @ matrix + offset).softmax(1)}

    torch.jit.trace(served, torch.zeros(2, SENSORS), strict=False).save(str(path))


def run_torchscript(path: Path, readings: np.ndarray) -> Tensors:
    """Return the outputs of a TorchScript export."""
    import torch

    return {name: output.numpy() for name, output in torch.jit.load(path)(torch.from_numpy(readings)).items()}


EXPORTS = {"npz": (save_npz, run_npz), "pt": (save_torchscript, run_torchscript)}


if __name__ == "__main__":
    _, format, *flags = sys.argv
    run_trainer_program(f"{MODULE} {format}", "Train quadrants.", partial(train, format), partial(verify, format), flags)
