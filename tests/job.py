"""What a trainer is given and how it is started."""

import os
import subprocess
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from train_server.conditions import write_conditions
from train_server.train import PROGRAMS
from windtunnel.datasets import DataSet
from windtunnel.files import sha256
from windtunnel.run import Run
from windtunnel.spec import Spec

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

    def draw(self) -> None:
        """Write the conditions for the data as it is."""
        files = {file.name: sha256(file) for file in sorted(self.data.iterdir())}
        write_conditions(self.spec, DataSet("tiny", self.data, 0.2, 0.3, files), 300, Run(self.directory))

    def command(self, framework: str, out: Path) -> list[str]:
        files: Iterable[object] = ("--spec", self.spec_file, "--data", self.data, "--conditions", self.conditions, "--out", out)
        return [*PROGRAMS["lenet5"][framework], *map(str, files)]

    def run(self, framework: str, out: Path) -> subprocess.CompletedProcess[str]:
        return run(self.command(framework, out))


def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, cwd=REPOSITORY, env=os.environ | {"PYTHONWARNINGS": "default"}, capture_output=True, text=True)
