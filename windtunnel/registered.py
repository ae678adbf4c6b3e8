"""A version in the registry, as read by MLflow's client (`windtunnel.registry`) or over REST (`windtunnel.aliases`)."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from windtunnel.metric import Metric
from windtunnel.model import metric_of


@dataclass(frozen=True)
class RegisteredVersion:
    """A version in the registry. `value` is that of its model's `metric` on the test set."""

    name: str
    version: int
    aliases: tuple[str, ...]
    framework: str
    metric: Metric
    value: float
    dag_run: str
    git_commit: str
    data_fingerprint: str
    manifest_sha256: str
    mlflow_run: str
    source: str
    created: datetime
    dataset: str = "unknown"

    @property
    def text(self) -> str:
        """The value of the metric as text, such as `99.06%`; empty if it is unknown, because the model's package is not installed."""
        return "" if math.isnan(self.value) else self.metric.text(self.value)

    @property
    def measured(self) -> str:
        """The metric with its value, such as `accuracy 99.06%`."""
        return f"{self.metric.name} {self.text}" if self.text else ""

    def as_dict(self) -> dict[str, Any]:
        """Return the version for JSON. The value of the metric is under the metric's name, such as `accuracy`; None if it is unknown."""
        fields = vars(self) | {"value": None if math.isnan(self.value) else self.value}
        return {self.metric.name if name == "value" else name: value for name, value in fields.items() if name != "metric"}


def registered_version(
    name: str, version: int, aliases: tuple[str, ...], tags: Mapping[str, str], mlflow_run: str, source: str, milliseconds: int
) -> RegisteredVersion:
    """Make a `RegisteredVersion` from the tags of the registry. `milliseconds` since 1970 is the time of its creation."""
    metric = metric_of(name)
    return RegisteredVersion(
        name=name,
        version=version,
        aliases=aliases,
        framework=tags.get("framework", "unknown"),
        metric=metric,
        value=_finite(tags.get(metric.name, "")),
        dag_run=tags.get("dag_run", "unknown"),
        git_commit=tags.get("git_commit", "unknown"),
        data_fingerprint=tags.get("data_fingerprint", "unknown"),
        manifest_sha256=tags.get("manifest_sha256", "unknown"),
        mlflow_run=mlflow_run,
        source=source,
        created=datetime.fromtimestamp(milliseconds / 1000, UTC),
        dataset=tags.get("dataset", "unknown"),
    )


def _finite(text: str) -> float:
    """Return the number that a tag says; NaN if it says none: anyone who can reach MLflow can set tags."""
    try:
        value = float(text)
    except ValueError:
        return math.nan
    return value if math.isfinite(value) else math.nan
