"""The files of registered versions, read without changing anything: from where the release or the run keeps them, or from MLflow."""

import hashlib
import json
import re
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

import httpx

from serving.release.release import local_copy
from windtunnel.errors import WindtunnelError
from windtunnel.manifest import MANIFEST
from windtunnel.model import find_registered
from windtunnel.registered import RegisteredVersion
from windtunnel.run import Run
from windtunnel.settings import Settings, run_directory

KEPT = 64
"""How many files stay in memory. The largest that is read, a probe with its gradients, has less than a megabyte."""

SECONDS = 10.0
"""The timeout of a download from MLflow."""


def run_of(settings: Settings, known: RegisteredVersion) -> Run | None:
    """Return the run that trained a version; None if its tag does not name one: anyone who can reach MLflow can set tags."""
    dag, _, run = known.dag_run.partition("/")
    if not re.fullmatch(r"[\w.-]+", dag) or dag in (".", "..") or not run or run in (".", ".."):
        return None
    return Run(run_directory(settings.home, dag, run))


def export_of(settings: Settings, known: RegisteredVersion) -> Path | None:
    """Return the file or folder that a server loads, if it is on this machine."""
    declared = find_registered(known.name)
    exports = (place / declared[1].export for place in _places(settings, known)) if declared else ()
    return next((export for export in exports if export.exists()), None)


class Files:
    """Reads files of versions. Each is compared with the manifest, and the manifest with the registry."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._http = httpx.Client(base_url=settings.mlflow_url, timeout=SECONDS, trust_env=False, verify=False)
        self._read = lru_cache(KEPT)(self._read_once)  # by digest, so what is kept cannot be out of date

    def digests(self, known: RegisteredVersion) -> dict[str, str]:
        """Return the SHA-256 of every file of a version, by name.

        Raises:
            WindtunnelError: the manifest cannot be read, or is not the registered one.
        """
        return json.loads(self.read(known, MANIFEST))["files"]

    def read(self, known: RegisteredVersion, file: str) -> bytes:
        """Return the content of a file of a version.

        Raises:
            WindtunnelError: the version has no such file, it cannot be read, or its SHA-256 is wrong.
        """
        expected = known.manifest_sha256 if file == MANIFEST else self.digests(known).get(file)
        if expected is None:
            raise WindtunnelError(f"{known.name} version {known.version} has no {file}")
        return self._read(known, file, expected)

    def _read_once(self, known: RegisteredVersion, file: str, expected: str) -> bytes:
        for content in self._copies(known, file):
            if hashlib.sha256(content).hexdigest() == expected:
                return content
        raise WindtunnelError(
            f"{file} of {known.name} version {known.version} has another SHA-256 than was registered. Do not use this version"
        )

    def _copies(self, known: RegisteredVersion, file: str) -> Iterator[bytes]:
        for place in _places(self._settings, known):
            try:
                yield (place / file).read_bytes()
            except OSError:
                continue
        asked = {"name": known.name, "version": str(known.version), "path": file}
        try:
            yield self._http.get("/model-versions/get-artifact", params=asked).raise_for_status().content
        except httpx.HTTPError as error:
            raise WindtunnelError(f"{file} of {known.name} version {known.version} cannot be read from MLflow ({error})") from error


def _places(settings: Settings, known: RegisteredVersion) -> list[Path]:
    """Return the folders in which a version of a declared model may be."""
    declared, run = find_registered(known.name), run_of(settings, known)
    if declared is None:  # then its name may be anything
        return []
    return [local_copy(settings, known.name, known.version), *([run.version(declared[1].name)] if run else [])]
