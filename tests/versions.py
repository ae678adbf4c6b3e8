"""Versions for tests: directories that keep the trainers' contract, written in milliseconds."""

from pathlib import Path

import numpy as np
from safetensors.numpy import save

from windtunnel.files import sha256, write_json
from windtunnel.spec import Framework, Spec


def make_version(
    directory: Path, framework: Framework, spec: Spec, probe: dict[str, np.ndarray] | None = None, accuracy: float = 0.99
) -> None:
    """Write a version with the given probe and accuracy into `directory`."""
    directory.mkdir(parents=True)
    (directory / "model.pt").write_bytes(b"an export")
    (directory / "probe.safetensors").write_bytes(save(probe or {"losses": np.zeros(3, np.float32)}))
    write_json(
        directory / "manifest.json",
        {
            "manifest_version": 1,
            "model": "lenet5",
            "framework": framework,
            "spec": spec.model_dump(),
            "dataset": {"name": spec.dataset, "fingerprint": "f" * 64, "files": {}},
            "metrics": {"accuracy": accuracy, "loss": 0.01, "seconds": 35.0, "setup_seconds": 1.0, "samples_per_second": 8571.0},
            "environment": {"packages": {}, "threads": spec.threads, "machine": "x86_64", "cpu": "a CPU"},
            "created": "2026-11-22T23:46:41Z",
            "files": {name: sha256(directory / name) for name in ("model.pt", "probe.safetensors")},
        },
    )
