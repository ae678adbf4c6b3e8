"""The registry: MLflow's, with the words of Windtunnel. A version is an integer, immutable once registered."""

import shutil
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from windtunnel.errors import WindtunnelError
from windtunnel.files import sha256
from windtunnel.manifest import MANIFEST, Manifest, verify_version
from windtunnel.registered import RegisteredVersion, registered_version
from windtunnel.run import Lineage
from windtunnel.speech import SPEECH_COMMANDS
from windtunnel.tracking import created_once


def registered_name(manifest: Manifest) -> str:
    """The registered model a version belongs to, such as `lenet5-libtorch`, or `speech-commands`, which one framework trains."""
    return SPEECH_COMMANDS if manifest.model == "speech_commands" else f"{manifest.model}-{manifest.framework}"


def register(mlflow: MlflowClient, directory: Path, mlflow_run: str, lineage: Lineage) -> RegisteredVersion:
    """Register the version in `directory`, which `mlflow_run` holds as its artefact `version`.

    The same bytes become one version, however often they are registered: a task that is tried again changes nothing.

    Raises:
        WindtunnelError: the files in `directory` are not those of its manifest.
    """
    manifest = verify_version(directory)
    name = registered_name(manifest)
    digest = sha256(directory / MANIFEST)
    for known in list_versions(mlflow, name):
        if known.manifest_sha256 == digest:
            return known
    with created_once():
        mlflow.create_registered_model(name, description=f"{manifest.model} trained with {manifest.framework}")
    tags = {
        "framework": manifest.framework,
        "accuracy": str(manifest.metrics.accuracy),
        "dag_run": f"{lineage.dag_id}/{lineage.run_id}",
        "git_commit": lineage.git_commit,
        "data_fingerprint": manifest.dataset.fingerprint,
        "dataset": manifest.dataset.name,
        "manifest_sha256": digest,
    }
    source = f"{mlflow.get_run(mlflow_run).info.artifact_uri}/version"
    return _from_mlflow(mlflow.create_model_version(name, source, run_id=mlflow_run, tags=tags))


def list_versions(mlflow: MlflowClient, name: str | None = None) -> list[RegisteredVersion]:
    """All registered versions, or those of one registered model, by name, newest first."""
    models = mlflow.search_registered_models(f"name = '{name}'" if name else None)
    versions = []
    for model in models:
        aliases: dict[int, list[str]] = {}
        for alias, version in model.aliases.items():
            aliases.setdefault(int(version), []).append(alias)
        for found in _all_versions(mlflow, model.name):
            versions.append(_from_mlflow(found, tuple(sorted(aliases.get(int(found.version), [])))))
    return sorted(versions, key=lambda known: (known.name, -known.version))


def get_version(mlflow: MlflowClient, name: str, number: int) -> RegisteredVersion:
    """One version of a registered model.

    Raises:
        WindtunnelError: there is no such version.
    """
    for known in list_versions(mlflow, name):
        if known.version == number:
            return known
    raise WindtunnelError(f"there is no version {number} of {name!r} in the registry: `windtunnel models` lists what there is")


def resolve(mlflow: MlflowClient, reference: str) -> RegisteredVersion:
    """The version that `NAME`, `NAME@VERSION` or `NAME@ALIAS` means; NAME alone is its newest.

    Raises:
        WindtunnelError: there is no such version.
    """
    name, _, wanted = reference.partition("@")
    for known in list_versions(mlflow, name):
        if wanted in ("", str(known.version), *known.aliases):
            return known
    raise WindtunnelError(f"there is no {reference!r} in the registry: `windtunnel models` lists what there is")


def fetch(mlflow: MlflowClient, known: RegisteredVersion, directory: Path) -> Manifest:
    """Copy a version's files out of the registry into `directory`, whole or not at all, and hold each against the manifest.

    Raises:
        WindtunnelError: a file, or the manifest itself, is not what was registered.
    """
    partial = directory.with_name(directory.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        downloaded = Path(mlflow.download_artifacts(known.mlflow_run, "version", str(partial)))
        if (found := sha256(downloaded / MANIFEST)) != known.manifest_sha256:
            raise WindtunnelError(
                f"{MANIFEST} of {known.name} version {known.version} has SHA-256 {found}, but {known.manifest_sha256} was registered; "
                "do not use this version, train a new one"
            )
        manifest = verify_version(downloaded)
        shutil.rmtree(directory, ignore_errors=True)
        downloaded.rename(directory)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return manifest


def _all_versions(mlflow: MlflowClient, name: str) -> list[ModelVersion]:
    versions: list[ModelVersion] = []
    token: str | None = None
    while True:
        page = mlflow.search_model_versions(f"name = '{name}'", page_token=token)
        versions += page
        token = page.token
        if not token:
            return versions


def _from_mlflow(found: ModelVersion, aliases: tuple[str, ...] = ()) -> RegisteredVersion:
    return registered_version(
        found.name, int(found.version), aliases, found.tags, found.run_id or "", found.source or "", found.creation_timestamp
    )
