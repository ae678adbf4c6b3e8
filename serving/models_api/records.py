"""A version for the page: what the registry says of it, and what its run and its last promotion add."""

import math
from pathlib import Path
from typing import Any
from urllib.parse import quote

from serving.models_api.files import export_of, run_of
from serving.models_api.history import Event
from serving.models_api.run_url import run_url
from windtunnel.benchmark_result import Benchmark, read_benchmark
from windtunnel.data.datasets import class_names
from windtunnel.errors import WindtunnelError
from windtunnel.registered import RegisteredVersion
from windtunnel.settings import Settings

Json = dict[str, Any]


def record(settings: Settings, known: RegisteredVersion, promotions: dict[tuple[str, int], Event]) -> Json:
    """Return a version as JSON. What is unknown is None.

    Args:
        settings: the platform's settings.
        known: the version.
        promotions: the last promotion of each version, as `history.promotions` returns them.
    """
    promoted = promotions.get((known.name, known.version))
    dag_id, _, run_id = known.dag_run.partition("/")
    return {
        "name": known.name,
        "version": known.version,
        "aliases": list(known.aliases),
        "metric": known.metric.name,
        "value": None if math.isnan(known.value) else known.value,
        "text": known.text or None,
        "created": known.created.isoformat(),
        "framework": _told(known.framework),
        "dag_run": _told(known.dag_run),
        "run_url": run_url(dag_id, run_id),
        "mlflow_url": f"{settings.published.mlflow_url}/#/models/{quote(known.name, safe='')}/versions/{known.version}",
        "git_commit": _told(known.git_commit),
        "data_fingerprint": _told(known.data_fingerprint),
        "dataset": _told(known.dataset),
        "classes": class_names(known.dataset),
        "size": _size(export_of(settings, known)),
        "throughput": _throughput(settings, known),
        "promoted": {key: promoted[key] for key in ("time", "action", "who", "why", "run", "run_url")} if promoted else None,
    }


def benchmark_of(settings: Settings, known: RegisteredVersion) -> Benchmark | None:
    """Return the benchmark of the run that trained a version; None if there is none, or it cannot be read."""
    run = run_of(settings, known)
    try:
        return read_benchmark(run.benchmark) if run else None
    except (WindtunnelError, OSError):
        return None


def _throughput(settings: Settings, known: RegisteredVersion) -> float | None:
    """Return the requests per second of the faster protocol, with one sample per request and `USUAL_CONCURRENCY` clients."""
    found = benchmark_of(settings, known)
    rows = [row for row in found.usual if (row.model, row.version) == (known.name, known.version) and row.measured] if found else []
    return max((row.rate for row in rows), default=None)


def _size(export: Path | None) -> int | None:
    """Return the bytes of what the server loads."""
    try:
        if export is None:
            return None
        return sum(file.stat().st_size for file in (export.rglob("*") if export.is_dir() else [export]) if file.is_file())
    except OSError:  # withdrawn meanwhile
        return None


def _told(text: str) -> str | None:
    return None if text == "unknown" else text
