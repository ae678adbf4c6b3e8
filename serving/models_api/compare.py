"""Compare two versions: their curves, certificates and benchmarks, and the test samples to which they give other labels."""

import json
import statistics
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load

from serving.models_api import history
from serving.models_api.files import run_of
from serving.models_api.labels import called, words_of
from serving.models_api.pictures import picture
from serving.models_api.records import Json, benchmark_of, record
from serving.models_api.sources import Sources
from windtunnel.data.datasets import KNOWN, TEST_IMAGES, TEST_LABELS, find
from windtunnel.data.idx import read_idx
from windtunnel.errors import WindtunnelError
from windtunnel.manifest import MANIFEST
from windtunnel.model import find_registered
from windtunnel.registered import RegisteredVersion
from windtunnel.settings import Settings

SHOWN = 60
"""How many of the samples with different answers are returned."""

IMAGES = "windtunnel.data.datasets:locate"
"""What models declare as their data whose test set this module can show."""


def compare(sources: Sources, a: tuple[str, int], b: tuple[str, int]) -> Json:
    """Return two versions, each given by its registered model and its number, side by side.

    Raises:
        NotRegisteredError: there is no such version.
        WindtunnelError: MLflow does not answer.
    """
    known = [sources.registry.version(*each) for each in (a, b)]
    promotions = history.readable_promotions(sources.settings, [])
    first, second = (_side(sources, version, promotions) for version in known)
    return {"a": first, "b": second, "differences": _differences(sources, *known)}


def _side(sources: Sources, known: RegisteredVersion, promotions: dict[tuple[str, int], history.Event]) -> Json:
    return record(sources.settings, known, promotions) | {
        "curve": _curve(sources, known),
        "certificate": _certificate(sources.settings, known),
        "benchmark": _benchmark(sources.settings, known),
    }


def _curve(sources: Sources, known: RegisteredVersion) -> list[Json]:
    """Return the loss and the value of the metric of each epoch; nothing if the version has no curve."""
    try:
        lines = [json.loads(line) for line in sources.files.read(known, "metrics.jsonl").splitlines()]
    except (WindtunnelError, ValueError):
        return []
    return [{"epoch": line.get("epoch"), "loss": line.get("loss"), "value": line.get(known.metric.name)} for line in lines]


def _certificate(settings: Settings, known: RegisteredVersion) -> Json | None:
    """Return the parity certificate of the run that trained a version."""
    run = run_of(settings, known)
    try:
        if run is None:
            return None
        passed = bool(json.loads(run.certificate.read_bytes())["passed"])
        return {"passed": passed, "text": run.certificate.with_suffix(".txt").read_text("utf-8")}
    except (OSError, ValueError, KeyError):
        return None


def _benchmark(settings: Settings, known: RegisteredVersion) -> list[Json]:
    """Return the measurements of a version in the closed loop. Latencies are medians over the rounds, in seconds."""
    found = benchmark_of(settings, known)
    rows = [row for row in found.closed() if (row.model, row.version) == (known.name, known.version) and row.measured] if found else []
    return [
        {
            "protocol": row.protocol,
            "concurrency": row.concurrency,
            "batch": row.batch,
            "requests_per_second": row.rate,
            "p50": statistics.median(row.p50) if row.p50 else None,
            "p99": statistics.median(row.p99) if row.p99 else None,
        }
        for row in rows
    ]


def _differences(sources: Sources, first: RegisteredVersion, second: RegisteredVersion) -> Json | None:
    """Return the test samples with different labels; None if the predictions of the two cannot be compared."""
    if first.data_fingerprint != second.data_fingerprint:
        return None
    predictions = [_predictions(sources, known) for known in (first, second)]
    left, right = predictions
    if left is None or right is None or left.shape != right.shape:
        return None
    words = words_of(sources.files, first)
    test = _test_set(sources, first, len(left))
    places = np.flatnonzero(left != right)
    return {
        "of": len(left),
        "count": len(places),
        "samples": [
            {
                "index": int(place),
                "label": called(int(test[1][place]), words) if test else None,
                "a": called(int(left[place]), words),
                "b": called(int(right[place]), words),
                "image": picture(test[0][place]) if test else None,
            }
            for place in places[:SHOWN]
        ],
    }


def _predictions(sources: Sources, known: RegisteredVersion) -> np.ndarray | None:
    """Return the labels that a version gave to the test set after its last epoch, int64 (N), from its probe."""
    try:
        found = load(sources.files.read(known, "probe.safetensors")).get("predictions")
    except (WindtunnelError, SafetensorError):
        return None
    return found if found is not None and found.ndim == 1 else None


def _test_set(sources: Sources, known: RegisteredVersion, count: int) -> tuple[np.ndarray, np.ndarray] | None:
    """Return the test images, uint8 (N,28,28), and their labels, if they are on this machine: they are not downloaded for a page."""
    declared = find_registered(known.name)
    if declared is None or declared[0].data != IMAGES or known.dataset not in KNOWN:
        return None
    try:
        wanted: dict[str, Any] = json.loads(sources.files.read(known, MANIFEST))["dataset"]["files"]
        if (directory := find(KNOWN[known.dataset])) is None:
            return None
        images, labels = (_verified(directory, name, str(wanted.get(name))) for name in (TEST_IMAGES, TEST_LABELS))
    except (WindtunnelError, KeyError, ValueError):
        return None
    return (images, labels) if len(images) == len(labels) == count else None


@lru_cache(4)
def _verified(directory: Path, name: str, expected: str) -> np.ndarray:
    """Read an IDX file of the test set.

    Raises:
        WindtunnelError: it cannot be read, or is not the one that the version was tested on.
    """
    array, digest = read_idx(directory / name)
    if digest != expected:
        raise WindtunnelError(f"{directory / name} has the SHA-256 {digest}, expected {expected}")
    return array
