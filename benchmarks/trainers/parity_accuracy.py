"""Test the parity certificate: it must pass equal trainings and fail unequal ones.

    make bench-parity

Every training is a whole run with the defaults, and is judged as a run's certificate is. Equal trainings are the native trainer with two
summation orders (one thread and two), and whole runs of the default frameworks: a failed check there is a false alarm. Then PyTorch's
trainer is sabotaged in ten ways, one at a time, and compared with unmodified trainings by the other frameworks: at least one check
must fail.
"""

import shutil
import sys
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table
from safetensors.numpy import load_file

from benchmarks.trainers.sabotaged_trainer import KINDS
from train_server.lenet5.model import LENET5, Spec
from train_server.lenet5.parity import Probes, judge
from train_server.standalone import train_alone
from windtunnel.data.datasets import KNOWN, DataSet, locate
from windtunnel.measure import keep
from windtunnel.model import Framework
from windtunnel.platform.program import run_program
from windtunnel.run import git_commit
from windtunnel.settings import ROOT, load_settings
from windtunnel.tables import render

DIFFERENCE = "difference of the test accuracies"
DISCORDANT = "test images that only one gets right"


@dataclass(frozen=True)
class Bench:
    """The data to train on, and the directory where probes are kept. A training whose probe exists is skipped."""

    data: DataSet
    probes: Path
    samples: int
    epochs: int

    def spec(self, seed: int, threads: int = 1) -> Spec:
        """Return the spec of a default run."""
        data = self.data
        return Spec(dataset=data.name, mean=data.mean, std=data.std, samples=self.samples, epochs=self.epochs, seed=seed, threads=threads)

    def train(self, name: str, program: Framework, seed: int, threads: int = 1) -> dict[str, np.ndarray]:
        """Train and return the probe, which is kept as `name`."""
        kept = self.probes / f"{self.data.name}-{seed}-{name}.safetensors"
        if not kept.exists():
            with tempfile.TemporaryDirectory(dir=self.probes) as place:
                version = Path(place) / "version"
                train_alone(LENET5, program, self.data, self.spec(seed, threads).model_dump(exclude={"dataset"}), version)
                shutil.move(version / "probe.safetensors", kept)
            print(f"{kept.stem} trained", flush=True)
        return load_file(kept)

    def framework(self, framework: str, seed: int) -> dict[str, np.ndarray]:
        """Return the probe of a framework's unmodified trainer."""
        return self.train(framework, LENET5.framework(framework), seed)

    def judge(self, probes: Probes, seed: int) -> dict[str, Any]:
        """Return the checks that failed, and how the answers to the test images compare."""
        checks = judge(probes, self.data.test()[1], self.spec(seed))
        numbers = {name: [check for check in checks if check.name == name] for name in (DISCORDANT, DIFFERENCE)}
        return {
            "seed": seed,
            "missed": [str(check) for check in checks if not check.passed],
            "by": list(dict.fromkeys(check.name for check in checks if not check.passed)),
            "discordant": [check.value for check in numbers[DISCORDANT]],
            "differences": [check.value for check in numbers[DIFFERENCE]],
            "limits": [check.limit for check in numbers[DIFFERENCE]],
        }


def equal(bench: Bench, seeds: int) -> Iterable[dict[str, Any]]:
    """Compare the native trainer with itself with another summation order."""
    for seed in range(1, seeds + 1):
        program = LENET5.framework("native")
        probes = {name: bench.train(name, program, seed, threads) for threads, name in ((1, "native"), (2, "native, 2 threads"))}
        yield bench.judge(probes, seed)


def whole(bench: Bench, runs: int) -> Iterable[dict[str, Any]]:
    """Compare the default frameworks, trained as in a run."""
    for seed in range(1, runs + 1):
        yield bench.judge({framework: bench.framework(framework, seed) for framework in LENET5.default_frameworks}, seed)


def sabotaged(bench: Bench, kinds: Iterable[str]) -> Iterable[dict[str, Any]]:
    """Compare the default frameworks, with PyTorch's trainer sabotaged."""
    honest = LENET5.framework("pytorch")
    for kind in kinds:
        probes: Probes = {framework: bench.framework(framework, 1) for framework in LENET5.default_frameworks if framework != "pytorch"}
        probes["pytorch"] = bench.train(
            kind, replace(honest, command=(sys.executable, "-m", "benchmarks.trainers.sabotaged_trainer", kind)), 1
        )
        yield {"kind": kind} | bench.judge(probes, 1)


def tabulate_equal(result: dict[str, Any]) -> Table:
    """Format the false alarms, and how close the differences came to their limits."""
    table = Table(title="Equal trainings: false alarms")
    for heading in (
        "trainings",
        "runs",
        "images only one gets right",
        "difference, points",
        "of its limit",
        "variance/McNemar's",
        "false alarms",
    ):
        table.add_column(heading, justify="left" if heading == "trainings" else "right")
    for data, groups in result["data"].items():
        for group in ("two orders of sums", "all frameworks"):
            if rows := groups[group]:
                discordant, differences, limits = (
                    np.concatenate([row[name] for row in rows]) for name in ("discordant", "differences", "limits")
                )
                images = differences * result["test_images"]
                table.add_row(
                    f"{group}, {data}",
                    str(len(rows)),
                    f"{np.median(discordant):,.0f} ({discordant.min():,.0f} to {discordant.max():,.0f})",
                    f"{100 * np.median(differences):.2f} ({100 * differences.min():.2f} to {100 * differences.max():.2f})",
                    f"{(differences / np.maximum(limits, 1e-9)).max():.0%} at most",
                    f"{(images**2 / np.maximum(discordant, 1)).mean():.2f}",
                    str(sum(bool(row["missed"]) for row in rows)),
                )
    return table


def tabulate_sabotage(result: dict[str, Any]) -> Table:
    """Format which checks found each kind of sabotage."""
    table = Table("sabotage", "data set", "found by", title="PyTorch's trainer sabotaged")
    for data, groups in result["data"].items():
        for row in groups["sabotage"]:
            table.add_row(row["kind"], data, "; ".join(row["by"]) or "NOTHING")
    return table


def main(
    dataset: Annotated[str, typer.Option(help="Data sets, separated by commas.")] = ",".join(KNOWN),
    seeds: Annotated[int, typer.Option(help="Trainings with two summation orders per data set.", min=0)] = 20,
    runs: Annotated[int, typer.Option(help="Whole runs of all frameworks per data set.", min=0)] = 3,
    sabotage: Annotated[int, typer.Option(help="Kinds of sabotage per data set.", min=0, max=len(KINDS))] = len(KINDS),
    samples: Annotated[int, typer.Option(help="Number of training images.", min=64)] = 60_000,
    epochs: Annotated[int, typer.Option(min=1)] = 5,
    probes: Annotated[Path | None, typer.Option(help="Keep probes in this directory. A training whose probe exists is skipped.")] = None,
) -> None:
    """Train, judge, print the tables, and write `parity.json` and `parity.txt` into the platform's `benchmarks` directory."""
    settings = load_settings()
    result: dict[str, Any] = {"commit": git_commit(ROOT), "samples": samples, "epochs": epochs, "data": {}}
    with tempfile.TemporaryDirectory() as place:
        for name in dataset.split(","):
            data = locate(name, print)
            bench = Bench(data, probes or Path(place), samples, epochs)
            bench.probes.mkdir(parents=True, exist_ok=True)
            result["test_images"] = len(data.test()[1])
            result["data"][name] = {
                "two orders of sums": list(equal(bench, seeds)),
                "all frameworks": list(whole(bench, runs)),
                "sabotage": list(sabotaged(bench, list(KINDS)[:sabotage])),
            }
    text = render(tabulate_equal(result)) + render(tabulate_sabotage(result))
    keep(settings.home, "parity", result, text)
    print(text)


if __name__ == "__main__":
    run_program(main)
