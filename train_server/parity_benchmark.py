"""Whether the parity certificate is right: silent where trainings are equal, and loud where one of them is not.

    make bench-parity

Everything is a whole run of defaults, judged as a run's certificate is. Equal trainings are the C++ trainer with two orders of its sums
(one thread and two), and whole runs of all frameworks: if they miss a number, that is a false alarm. Then PyTorch's trainer is sabotaged
in ten ways, one at a time, and compared with the other frameworks' honest trainings: it must miss a number.
"""

import shutil
import sys
import tempfile
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table
from safetensors.numpy import load_file

from train_server.alone import train_alone
from train_server.parity import Probes, judge
from train_server.sabotage import KINDS
from train_server.train import PROGRAMS
from windtunnel.datasets import KNOWN, DataSet, locate
from windtunnel.measure import keep
from windtunnel.program import run_program
from windtunnel.run import git_commit
from windtunnel.settings import ROOT, load_settings
from windtunnel.spec import FRAMEWORKS, Framework, Spec
from windtunnel.tables import render

DIFFERENCE = "difference of the test accuracies"
DISCORDANT = "test images that only one gets right"


@dataclass(frozen=True)
class Bench:
    """What is trained, and where its probes are kept; one that is there is not trained again."""

    data: DataSet
    available: int  # training images in `data`
    probes: Path
    samples: int
    epochs: int

    def spec(self, seed: int, threads: int = 1) -> Spec:
        """The defaults of a run."""
        data = self.data
        return Spec(dataset=data.name, mean=data.mean, std=data.std, samples=self.samples, epochs=self.epochs, seed=seed, threads=threads)

    def train(self, name: str, program: Sequence[str], seed: int, threads: int = 1) -> dict[str, np.ndarray]:
        """What the trainer notes; its probe is kept as `name`."""
        kept = self.probes / f"{self.data.name}-{seed}-{name}.safetensors"
        if not kept.exists():
            with tempfile.TemporaryDirectory(dir=self.probes) as place:
                version = Path(place) / "version"
                train_alone(program, self.spec(seed, threads), self.data, self.available, version)
                shutil.move(version / "probe.safetensors", kept)
            print(f"{kept.stem} trained", flush=True)
        return load_file(kept)

    def framework(self, framework: Framework, seed: int) -> dict[str, np.ndarray]:
        """What an honest trainer notes."""
        return self.train(framework, PROGRAMS["lenet5"][framework], seed)

    def judge(self, probes: Probes, seed: int) -> dict[str, Any]:
        """The numbers that were missed, and how the answers to the test images compare."""
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
    """The C++ trainer beside itself, its sums made in another order."""
    for seed in range(1, seeds + 1):
        program = PROGRAMS["lenet5"]["libtorch"]
        probes = {name: bench.train(name, program, seed, threads) for threads, name in ((1, "libtorch"), (2, "libtorch, 2 threads"))}
        yield bench.judge(probes, seed)


def whole(bench: Bench, runs: int) -> Iterable[dict[str, Any]]:
    """All frameworks, as a run trains them."""
    for seed in range(1, runs + 1):
        yield bench.judge({framework: bench.framework(framework, seed) for framework in FRAMEWORKS}, seed)


def sabotaged(bench: Bench, kinds: Iterable[str]) -> Iterable[dict[str, Any]]:
    """All frameworks, PyTorch's trainer sabotaged."""
    for kind in kinds:
        probes: Probes = {framework: bench.framework(framework, 1) for framework in FRAMEWORKS if framework != "pytorch"}
        probes["pytorch"] = bench.train(kind, [sys.executable, "-m", "train_server.sabotage", kind], 1)
        yield {"kind": kind} | bench.judge(probes, 1)


def tabulate_equal(result: dict[str, Any]) -> Table:
    """False alarms, and how near the differences came to their limits."""
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
    """What each kind was found by."""
    table = Table("sabotage", "data set", "found by", title="PyTorch's trainer sabotaged")
    for data, groups in result["data"].items():
        for row in groups["sabotage"]:
            table.add_row(row["kind"], data, "; ".join(row["by"]) or "NOTHING")
    return table


def main(
    dataset: Annotated[str, typer.Option(help="Data sets, with commas between.")] = ",".join(KNOWN),
    seeds: Annotated[int, typer.Option(help="Trainings with two orders of sums, of each data set.", min=0)] = 20,
    runs: Annotated[int, typer.Option(help="Whole runs of all frameworks, of each data set.", min=0)] = 3,
    sabotage: Annotated[int, typer.Option(help="Kinds of sabotage, of each data set.", min=0, max=len(KINDS))] = len(KINDS),
    samples: Annotated[int, typer.Option(help="Training images.", min=64)] = 60_000,
    epochs: Annotated[int, typer.Option(min=1)] = 5,
    probes: Annotated[Path | None, typer.Option(help="Where probes are kept; one that is there is not trained again.")] = None,
) -> None:
    """Train, judge, print the tables, write `parity.json` and `parity.txt` into the platform's `benchmarks` folder."""
    settings = load_settings()
    result: dict[str, Any] = {"commit": git_commit(ROOT), "samples": samples, "epochs": epochs, "data": {}}
    with tempfile.TemporaryDirectory() as place:
        for name in dataset.split(","):
            data = locate(name, print)
            bench = Bench(data, len(data.train()[1]), probes or Path(place), samples, epochs)
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
