"""Measure the trainers' speed, compared with their frameworks' tutorials and with the machine's matrix multiplication.

    make bench-train

Every figure is images per second during training, without start-up and compilation, for LeNet-5 on MNIST (or on Fashion-MNIST if that is
the only data set available). Every program runs in its own process. In each round all programs run once, one after the other, so that a
slowdown of the machine affects all of them; medians over the rounds are compared. The sgemm rate, measured in each round too, shows what
share of the machine a trainer uses.
"""

import gzip
import json
import statistics
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.table import Table

from train_server.lenet5.model import LENET5
from train_server.standalone import train_alone
from windtunnel.data.datasets import DataSet, locate
from windtunnel.measure import execute, keep, load_before, spread
from windtunnel.platform.program import run_program
from windtunnel.run import git_commit
from windtunnel.settings import ROOT, load_settings
from windtunnel.tables import render

TUTORIALS: dict[str, list[str]] = {
    "libtorch": [str(ROOT / "libtorch_cpp/build/tutorial_mnist")],
    "pytorch": [sys.executable, "-m", "benchmarks.trainers.tutorial_pytorch"],
    "tensorflow": [sys.executable, "-m", "benchmarks.trainers.tutorial_tensorflow"],
    "native": [str(ROOT / "libtorch_cpp/build/tutorial_mnist")],  # has none of its own
}
BATCH_SIZE = 64
BATCH_SIZES = (32, 64, 128, 256, 512, 1024)
EPOCHS = 10

# Multiply-adds of one image's forward pass in C1, C3, C5, F6 and OUT: outputs × inputs of each output.
FORWARD = 28 * 28 * 6 * 25 + 10 * 10 * 16 * 150 + 120 * 400 + 84 * 120 + 10 * 84
TRAINING_FLOPS = 2 * 3 * FORWARD  # a multiply-add is two operations; the backward pass costs twice the forward pass


@dataclass(frozen=True)
class Bench:
    """The data for the measured programs, plain IDX files in `directory`, and the directory for their output."""

    data: DataSet
    directory: Path
    samples: int
    threads: int

    def train(self, framework: str, batch_size: int = BATCH_SIZE, epochs: int = 1) -> list[dict[str, float]]:
        """Run our trainer and return the lines of its `metrics.jsonl`."""
        with tempfile.TemporaryDirectory(dir=self.directory) as place:
            chosen = {"samples": self.samples, "epochs": epochs, "batch_size": batch_size, "threads": self.threads}
            out = Path(place) / "version"
            train_alone(LENET5, LENET5.framework(framework), self.data, chosen, out)
            return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]

    def tutorial(self, framework: str) -> dict[str, float]:
        """Run the framework's tutorial and return its last line, parsed."""
        flags = ["--data", self.directory, "--batch-size", BATCH_SIZE, "--threads", self.threads, "--samples", self.samples]
        return last_line(execute([*TUTORIALS[framework], *flags]))

    def sgemm(self) -> float:
        """Return the floating-point operations per second of large matrix products."""
        return last_line(execute([sys.executable, "-m", "benchmarks.trainers.matrix_multiplication", "--threads", self.threads]))["flops"]


def last_line(output: str) -> dict[str, float]:
    """Parse the last line of a program's output as a JSON object."""
    return json.loads(output.strip().splitlines()[-1])


def compare(bench: Bench, rounds: int) -> dict[str, Any]:
    """Run our trainers, the tutorials and sgemm, each once per round."""
    ours: dict[str, list[float]] = {framework: [] for framework in LENET5.framework_names}
    tutorial: dict[str, list[float]] = {framework: [] for framework in LENET5.framework_names}
    accuracy: dict[str, dict[str, float]] = {}
    sgemm = []
    for number in range(rounds):
        sgemm.append(bench.sgemm())
        for framework in LENET5.framework_names:
            mine, theirs = bench.train(framework)[-1], bench.tutorial(framework)
            ours[framework].append(mine["samples_per_second"])
            tutorial[framework].append(theirs["samples_per_second"])
            accuracy[framework] = {"ours": mine["accuracy"], "tutorial": theirs["accuracy"]}
            ratio = ours[framework][-1] / tutorial[framework][-1]
            print(
                f"round {number + 1}/{rounds}  {framework:10}  {ours[framework][-1]:7.0f} images/s, {ratio:.2f} × its tutorial", flush=True
            )
    frameworks = {
        framework: {
            "ours": ours[framework],
            "tutorial": tutorial[framework],
            "accuracy": accuracy[framework],
            "speedup": statistics.median(a / b for a, b in zip(ours[framework], tutorial[framework], strict=True)),
            "sgemm_share": statistics.median(a * TRAINING_FLOPS / b for a, b in zip(ours[framework], sgemm, strict=True)),
        }
        for framework in LENET5.framework_names
    }
    return {"frameworks": frameworks, "sgemm_flops": sgemm}


def scale(bench: Bench, rounds: int) -> dict[str, Any]:
    """Measure how time grows: seconds of each epoch, and images per second by batch size, as medians over the rounds."""
    epochs: dict[str, list[list[float]]] = {framework: [] for framework in LENET5.framework_names}
    batches: dict[str, dict[int, list[float]]] = {framework: {size: [] for size in BATCH_SIZES} for framework in LENET5.framework_names}
    for number in range(rounds):
        for framework in LENET5.framework_names:
            print(f"scaling round {number + 1}/{rounds}  {framework}", flush=True)
            epochs[framework].append([line["seconds"] for line in bench.train(framework, epochs=EPOCHS)])
            for size in BATCH_SIZES:
                batches[framework][size].append(bench.train(framework, batch_size=size)[-1]["samples_per_second"])
    return {
        "epoch_seconds": {
            framework: [statistics.median(seconds) for seconds in zip(*runs, strict=True)] for framework, runs in epochs.items()
        },
        "samples_per_second": {
            framework: {size: statistics.median(rates) for size, rates in sizes.items()} for framework, sizes in batches.items()
        },
    }


def tabulate(result: dict[str, Any]) -> Table:
    """Format the comparison: medians, with minimum and maximum in brackets."""
    table = Table(title=f"Training speed: batch {BATCH_SIZE}, threads {result['threads']}, {result['samples']:,} images per epoch")
    for heading in ("framework", "images/s", "tutorial, images/s", "× tutorial", "share of sgemm", "accuracy, tutorial's"):
        table.add_column(heading, justify="left" if heading == "framework" else "right")
    for framework, row in result["frameworks"].items():
        accuracy = row["accuracy"]
        table.add_row(
            framework,
            spread(row["ours"]),
            spread(row["tutorial"]),
            f"{row['speedup']:.2f}",
            f"{row['sgemm_share']:.1%}",
            f"{accuracy['ours']:.2%}, {accuracy['tutorial']:.2%}",
        )
    return table


def main(
    rounds: Annotated[int, typer.Option(help="Rounds of the comparison.", min=1)] = 5,
    scaling_rounds: Annotated[int, typer.Option(help="Rounds of the scaling by epochs and batch size; 0 skips them.", min=0)] = 3,
    samples: Annotated[int, typer.Option(help="Training images per epoch.", min=1024)] = 20_000,
    threads: Annotated[int, typer.Option(help="Threads of each program.", min=1)] = 1,
) -> None:
    """Measure, print the table, and write `train.json` and `train.txt` into the platform's `benchmarks` directory."""
    settings = load_settings()
    load = load_before()
    data = locate("auto", print)
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        for name in data.files:
            (directory / name).write_bytes(plain_bytes(data.directory / name))
        bench = Bench(data, directory, samples, threads)
        result = {"commit": git_commit(ROOT), "load_before": load, "samples": samples, "threads": threads, **compare(bench, rounds)}
        if scaling_rounds:
            result["scaling"] = scale(bench, scaling_rounds)
    text = render(tabulate(result))
    keep(settings.home, "train", result, text)
    print(text)


def plain_bytes(file: Path) -> bytes:
    """Return the content of an IDX file, stored plain or as `.gz`: libtorch's own loader reads only plain ones."""
    return file.read_bytes() if file.exists() else gzip.decompress(file.with_name(file.name + ".gz").read_bytes())


if __name__ == "__main__":
    run_program(main)
