"""What the registry knows of a version, asked by MLflow's client (`windtunnel.registry`) or over REST (`windtunnel.aliases`)."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime


@dataclass(frozen=True)
class RegisteredVersion:
    """A version as the registry knows it. `accuracy` is on the test set, 0..1."""

    name: str
    version: int
    aliases: tuple[str, ...]
    framework: str
    accuracy: float
    dag_run: str
    git_commit: str
    data_fingerprint: str
    manifest_sha256: str
    mlflow_run: str
    source: str
    created: datetime


def registered_version(
    name: str, version: int, aliases: tuple[str, ...], tags: Mapping[str, str], mlflow_run: str, source: str, milliseconds: int
) -> RegisteredVersion:
    """The version that has these tags in the registry, where it was created so many `milliseconds` after 1970."""
    return RegisteredVersion(
        name=name,
        version=version,
        aliases=aliases,
        framework=tags.get("framework", "unknown"),
        accuracy=float(tags.get("accuracy", "nan")),
        dag_run=tags.get("dag_run", "unknown"),
        git_commit=tags.get("git_commit", "unknown"),
        data_fingerprint=tags.get("data_fingerprint", "unknown"),
        manifest_sha256=tags.get("manifest_sha256", "unknown"),
        mlflow_run=mlflow_run,
        source=source,
        created=datetime.fromtimestamp(milliseconds / 1000, UTC),
    )
