"""LeNet-5's parity certificate: evidence that the frameworks of a run trained the same model.

    python -m train_server.lenet5.parity --run DIR

Before the first step, the logits may differ only by rounding. Gradients and losses in float32 may differ by more: frameworks sum in
different orders, and when two values are equal except for rounding, max-pooling may pass the gradient to another pixel, or a ReLU may block
it. Adam then takes a step of full length for a weight whose gradient has been zero so far. For example, the losses of PyTorch with its
convolutions written as matrix products differ from those of PyTorch by 0.02 after 100 steps. So each trainer also takes its first steps in
float64, with the same code. Rounding is too small for this effect there: the first gradients and all losses must be equal.

The final float32 models are compared image by image. Equal trainings may differ by as much as chance allows (`train_server.lenet5.chance`),
on any data set.
"""

import itertools
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from safetensors.numpy import load_file

from train_server.certificate import Check, issue, read_versions
from train_server.lenet5.chance import CORRELATION, CORRELATION_OTHERWISE, EXPLANATION, STABLE_RATE, largest_difference
from train_server.lenet5.model import Spec
from windtunnel.data.datasets import locate
from windtunnel.errors import WindtunnelError
from windtunnel.platform.program import run_program
from windtunnel.run import Run
from windtunnel.spec import load_spec

LOGITS = 1e-5
FLOAT64 = 1e-9  # for gradients and losses in float64; the largest observed difference is 2e-14
MNIST_ACCURACY = 0.989  # LeCun et al. (1998) report 0.9905

Probes = dict[str, dict[str, np.ndarray]]
"""The content of `probe.safetensors` of each framework."""


def compare(one: str, other: str, probes: Probes) -> Iterator[Check]:
    """Compare the first steps of two trainers, from `probe.safetensors`; checks that need more steps than the run has are left out."""
    a, b = probes[one], probes[other]
    who = f"{one}, {other}"
    yield Check("logits before the first step", who, _distance(a["logits"], b["logits"]), LOGITS)
    gradients = [name for name in a if name.startswith("gradient.")]
    yield Check("first gradients, float64", who, float(np.max([_distance(a[name], b[name]) for name in gradients])), FLOAT64)
    for name, dtype, limit in (("rehearsal", "float64", FLOAT64), ("losses", "float32", None)):
        for steps in (10, 100):
            if max(len(a[name]), len(b[name])) > steps:
                yield Check(f"losses up to step {steps}, {dtype}", who, _distance(a[name][: steps + 1], b[name][: steps + 1]), limit)


def judge_steps(probes: Probes, spec: Spec) -> Iterator[Check]:
    """Check that each framework recorded a loss for every step."""
    for framework, probe in probes.items():
        yield Check("steps left out or added", framework, abs(len(probe["losses"]) - spec.steps), 0)


def judge_accuracies(probes: Probes, labels: np.ndarray, spec: Spec) -> Iterator[Check]:
    """Compare the final predictions image by image, and for a reference run on MNIST the accuracies with LeNet-5's published accuracy.

    `labels` are the labels of the test images. The limit is the difference that chance allows for two equal trainings; see
    `train_server.lenet5.chance`.
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
    """Return whether the spec is one with a known result: all the data, the default optimiser and schedule, at least 5 epochs."""
    known = Spec(dataset=spec.dataset, mean=spec.mean, std=spec.std, samples=60_000)
    fields = ("samples", "batch_size", "learning_rate", "beta1", "beta2", "epsilon", "schedule")
    return spec.epochs >= known.epochs and all(getattr(spec, name) == getattr(known, name) for name in fields)


def judge(probes: Probes, labels: np.ndarray, spec: Spec) -> list[Check]:
    """Return all checks of the frameworks' probes for `spec`; `labels` are the labels of the test images.

    Raises:
        WindtunnelError: the number of a framework's predictions differs from the number of labels.
    """
    for framework, probe in probes.items():
        if len(probe["predictions"]) != len(labels):
            raise WindtunnelError(
                f"{framework} has a wrong number of predictions: found {len(probe['predictions'])}, expected {len(labels)}, one for each "
                "test image. Train again"
            )
    pairs = itertools.combinations(probes, 2)
    return [
        *(check for pair in pairs for check in compare(*pair, probes)),
        *judge_steps(probes, spec),
        *judge_accuracies(probes, labels, spec),
    ]


def certify(run: Run) -> list[Check]:
    """Return all checks of a run.

    Raises:
        WindtunnelError: a version is missing, two versions were trained with different specs or data, or the data set is missing.
    """
    versions = read_versions(run)
    spec = load_spec(run.spec_file, Spec)
    labels = locate(spec.dataset).test()[1]
    return judge({framework: load_file(version / "probe.safetensors") for framework, version in versions.items()}, labels, spec)


def main(run: Annotated[Path, typer.Option(help="The run's directory.")]) -> None:
    """Write the parity certificate of a run; fail and list the checks that failed, if any."""
    here = Run(run)
    issue(here, certify(here), EXPLANATION)


def _distance(a: np.ndarray, b: np.ndarray) -> float:
    """Return the largest absolute difference; NaN, which passes no check, if either has a NaN or the shapes differ."""
    if a.shape != b.shape:
        return math.nan
    return float(np.max(np.abs(a.astype(np.float64) - b)))


if __name__ == "__main__":
    run_program(main)
