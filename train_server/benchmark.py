"""How fast the trainers are: beside their frameworks' tutorials, and beside what the machine can multiply.

    make bench-train

Every number is images a second while training, start-up and compilation apart, LeNet-5 on MNIST, or Fashion-MNIST where that is
all there is, in programs of their own. In each round all programs run once, one after the other, so that a machine that slows
down slows all of them; medians over the rounds are compared. The sgemm rate, measured in each round too, says how much of the
machine a trainer uses.
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

from train_server.alone import train_alone
from train_server.train import PROGRAMS
from windtunnel.datasets import DataSet, locate
from windtunnel.measure import execute, keep, load_before, spread
from windtunnel.program import run_program
from windtunnel.run import git_commit
from windtunnel.settings import ROOT, load_settings
from windtunnel.spec import FRAMEWORKS, Framework, Spec
from windtunnel.tables import render

TUTORIALS: dict[Framework, list[str]] = {
    "libtorch": [str(ROOT / "libtorch_cpp/build/tutorial_mnist")],
    "pytorch": [sys.executable, "-m", "train_server.lenet5.tutorial_pytorch"],
    "tensorflow": [sys.executable, "-m", "train_server.lenet5.tutorial_tensorflow"],
}
BATCH_SIZE = 64
BATCH_SIZES = (32, 64, 128, 256, 512, 1024)
EPOCHS = 10

# Multiply-adds of one image's forward pass, outputs × inputs of each, in C1, C3, C5, F6 and OUT.
FORWARD = 28 * 28 * 6 * 25 + 10 * 10 * 16 * 150 + 120 * 400 + 84 * 120 + 10 * 84
TRAINING_FLOPS = 2 * 3 * FORWARD  # a multiply-add is two operations; the backward pass costs twice the forward pass


@dataclass(frozen=True)
class Bench:
    """Where the measured programs find their data, plain IDX files in `directory`, and what they leave."""

    data: DataSet
    directory: Path
    available: int  # training images in `data`
    samples: int
    threads: int

    def train(self, framework: Framework, batch_size: int = BATCH_SIZE, epochs: int = 1) -> list[dict[str, float]]:
        """Run our trainer; the lines of its `metrics.jsonl`."""
        with tempfile.TemporaryDirectory(dir=self.directory) as place:
            spec = Spec(
                dataset=self.data.name,
                mean=self.data.mean,
                std=self.data.std,
                samples=self.samples,
                epochs=epochs,
                batch_size=batch_size,
                threads=self.threads,
            )
            out = Path(place) / "version"
            train_alone(PROGRAMS["lenet5"][framework], spec, self.data, self.available, out)
            return [json.loads(line) for line in (out / "metrics.jsonl").read_text().splitlines()]

    def tutorial(self, framework: Framework) -> dict[str, float]:
        """Run the framework's tutorial way; what its last line says."""
        flags = ["--data", self.directory, "--batch-size", BATCH_SIZE, "--threads", self.threads, "--samples", self.samples]
        return last_line(execute([*TUTORIALS[framework], *flags]))

    def sgemm(self) -> float:
        """Floating-point operations a second of large matrix products."""
        return last_line(execute([sys.executable, "-m", "train_server.sgemm", "--threads", self.threads]))["flops"]


def last_line(output: str) -> dict[str, float]:
    """The JSON object that a program's last line is."""
    return json.loads(output.strip().splitlines()[-1])


def compare(bench: Bench, rounds: int) -> dict[str, Any]:
    """Our trainers, the tutorials and sgemm, each once a round."""
    ours: dict[Framework, list[float]] = {framework: [] for framework in FRAMEWORKS}
    tutorial: dict[Framework, list[float]] = {framework: [] for framework in FRAMEWORKS}
    accuracy: dict[Framework, dict[str, float]] = {}
    sgemm = []
    for number in range(rounds):
        sgemm.append(bench.sgemm())
        for framework in FRAMEWORKS:
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
        for framework in FRAMEWORKS
    }
    return {"frameworks": frameworks, "sgemm_flops": sgemm}


def scale(bench: Bench, rounds: int) -> dict[str, Any]:
    """How time grows: seconds after each of ten epochs, and images a second by batch size, medians over the rounds."""
    epochs: dict[Framework, list[list[float]]] = {framework: [] for framework in FRAMEWORKS}
    batches: dict[Framework, dict[int, list[float]]] = {framework: {size: [] for size in BATCH_SIZES} for framework in FRAMEWORKS}
    for number in range(rounds):
        for framework in FRAMEWORKS:
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
    """The comparison for people: medians, and the spread of the rounds in brackets."""
    table = Table(title=f"Training speed: batch {BATCH_SIZE}, threads {result['threads']}, {result['samples']:,} images an epoch")
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
    scaling_rounds: Annotated[int, typer.Option(help="Rounds of the growth by epochs and batch size; 0 leaves them out.", min=0)] = 3,
    samples: Annotated[int, typer.Option(help="Training images in an epoch.", min=1024)] = 20_000,
    threads: Annotated[int, typer.Option(help="Threads of every program.", min=1)] = 1,
) -> None:
    """Measure, print the table, write `train.json` and `train.txt` into the platform's `benchmarks` folder."""
    settings = load_settings()
    load = load_before()
    data = locate("auto", print)
    with tempfile.TemporaryDirectory() as place:
        directory = Path(place)
        for name in data.files:
            (directory / name).write_bytes(plain_bytes(data.directory / name))
        bench = Bench(data, directory, len(data.train()[1]), samples, threads)
        result = {"commit": git_commit(ROOT), "load_before": load, "samples": samples, "threads": threads, **compare(bench, rounds)}
        if scaling_rounds:
            result["scaling"] = scale(bench, scaling_rounds)
    text = render(tabulate(result))
    keep(settings.home, "train", result, text)
    print(text)


def plain_bytes(file: Path) -> bytes:
    """An IDX file's content, whether it is kept plain or as `.gz`: libtorch's own loader reads only plain ones."""
    return file.read_bytes() if file.exists() else gzip.decompress(file.with_name(file.name + ".gz").read_bytes())


if __name__ == "__main__":
    run_program(main)
