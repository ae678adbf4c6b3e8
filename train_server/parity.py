"""The parity certificate: proof that the frameworks of a run trained the same thing.

    python -m train_server.parity --run DIR

Before the first step nothing but rounding may differ. After it, float32 drifts apart whatever one does: sums are made in
another order, a maximum or a ReLU falls to the other side, and Adam gives a weight whose gradient has been zero so far a
step of full length. PyTorch with its convolutions written as matrix products is 0.02 away from itself after 100 steps. So each trainer
also takes its first steps in float64, with the same code, where rounding is too small for that: there, every loss must be the same.
"""

import itertools
import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from rich.table import Table
from safetensors.numpy import load_file

from windtunnel.errors import WindtunnelError
from windtunnel.files import write_atomically, write_json
from windtunnel.manifest import Manifest, read_manifest
from windtunnel.program import run_program
from windtunnel.run import Run
from windtunnel.settings import load_settings
from windtunnel.spec import Framework, Spec
from windtunnel.tables import render
from windtunnel.tracking import client, reachable

LOGITS, GRADIENTS = 1e-5, 1e-6
LOSS = 1e-9  # in float64; 2e-14 has been seen
SPREAD = 0.003
MNIST_ACCURACY = 0.989  # LeCun et al. (1998) report 0.9905
TEST_IMAGES = 10_000  # in MNIST and in Fashion-MNIST


@dataclass(frozen=True)
class Check:
    """One number of the certificate: at most `limit`, or at least where `at_least`; where there is no limit, it is only shown."""

    name: str
    who: str
    value: float
    limit: float | None = None
    at_least: bool = False

    @property
    def passed(self) -> bool:
        """Whether the number meets its limit; NaN meets none."""
        if self.limit is None:
            return True
        return self.value >= self.limit if self.at_least else self.value <= self.limit

    @property
    def requirement(self) -> str:
        """What the number must be, for people."""
        return "" if self.limit is None else f"at {'least' if self.at_least else 'most'} {self.limit:.3g}"

    def __str__(self) -> str:
        return f"{self.name} ({self.who}) is {self.value:.3g}, must be {self.requirement}"


def compare(one: Framework, other: Framework, probes: dict[Framework, dict[str, np.ndarray]]) -> Iterator[Check]:
    """Compare what two trainers noted in `probe.safetensors`, as far as the run was long enough."""
    a, b = probes[one], probes[other]
    who = f"{one}, {other}"
    yield Check("logits before the first step", who, _distance(a["logits"], b["logits"]), LOGITS)
    gradients = [name for name in a if name.startswith("gradient.")]
    yield Check("first gradients", who, max(_distance(a[name], b[name]) for name in gradients), GRADIENTS)
    for name, dtype, limit in (("rehearsal", "float64", LOSS), ("losses", "float32", None)):
        for steps in (10, 100):
            if len(a[name]) > steps:
                yield Check(f"losses up to step {steps}, {dtype}", who, _distance(a[name][: steps + 1], b[name][: steps + 1]), limit)


def judge_accuracies(manifests: dict[Framework, Manifest]) -> Iterator[Check]:
    """Compare the final test accuracies with each other, and on MNIST with what LeNet-5 is known to reach."""
    accuracies = {framework: manifest.metrics.accuracy for framework, manifest in manifests.items()}
    spec = next(iter(manifests.values())).spec
    whole = isinstance(spec, Spec) and is_reference(spec)
    if len(accuracies) > 1:
        spread = max(accuracies.values()) - min(accuracies.values())
        limit = SPREAD if whole else max(SPREAD, chance_spread(float(np.mean(list(accuracies.values())))))
        yield Check("spread of the test accuracies", ", ".join(accuracies), spread, limit)
    if whole and spec.dataset == "mnist":
        for framework, accuracy in accuracies.items():
            yield Check("test accuracy on MNIST", framework, accuracy, MNIST_ACCURACY, at_least=True)


def is_reference(spec: Spec) -> bool:
    """Whether the spec is the one whose accuracy is known: all the data, the default optimiser and schedule, 5 epochs or more."""
    known = Spec(dataset=spec.dataset, mean=spec.mean, std=spec.std, samples=60_000)
    fields = ("samples", "batch_size", "learning_rate", "beta1", "beta2", "epsilon", "schedule")
    return spec.epochs >= known.epochs and all(getattr(spec, name) == getattr(known, name) for name in fields)


def chance_spread(accuracy: float) -> float:
    """How far apart two equally good models' accuracies may lie: four standard errors of their difference.

    A short run ends where its models still change with every step, so it's held to chance instead of to 0.3 points.
    """
    return 4 * math.sqrt(2 * accuracy * (1 - accuracy) / TEST_IMAGES)


def certify(run: Run) -> list[Check]:
    """All checks of a run.

    Raises:
        WindtunnelError: a version is missing, or two versions were not trained with the same spec and data.
    """
    frameworks = run.lineage().frameworks
    manifests = {framework: read_manifest(run.version(framework)) for framework in frameworks}
    first = frameworks[0]
    for framework, manifest in manifests.items():
        for part in ("spec", "dataset"):
            expected, found = getattr(manifests[first], part), getattr(manifest, part)
            if found != expected:
                raise WindtunnelError(f"{framework} was trained with another {part} ({found}) than {first} ({expected}); start a new run")
    probes = {framework: load_file(run.version(framework) / "probe.safetensors") for framework in frameworks}
    pairs = itertools.combinations(frameworks, 2)
    return [*(check for pair in pairs for check in compare(*pair, probes)), *judge_accuracies(manifests)]


def tabulate(checks: list[Check]) -> Table:
    """The certificate for people."""
    table = Table("what", "frameworks", "found", "must be", "", title="Parity certificate")
    for check in checks:
        verdict = "passed" if check.passed else "MISSED"
        table.add_row(check.name, check.who, f"{check.value:.3g}", check.requirement, "" if check.limit is None else verdict)
    return table


def main(run: Annotated[Path, typer.Option(help="The run's directory.")]) -> None:
    """Write the parity certificate of a run; fail if a number misses its limit, and say which."""
    here = Run(run)
    settings = load_settings()
    checks = certify(here)
    missed = [check for check in checks if not check.passed]
    content = {"passed": not missed, "checks": [{**asdict(check), "passed": check.passed} for check in checks]}
    write_json(here.certificate, content)
    text = render(tabulate(checks))
    write_atomically(here.certificate.with_suffix(".txt"), text.encode())
    print(text)
    parent = here.lineage().mlflow_run
    with reachable(settings):
        mlflow = client(settings)
        for file in (here.certificate, here.certificate.with_suffix(".txt")):
            mlflow.log_artifact(parent, str(file))
    if missed:
        raise WindtunnelError(f"the parity certificate of {here.name} failed: {'; '.join(map(str, missed))}")


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    """The largest absolute difference; NaN, which passes no check, if either holds one."""
    return float(np.max(np.abs(a.astype(np.float64) - b)))


if __name__ == "__main__":
    run_program(main)
