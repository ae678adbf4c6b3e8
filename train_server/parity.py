"""The parity certificate: proof that the frameworks of a run trained the same thing.

    python -m train_server.parity --run DIR

Before the first step nothing but rounding may differ. After it, float32 drifts apart whatever one does: sums are made in
another order, a maximum or a ReLU falls to the other side, and Adam gives a weight whose gradient has been zero so far a
step of full length. PyTorch with its convolutions written as matrix products is 0.02 away from itself after 100 steps. So each trainer
also takes its first steps in float64, with the same code, where rounding is too small for that: there, every loss must be the same.

What float32 came to in the end is compared image by image: equal trainings may differ as much as chance makes them differ
(`train_server.chance`), on any data set.
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

from train_server.chance import CORRELATION, CORRELATION_OTHERWISE, EXPLANATION, STABLE_RATE, largest_difference
from windtunnel.datasets import locate
from windtunnel.errors import WindtunnelError
from windtunnel.files import write_atomically, write_json
from windtunnel.manifest import read_manifest
from windtunnel.program import run_program
from windtunnel.run import Run
from windtunnel.spec import Spec
from windtunnel.tables import render

LOGITS, GRADIENTS = 1e-5, 1e-6
LOSS = 1e-9  # in float64; 2e-14 has been seen
MNIST_ACCURACY = 0.989  # LeCun et al. (1998) report 0.9905

Probes = dict[str, dict[str, np.ndarray]]
"""What each framework noted in its `probe.safetensors`."""


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
    def found(self) -> str:
        """The number, for people."""
        return f"{self.value:,}" if isinstance(self.value, int) else f"{self.value:.3g}"

    @property
    def requirement(self) -> str:
        """What the number must be, for people."""
        return "" if self.limit is None else f"at {'least' if self.at_least else 'most'} {self.limit:.3g}"

    def __str__(self) -> str:
        return f"{self.name} ({self.who}) is {self.found}, must be {self.requirement}"


def compare(one: str, other: str, probes: Probes) -> Iterator[Check]:
    """Compare what two trainers noted in `probe.safetensors` of their first steps, as far as the run was long enough."""
    a, b = probes[one], probes[other]
    who = f"{one}, {other}"
    yield Check("logits before the first step", who, _distance(a["logits"], b["logits"]), LOGITS)
    gradients = [name for name in a if name.startswith("gradient.")]
    yield Check("first gradients", who, float(np.max([_distance(a[name], b[name]) for name in gradients])), GRADIENTS)
    for name, dtype, limit in (("rehearsal", "float64", LOSS), ("losses", "float32", None)):
        for steps in (10, 100):
            if max(len(a[name]), len(b[name])) > steps:
                yield Check(f"losses up to step {steps}, {dtype}", who, _distance(a[name][: steps + 1], b[name][: steps + 1]), limit)


def judge_steps(probes: Probes, spec: Spec) -> Iterator[Check]:
    """Count the steps that each framework has noted a loss of."""
    for framework, probe in probes.items():
        yield Check("steps left out or added", framework, abs(len(probe["losses"]) - spec.steps), 0)


def judge_accuracies(probes: Probes, labels: np.ndarray, spec: Spec) -> Iterator[Check]:
    """Compare the final answers to the test images, image by image, and on MNIST the accuracies with what LeNet-5 is known to reach.

    `labels` are those of the test images. What is allowed is what chance makes of two equal trainings, see `train_server.chance`.
    """
    right = {framework: probe["predictions"] == labels for framework, probe in probes.items()}
    pairs = list(itertools.combinations(right, 2))
    correlation = CORRELATION if is_reference(spec) else CORRELATION_OTHERWISE
    known = spec.learning_rate <= STABLE_RATE
    for one, other in pairs:
        discordant = int((right[one] != right[other]).sum())
        difference = abs(int(right[one].sum()) - int(right[other].sum()))
        limit = largest_difference(discordant, correlation, len(pairs)) / len(labels) if known else None
        yield Check("test images that only one gets right", f"{one}, {other}", discordant)
        yield Check("difference of the test accuracies", f"{one}, {other}", difference / len(labels), limit)
    if is_reference(spec) and spec.dataset == "mnist":
        for framework in right:
            yield Check("test accuracy on MNIST", framework, float(right[framework].mean()), MNIST_ACCURACY, at_least=True)


def is_reference(spec: Spec) -> bool:
    """Whether the spec is one whose outcome is known: all the data, the default optimiser and schedule, 5 epochs or more."""
    known = Spec(dataset=spec.dataset, mean=spec.mean, std=spec.std, samples=60_000)
    fields = ("samples", "batch_size", "learning_rate", "beta1", "beta2", "epsilon", "schedule")
    return spec.epochs >= known.epochs and all(getattr(spec, name) == getattr(known, name) for name in fields)


def judge(probes: Probes, labels: np.ndarray, spec: Spec) -> list[Check]:
    """All checks of what the frameworks noted while they trained `spec`; `labels` are those of the test images.

    Raises:
        WindtunnelError: a framework noted another number of predictions than there are labels.
    """
    for framework, probe in probes.items():
        if len(probe["predictions"]) != len(labels):
            raise WindtunnelError(
                f"{framework} noted {len(probe['predictions'])} predictions, expected {len(labels)}, one for each test image: train again"
            )
    pairs = itertools.combinations(probes, 2)
    return [
        *(check for pair in pairs for check in compare(*pair, probes)),
        *judge_steps(probes, spec),
        *judge_accuracies(probes, labels, spec),
    ]


def certify(run: Run) -> list[Check]:
    """All checks of a run.

    Raises:
        WindtunnelError: a version is missing, two versions were not trained with the same spec and data, or the data set cannot be had.
    """
    frameworks = run.lineage().frameworks
    manifests = {framework: read_manifest(run.version(framework)) for framework in frameworks}
    first = frameworks[0]
    for framework, manifest in manifests.items():
        for part in ("spec", "dataset"):
            expected, found = getattr(manifests[first], part), getattr(manifest, part)
            if found != expected:
                raise WindtunnelError(f"{framework} was trained with another {part} ({found}) than {first} ({expected}); start a new run")
    spec = run.spec()
    labels = locate(spec.dataset).test()[1]
    return judge({framework: load_file(run.version(framework) / "probe.safetensors") for framework in frameworks}, labels, spec)


def tabulate(checks: list[Check]) -> Table:
    """The certificate for people."""
    caption = EXPLANATION if any("," in check.who for check in checks) else None  # of two frameworks
    table = Table("what", "frameworks", "found", "must be", "", title="Parity certificate", caption=caption, caption_justify="left")
    for check in checks:
        verdict = "passed" if check.passed else "MISSED"
        table.add_row(check.name, check.who, check.found, check.requirement, "" if check.limit is None else verdict)
    return table


def main(run: Annotated[Path, typer.Option(help="The run's directory.")]) -> None:
    """Write the parity certificate of a run; fail if a number misses its limit, and say which."""
    here = Run(run)
    checks = certify(here)
    missed = [check for check in checks if not check.passed]
    content = {"passed": not missed, "checks": [{**asdict(check), "passed": check.passed} for check in checks]}
    write_json(here.certificate, content)
    text = render(tabulate(checks))
    write_atomically(here.certificate.with_suffix(".txt"), text.encode())
    print(text)
    if missed:
        raise WindtunnelError(f"the parity certificate of {here.name} failed: {'; '.join(map(str, missed))}")


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    """The largest absolute difference; NaN, which passes no check, if either holds one or their shapes differ."""
    if a.shape != b.shape:
        return math.nan
    return float(np.max(np.abs(a.astype(np.float64) - b)))


if __name__ == "__main__":
    run_program(main)
