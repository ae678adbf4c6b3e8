"""Versions for tests: directories that keep the trainers' contract, written in milliseconds."""

from pathlib import Path

import numpy as np
from safetensors.numpy import save

from train_server.lenet5.model import Spec
from windtunnel.files import sha256, write_json
from windtunnel.manifest import MANIFEST
from windtunnel.model import find_model
from windtunnel.signatures import Registration, sign
from windtunnel.spec import Training


def make_version(
    directory: Path, framework: str, spec: Training, probe: dict[str, np.ndarray] | None = None, accuracy: float = 0.99
) -> None:
    """Write a version with the given probe and accuracy, or value of another metric, into `directory`."""
    metric = find_model(spec.model).metric.name
    directory.mkdir(parents=True)
    (directory / "model.pt").write_bytes(b"an export")
    (directory / "probe.safetensors").write_bytes(save(probe or {"losses": np.zeros(3, np.float32)}))
    write_json(
        directory / "manifest.json",
        {
            "manifest_version": 1,
            "model": spec.model,
            "framework": framework,
            "spec": spec.model_dump(),
            "dataset": {"name": spec.dataset, "fingerprint": "f" * 64, "files": {}},
            "metrics": {metric: accuracy, "loss": 0.01, "seconds": 35.0, "setup_seconds": 1.0, "samples_per_second": 8571.0},
            "environment": {"packages": {}, "threads": spec.threads, "machine": "x86_64", "cpu": "a CPU"},
            "created": "2026-11-22T23:46:41Z",
            "files": {name: sha256(directory / name) for name in ("model.pt", "probe.safetensors")},
        },
    )


def make_signed_version(directory: Path, key: Path, number: int = 3, dag_run: str = "lenet5/manual__1", accuracy: float = 0.99) -> Path:
    """Write a version of `lenet5-pytorch` into `directory`, signed with a private key, and return the directory."""
    make_version(directory, "pytorch", Spec(dataset="mnist", mean=0.1307, std=0.3081, samples=60_000), accuracy=accuracy)
    digest = sha256(directory / MANIFEST)
    sign(directory, Registration(name="lenet5-pytorch", version=number, manifest_sha256=digest, dag_run=dag_run), key)
    return directory
