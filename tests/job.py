"""What a trainer is given and how it is started."""

import os
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from train_server.conditions import write_conditions
from train_server.lenet5.conditions import write_files
from train_server.lenet5.model import LENET5, Spec
from train_server.train import run_trainer
from windtunnel.data.datasets import DataSet
from windtunnel.files import sha256
from windtunnel.run import Run

REPOSITORY = Path(__file__).parents[1]


def write_idx(file: Path, array: np.ndarray) -> None:
    file.write_bytes(bytes([0, 0, 8, array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.astype(np.uint8).tobytes())


@dataclass(frozen=True)
class Job:
    """What a trainer is given: files that a test may spoil, and a spec that it may train."""

    directory: Path
    spec: Spec

    @property
    def spec_file(self) -> Path:
        return self.directory / "spec.json"

    @property
    def data(self) -> Path:
        return self.directory / "data"

    @property
    def conditions(self) -> Path:
        return self.directory / "conditions"

    @property
    def content(self) -> DataSet:
        """The data as it is."""
        return DataSet("tiny", self.data, 0.2, 0.3, {file.name: sha256(file) for file in sorted(self.data.iterdir())})

    def draw(self) -> None:
        """Write the conditions for the data as it is."""
        write_run(self.spec, self.content, 300, Run(self.directory))

    def train(self, framework: str, out: Path, say: Callable[[str], object] = print) -> None:
        """Train a version, as the host does."""
        run_trainer(LENET5.framework(framework), self.spec_file, self.content, self.conditions, out, say)

    def run(self, framework: str, out: Path) -> subprocess.CompletedProcess[str]:
        """Run the trainer's program alone, with an empty directory to write into."""
        out.mkdir()
        flags = {"--spec": self.spec_file, "--data": self.data, "--conditions": self.conditions, "--out": out}
        return run([*LENET5.framework(framework).command, *(str(word) for flag in flags.items() for word in flag)])


def write_run(spec: Spec, data: DataSet, available: int, run: Run) -> None:
    """Write the spec and the conditions of a run; `available` is the number of training images of `data`."""

    def write(directory: Path) -> Spec:
        write_files(spec, available, directory)
        return spec

    write_conditions(run, data, write)


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=REPOSITORY, env=os.environ | {"PYTHONWARNINGS": "default"}, capture_output=True, text=True)
