"""The metric of a model: the measure on the test set by which its versions are compared."""

import math
import re
from dataclasses import dataclass

# A metric's value is kept under its name beside other values: these are their names.
_TAKEN = {
    *("epoch", "loss", "seconds", "setup_seconds", "samples_per_second"),  # in metrics.jsonl and manifests
    *("framework", "dag_run", "git_commit", "data_fingerprint", "dataset", "manifest_sha256"),  # in the registry's tags
    *("name", "version", "aliases", "mlflow_run", "source", "created", "served"),  # in `windtunnel models --json`
    *("release", "reason", "example", "server", "run"),  # in reports and events
}


@dataclass(frozen=True)
class Metric:
    """The measure on the test set by which versions of a model are compared.

    Attributes:
        name: its name in texts, and the key of its value in `metrics.jsonl`, in manifests, in the registry and in MLflow.
        higher_is_better: whether the version with the larger value is the better one.
        format: how `str.format` prints it.
        low, high: the smallest and the largest possible value; None: any finite number.
        margin: how much worse than the champion a version may be and is still promoted, unless a run chooses otherwise.

    Raises:
        ValueError: the name cannot be a key, or a version has another value under it.
    """

    name: str
    higher_is_better: bool
    format: str
    low: float | None = None
    high: float | None = None
    margin: float = 0.0

    def __post_init__(self) -> None:
        if not re.fullmatch("[a-z][a-z0-9_]*", self.name):
            raise ValueError(f"the metric's name is {self.name!r}, expected lower-case letters, digits and _, such as word_error_rate")
        if self.name in _TAKEN:
            raise ValueError(f"the metric's name is {self.name!r}, which is the name of another value of a version: choose another name")

    @property
    def in_percent(self) -> bool:
        """Whether it is a fraction that is printed in per cent."""
        return self.text(0.0).endswith("%")

    def checked(self, value: float) -> float:
        """Return `value`.

        Raises:
            ValueError: it is not finite or not between `low` and `high`.
        """
        low, high = -math.inf if self.low is None else self.low, math.inf if self.high is None else self.high
        if not (math.isfinite(value) and low <= value <= high):
            raise ValueError(f"{self.name} is {value}, expected a finite number from {low} to {high}")
        return value

    def text(self, value: float) -> str:
        """Format a value."""
        return self.format.format(value)

    def difference(self, value: float) -> str:
        """Format the difference of two values. Percentages differ by points."""
        text = self.text(value)
        return f"{text.removesuffix('%')} points" if self.in_percent else text

    def shortfall(self, value: float, reference: float) -> float:
        """Return how much worse `value` is than `reference`. It is negative if `value` is better."""
        return reference - value if self.higher_is_better else value - reference


ACCURACY = Metric("accuracy", higher_is_better=True, format="{:.2%}", low=0, high=1, margin=0.005)
"""The share of right answers, 0..1."""
