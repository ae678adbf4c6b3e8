"""Register, list and fetch versions in MLflow's model registry. A version is an integer, and immutable once registered."""

import shutil
from pathlib import Path

from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion

from windtunnel.errors import VersionError, WindtunnelError
from windtunnel.files import sha256
from windtunnel.manifest import MANIFEST, Manifest, verify_version
from windtunnel.model import find_model
from windtunnel.registered import RegisteredVersion, registered_version
from windtunnel.run import Lineage
from windtunnel.signatures import verify
from windtunnel.tracking import created_once


def registered_name(manifest: Manifest) -> str:
    """Return the registered model of a version, such as `lenet5-libtorch`."""
    return find_model(manifest.model).registered_name(manifest.framework)


def register(mlflow: MlflowClient, directory: Path, mlflow_run: str, lineage: Lineage) -> RegisteredVersion:
    """Register the version in `directory`, which `mlflow_run` has as its artefact `version`.

    This is idempotent: if the same bytes are already registered, return that version. A retried task changes nothing.

    Raises:
        WindtunnelError: the files in `directory` do not match its manifest.
    """
    manifest = verify_version(directory)
    name = registered_name(manifest)
    metric = find_model(manifest.model).metric
    digest = sha256(directory / MANIFEST)
    for known in list_versions(mlflow, name):
        if known.manifest_sha256 == digest:
            return known
    with created_once():
        mlflow.create_registered_model(name, description=f"{manifest.model} trained with {manifest.framework}")
    tags = {
        "framework": manifest.framework,
        metric.name: str(manifest.value),
        "dag_run": f"{lineage.dag_id}/{lineage.run_id}",
        "git_commit": lineage.git_commit,
        "data_fingerprint": manifest.dataset.fingerprint,
        "dataset": manifest.dataset.name,
        "manifest_sha256": digest,
    }
    source = f"{mlflow.get_run(mlflow_run).info.artifact_uri}/version"
    return _from_mlflow(mlflow.create_model_version(name, source, run_id=mlflow_run, tags=tags))


def list_versions(mlflow: MlflowClient, name: str | None = None) -> list[RegisteredVersion]:
    """Return the versions of all registered models, or of one, sorted by name, newest first."""
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
    """Return one version of a registered model.

    Raises:
        WindtunnelError: there is no such version.
    """
    for known in list_versions(mlflow, name):
        if known.version == number:
            return known
    raise WindtunnelError(f"there is no version {number} of {name!r} in the registry: `windtunnel models` lists all versions")


def resolve(mlflow: MlflowClient, reference: str) -> RegisteredVersion:
    """Return the version that `NAME`, `NAME@VERSION` or `NAME@ALIAS` refers to; NAME alone means the newest version.

    Raises:
        WindtunnelError: there is no such version.
    """
    name, _, wanted = reference.partition("@")
    for known in list_versions(mlflow, name):
        if wanted in ("", str(known.version), *known.aliases):
            return known
    raise WindtunnelError(f"there is no {reference!r} in the registry: `windtunnel models` lists all versions")


def fetch(mlflow: MlflowClient, known: RegisteredVersion, directory: Path, key: Path | None = None) -> Manifest:
    """Download a version from the registry into `directory`, atomically, and verify each file against the manifest.

    With a public `key`, verify its signature too.

    Raises:
        SignatureError: its signature is missing, foreign or broken.
        VersionError: a file or the manifest is missing, or differs from what was registered.
    """
    partial = directory.with_name(directory.name + ".partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    try:
        downloaded = Path(mlflow.download_artifacts(known.mlflow_run, "version", str(partial)))
        manifest_file = downloaded / MANIFEST
        if (found := sha256(manifest_file) if manifest_file.exists() else "none") != known.manifest_sha256:
            raise VersionError(
                f"{MANIFEST} of {known.name} version {known.version} has SHA-256 {found}, but {known.manifest_sha256} was registered; "
                "do not use this version; train a new one"
            )
        manifest = verify(downloaded, key, (known.name, known.version)).manifest if key else verify_version(downloaded)
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
