"""The manifest: what lies beside a version's artefacts and says what they are.

A directory with a manifest is a whole version, written last by the trainer (`train_server/README.md`).
"""

from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from windtunnel.errors import WindtunnelError
from windtunnel.files import sha256
from windtunnel.spec import AnySpec, Framework, first_problem

MANIFEST = "manifest.json"


class Part(BaseModel):
    """A part of the manifest: immutable, and with no field that nobody knows."""

    model_config = ConfigDict(frozen=True, extra="forbid")


class DataLineage(Part):
    """What was trained on: `files` maps a file to the SHA-256 of its uncompressed content, `fingerprint` stands for all of them."""

    name: str
    fingerprint: str
    files: dict[str, str]


class Metrics(Part):
    """Accuracy (0..1, on the test set) and mean training loss of the last epoch; seconds of training alone, and before its first step."""

    accuracy: float = Field(ge=0, le=1)
    loss: float
    seconds: float
    setup_seconds: float
    samples_per_second: float


class Environment(Part):
    """What a training run ran on."""

    packages: dict[str, str]
    threads: int
    machine: str
    cpu: str


class Manifest(Part):
    """`manifest.json`. `files` maps every other file of the version, relative to its directory, to its SHA-256."""

    manifest_version: Literal[1]
    model: Literal["lenet5", "speech_commands"]
    framework: Framework
    spec: AnySpec
    dataset: DataLineage
    metrics: Metrics
    environment: Environment
    created: datetime
    files: dict[str, str]


def read_manifest(directory: Path) -> Manifest:
    """Read the manifest of the version in `directory`, without looking at the other files.

    Raises:
        WindtunnelError: there is none, or it does not say what a manifest must.
    """
    file = directory / MANIFEST
    try:
        return Manifest.model_validate_json(file.read_bytes())
    except OSError as error:
        raise WindtunnelError(f"{file} cannot be read ({error.strerror}): {directory} is not a whole version, train it again") from error
    except ValidationError as error:
        raise WindtunnelError(f"{file} is not a manifest: {first_problem(error)}; train the version again") from error


def verify_version(directory: Path) -> Manifest:
    """Read the manifest of the version in `directory` and hold every file against it.

    Raises:
        WindtunnelError: a file is missing, is one too many, or has another SHA-256 than the manifest names.
    """
    manifest = read_manifest(directory)
    for name, expected in manifest.files.items():
        if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts:
            raise WindtunnelError(f"{directory / MANIFEST} names {name!r}, outside the version; do not use it")
        file = directory / name
        if not file.is_file():
            raise WindtunnelError(f"{file} is missing, but {MANIFEST} names it; fetch or train the version again")
        if (found := sha256(file)) != expected:
            raise WindtunnelError(f"{file} has SHA-256 {found}, but {MANIFEST} says {expected}; fetch or train the version again")
    present = {str(file.relative_to(directory)) for file in directory.rglob("*") if file.is_file()}
    if strangers := present - set(manifest.files) - {MANIFEST}:
        raise WindtunnelError(f"{directory / min(strangers)} is not in {MANIFEST}; fetch or train the version again")
    return manifest
