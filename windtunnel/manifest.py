"""Read and verify the manifest, which describes a version's artefacts.

The trainer writes it last (`train_server/README.md`): a directory with a manifest is a complete version.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from functools import cache
from pathlib import Path, PurePosixPath
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, SerializeAsAny, ValidationError, ValidationInfo, create_model, field_validator

from windtunnel.errors import VersionError, WindtunnelError
from windtunnel.files import sha256
from windtunnel.metric import Metric
from windtunnel.model import find_model
from windtunnel.spec import Training, first_problem

MANIFEST = "manifest.json"
REGISTRATION = "registration.json"
SIGNATURE = "model.sig"
"""What registering adds to a version. See `windtunnel.signatures`."""


class Part(BaseModel):
    """A part of the manifest: immutable, and without unknown fields."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DataLineage(Part):
    """The training data: `files` maps a file to the SHA-256 of its uncompressed content; `fingerprint` is one SHA-256 for all."""

    name: str
    fingerprint: str
    files: dict[str, str]


class Metrics(Part):
    """Mean training loss of the last epoch, seconds of training, and seconds before the first step.

    In a manifest it also has the value of the model's metric on the test set, by the metric's name, such as `accuracy`.
    """

    loss: float
    seconds: float
    setup_seconds: float
    samples_per_second: float


@cache
def _metrics_with(metric: Metric) -> type[Metrics]:
    """Return the type of the metrics of a model that is measured by `metric`."""
    value: Any = (float, Field(ge=metric.low, le=metric.high, allow_inf_nan=False))
    return create_model(Metrics.__name__, __base__=Metrics, **{metric.name: value})


class Environment(Part):
    """The software and machine that a version was trained on."""

    packages: dict[str, str]
    threads: int
    machine: str
    cpu: str


@contextmanager
def _as_value_error() -> Iterator[None]:
    """Turn an error about a declaration into the kind that pydantic reports with the field."""
    try:
        yield
    except WindtunnelError as error:
        raise ValueError(str(error)) from error


class Manifest(Part):
    """The content of `manifest.json`. `files` maps every other file of the version, relative to its directory, to its SHA-256."""

    manifest_version: Literal[1]
    model: str
    framework: str
    spec: SerializeAsAny[Training]
    dataset: DataLineage
    metrics: SerializeAsAny[Metrics]
    environment: Environment
    created: datetime
    files: dict[str, str]

    @field_validator("model")
    @classmethod
    def _is_declared(cls, name: str) -> str:
        with _as_value_error():
            return find_model(name).name

    @field_validator("framework")
    @classmethod
    def _trains_the_model(cls, name: str, info: ValidationInfo) -> str:
        with _as_value_error():
            return find_model(info.data["model"]).framework(name).name if "model" in info.data else name

    @property
    def value(self) -> float:
        """The value of the model's metric on the test set."""
        return getattr(self.metrics, find_model(self.model).metric.name)

    @field_validator("metrics", mode="before")
    @classmethod
    def _has_the_metric(cls, metrics: Any, info: ValidationInfo) -> Any:
        return _metrics_with(find_model(info.data["model"]).metric).model_validate(metrics) if "model" in info.data else metrics

    @field_validator("spec", mode="before")
    @classmethod
    def _is_of_the_model(cls, spec: Any, info: ValidationInfo) -> Any:
        return find_model(info.data["model"]).spec.model_validate(spec) if "model" in info.data else spec


def read_manifest(directory: Path) -> Manifest:
    """Read the manifest of the version in `directory` without verifying the other files.

    Raises:
        VersionError: the manifest is missing or not valid.
    """
    file = directory / MANIFEST
    try:
        return Manifest.model_validate_json(file.read_bytes())
    except OSError as error:
        raise VersionError(f"{file} cannot be read ({error.strerror}): {directory} is not a complete version; train it again") from error
    except ValidationError as error:
        raise VersionError(f"{file} is not a manifest: {first_problem(error)}; train the version again") from error


def verify_version(directory: Path) -> Manifest:
    """Read the manifest of the version in `directory` and verify every file against it.

    Raises:
        VersionError: a file is missing, is not in the manifest, or has a different SHA-256.
    """
    manifest = read_manifest(directory)
    for name, expected in manifest.files.items():
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise VersionError(f"{directory / MANIFEST} names {name!r}, a path outside the version; do not use this version")
        file = directory / name
        if not file.is_file():
            raise VersionError(f"{file} is missing, but {MANIFEST} names it; fetch or train the version again")
        if (found := sha256(file)) != expected:
            raise VersionError(f"{file} has SHA-256 {found}, but {MANIFEST} says {expected}; fetch or train the version again")
    present = {str(file.relative_to(directory)) for file in directory.rglob("*") if file.is_file()}
    if strangers := present - set(manifest.files) - {MANIFEST, REGISTRATION, SIGNATURE}:
        raise VersionError(f"{directory / min(strangers)} is not in {MANIFEST}; fetch or train the version again")
    return manifest
