"""Train one framework without the platform: a version of it in a directory, and nothing registered.

python -m train_server.alone --framework pytorch --samples 10000 --out DIR
"""

import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from train_server.conditions import write_conditions
from train_server.train import PROGRAMS
from windtunnel.datasets import DataSet, locate
from windtunnel.errors import WindtunnelError
from windtunnel.manifest import read_manifest
from windtunnel.measure import execute
from windtunnel.program import run_program
from windtunnel.run import Run
from windtunnel.spec import Framework, Spec


def train_alone(program: Sequence[str], spec: Spec, data: DataSet, available: int, out: Path) -> None:
    """Draw the conditions of `spec`, `available` being the number of training images in `data`, and run a trainer's program.

    Raises:
        WindtunnelError: it failed, or left no version.
    """
    with tempfile.TemporaryDirectory() as place:
        run = Run(Path(place))
        write_conditions(spec, data, available, run)
        flags = {"--spec": run.spec_file, "--data": data.directory, "--conditions": run.conditions, "--out": out}
        execute([*program, *(word for flag in flags.items() for word in flag)])
        read_manifest(out)


def main(
    framework: Annotated[Framework, typer.Option(help="What to train with.")],
    out: Annotated[Path, typer.Option(help="The version's directory; must not exist.")],
    samples: Annotated[int, typer.Option(help="Training images.", min=64)] = 60_000,
    epochs: Annotated[int, typer.Option(min=1)] = 1,
    seed: Annotated[int, typer.Option(min=0)] = 1,
) -> None:
    """Train one framework without the platform."""
    data = locate("auto", print)
    available = len(data.train()[1])
    if samples > available:
        raise WindtunnelError(f"samples is {samples}, but {data.name} has {available} training images: ask for fewer")
    spec = Spec(dataset=data.name, mean=data.mean, std=data.std, samples=samples, epochs=epochs, seed=seed, threads=1)
    train_alone(PROGRAMS["lenet5"][framework], spec, data, available, out)
    print(out)


if __name__ == "__main__":
    run_program(main)
