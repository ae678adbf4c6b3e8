"""Make a version from a trainer's files: compare the inputs with their digests, verify the export in a fresh process, write the manifest.

The steps are the same for every framework; see `train_server/README.md`.
"""

import json
import platform
import shutil
import subprocess
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

from windtunnel.data.datasets import Content
from windtunnel.errors import WindtunnelError
from windtunnel.files import sha256, write_json
from windtunnel.manifest import MANIFEST
from windtunnel.measure import cpu
from windtunnel.model import Framework, find_model
from windtunnel.platform.child_processes import ending_with_parent
from windtunnel.spec import Training


def check_conditions(spec_file: Path, data: Content, conditions: Path) -> None:
    """Compare the spec, the other conditions and the data with `conditions.json`. The data's files were verified when it was read.

    Raises:
        WindtunnelError: a file is missing or differs from `conditions.json`.
    """
    index_file = conditions / "conditions.json"
    try:
        index = json.loads(index_file.read_bytes())
        digests, dataset = index["files"], index["dataset"]
        for name in sorted({*digests, *(file.name for file in conditions.iterdir())} - {index_file.name}):
            file, expected = spec_file if name == "spec.json" else conditions / name, digests[name]
            if (found := sha256(file)) != expected:
                raise WindtunnelError(f"{file} has SHA-256 {found}, but {index_file} says {expected}: draw the conditions again")
    except OSError as error:
        raise WindtunnelError(f"{error.filename} cannot be read ({error.strerror}): draw the conditions again") from error
    except (ValueError, KeyError, TypeError) as error:
        raise WindtunnelError(f"{index_file} is malformed ({error!r}): draw the conditions again") from error
    if dataset != data.lineage():
        raise WindtunnelError(f"the data in {data.directory} differs from the data in {index_file}: draw the conditions again")


def new_directory(out: Path) -> Path:
    """Create the empty directory that a trainer writes into, next to `out`. The directory of an earlier attempt is removed.

    Raises:
        WindtunnelError: `out` exists.
    """
    if out.exists():
        raise WindtunnelError(f"{out} exists: choose another path or remove it")
    directory = out.with_name(out.name + ".partial")
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir(parents=True)
    return directory


def verify_export(command: Sequence[str], directory: Path, say: Callable[[str], object]) -> None:
    """Run a trainer's `--verify` in a fresh process; `say` receives each line that it prints.

    Raises:
        WindtunnelError: the export in `directory` differs from its golden set.
    """
    words = [*command, "--verify", str(directory)]
    done = subprocess.run(ending_with_parent(words), capture_output=True, text=True)
    for line in done.stdout.splitlines():
        say(line)
    if done.returncode:
        *before, last = done.stderr.strip().splitlines() or [f"{' '.join(words)} ended with status {done.returncode}"]
        for line in before:  # a traceback, if it is not an error that the trainer expects
            say(line)
        raise WindtunnelError(last.removeprefix("error: "))


def read_metrics(directory: Path, spec: Training) -> dict[str, float]:
    """Return the manifest's metrics, of the last epoch and of all epochs together, from the lines of `metrics.jsonl`.

    Raises:
        WindtunnelError: a line or a field is missing, or the value of the model's metric is impossible.
    """
    file, metric = directory / "metrics.jsonl", find_model(spec.model).metric
    try:
        epochs = [json.loads(line) for line in file.read_text().splitlines()]
        first, last, seconds = epochs[0], epochs[-1], sum(epoch["seconds"] for epoch in epochs)
        return {
            metric.name: metric.checked(last[metric.name]),
            "loss": last["loss"],
            "seconds": seconds,
            "setup_seconds": first["setup_seconds"],
            "samples_per_second": spec.steps * spec.batch_size / seconds,
        }
    except OSError as error:
        raise WindtunnelError(f"{file} cannot be read ({error.strerror}): fix the trainer, which must write it") from error
    except (ValueError, LookupError, TypeError, ArithmeticError) as error:
        raise WindtunnelError(f"{file} does not have the format in train_server/README.md ({error!r}): fix the trainer") from error


def write_manifest(directory: Path, spec: Training, framework: Framework, dataset: dict[str, Any]) -> None:
    """Write `manifest.json` with the digests of all files in `directory`; `packages` are the distributions whose versions it records."""
    files = sorted(file for file in directory.rglob("*") if file.is_file())
    manifest = {
        "manifest_version": 1,
        "model": spec.model,
        "framework": framework.name,
        "spec": spec.model_dump(),
        "dataset": dataset,
        "metrics": read_metrics(directory, spec),
        "environment": {
            "packages": {name: version(name) for name in framework.packages},
            "threads": spec.threads,
            "machine": platform.machine(),
            "cpu": cpu(),
        },
        "created": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        "files": {str(file.relative_to(directory)): sha256(file) for file in files},
    }
    write_json(directory / MANIFEST, manifest)
