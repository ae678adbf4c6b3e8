"""Measure whether the platform stays as it is: mixed traffic over every protocol, and a release of every model each minute.

    make bench-soak                              # an hour, on a platform of its own
    python -m benchmarks.soak --minutes 10

Each request asks for what the version's trainer answered. A release is a rollback, which changes between two versions. Memory is the
proportional set size of a process and its children. What grows is told from what has been filled once by the slope of the second half.
"""

import sqlite3
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, closing, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table
from safetensors.numpy import load_file

from benchmarks.running_servers import private_settings
from serving.backends.base import Protocol, served_model
from serving.load.generators import OpenLoop, Sample, percentile
from serving.release.release import Cause, Release, local_copy
from windtunnel.aliases import Aliases
from windtunnel.cli.params import parse_params
from windtunnel.cli.watch import watch
from windtunnel.errors import WindtunnelError
from windtunnel.measure import cpu, keep, load_before
from windtunnel.platform import lifecycle
from windtunnel.platform.airflow import Airflow
from windtunnel.platform.processes import GONE, memory, running
from windtunnel.platform.program import run_program
from windtunnel.run import git_commit
from windtunnel.settings import ROOT, Settings, load_settings
from windtunnel.tables import render

RUNS = {
    "lenet5": ("frameworks=pytorch,tensorflow", "samples=10000", "epochs=1", "benchmark_seconds=0", "margin=1"),
    "speech_commands": ("dataset=demonstration", "epochs=1", "tune=false", "baseline=false", "margin=1"),
}
"""The DAGs that train two versions of each model, and their parameters: whatever its accuracy, a version is promoted."""
MODELS = ("lenet5-pytorch", "lenet5-tensorflow", "speech-commands")
RATE = 10.0  # requests per second and protocol
RELEASE_SECONDS = 60.0
SAMPLE_SECONDS = 10.0
MOST = 1.0  # MiB per minute by which the memory of a process may grow
MIB = 2**20


@dataclass(frozen=True)
class Use:
    """What a process and its children use: memory in bytes, open file descriptors, and threads."""

    memory: int
    descriptors: int
    threads: int


@dataclass(frozen=True)
class Look:
    """What there is, `seconds` after the start: uses by process, files below the home by folder, rows by table."""

    seconds: float
    uses: Mapping[str, Use]
    files: Mapping[str, int]
    rows: Mapping[str, int]


def look(settings: Settings, started: float) -> Look:
    """Look at the platform."""
    uses = {}
    for name, group in running(settings.home).items():
        counts = [0, 0, 0]
        for process in group:
            with suppress(*GONE):
                counts = [sum(pair) for pair in zip(counts, (memory(process), process.num_fds(), process.num_threads()), strict=True)]
        uses[name] = Use(*counts)
    folders = sorted(folder for folder in settings.home.iterdir() if folder.is_dir())
    files = {folder.name: sum(file.is_file() for file in folder.rglob("*")) for folder in folders}
    return Look(time.monotonic() - started, uses, files, _rows(settings.home))


def _rows(home: Path) -> dict[str, int]:
    found = {}
    for file in sorted(home.rglob("*.db")):
        with closing(sqlite3.connect(f"file:{file}?mode=ro", uri=True, timeout=30)) as database:
            names = [name for (name,) in database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
            for name in names:
                found[f"{file.stem}.{name}"] = database.execute(f'SELECT count(*) FROM "{name}"').fetchone()[0]
    return found


def asker(settings: Settings, name: str, protocol: Protocol) -> Callable[[int], int | None]:
    """Return a function that asks a model for one sample, and returns the version that answered, or None if it was neither."""
    release, aliases = Release(settings, name), Aliases(settings).of(name)
    numbers = (aliases["champion"], aliases["previous"])
    golden = {number: load_file(local_copy(settings, name, number) / "golden.safetensors") for number in numbers}
    sample = golden[numbers[0]][served_model(name).input.name][:1]
    wanted = {number: each["logits"][:1] for number, each in golden.items()}

    def ask(_: int) -> int | None:
        found = release.server.predict(name, sample, protocol=protocol)["logits"]
        return next((number for number, logits in wanted.items() if np.allclose(found, logits, rtol=1e-4, atol=1e-4)), None)

    return ask


def train(settings: Settings, airflow: Airflow) -> None:
    """Train and release two versions of each model, which become `previous` and `champion`.

    Raises:
        WindtunnelError: a run failed.
    """
    for dag, params in RUNS.items():
        for seed in (1, 2):
            run_id = airflow.trigger(dag, parse_params([*params, f"seed={seed}"], airflow.params(dag)))
            *_, run = watch(settings, airflow, dag, run_id, lambda line: None)
            print(f"{dag} with seed {seed}: {run.state}", flush=True)
            if run.state != "success":
                raise WindtunnelError(f"the run {run_id} of {dag} is {run.state}: see the tasks' logs in {settings.logs}")


def soak(settings: Settings, seconds: float) -> tuple[dict[str, list[Sample]], list[Look], int]:
    """Send requests and release for so long; return the samples by server and protocol, the looks, and the number of releases."""
    releases = {name: Release(settings, name) for name in MODELS}
    started = time.monotonic()
    looks, released = [look(settings, started)], 0
    with ExitStack() as running_loads:
        loads = {
            f"{release.server.name} {protocol}": running_loads.enter_context(OpenLoop(asker(settings, name, protocol), RATE))
            for name, release in releases.items()
            for protocol in release.server.protocols
        }
        while (now := time.monotonic() - started) < seconds:
            if now >= (released + 1) * RELEASE_SECONDS:
                for release in releases.values():
                    release.rollback(Cause("soak", "one release a minute"))
                released += 1
            time.sleep(max(0.0, started + len(looks) * SAMPLE_SECONDS - time.monotonic()))
            looks.append(look(settings, started))
    return {name: load.samples for name, load in loads.items()}, looks, released * len(releases)


def slope(looks: list[Look], name: str) -> float:
    """Return by how much the memory of a process grows in the second half, in MiB per minute: a line through it by least squares."""
    half = [each for each in looks[len(looks) // 2 :] if name in each.uses]
    if len(half) < 2:
        return 0.0
    return float(np.polyfit([each.seconds / 60 for each in half], [each.uses[name].memory / MIB for each in half], 1)[0])


def tabulate(traffic: Mapping[str, list[Sample]], looks: list[Look]) -> str:
    """Format the requests, the processes, and what else has grown."""
    requests = Table("requests", title=f"{looks[-1].seconds / 60:.0f} minutes of traffic, and a release of each model a minute")
    for heading in ("sent", "failed", "p50", "p99"):
        requests.add_column(heading, justify="right")
    for name, samples in traffic.items():
        times = [f"{1000 * percentile([each.latency for each in samples], share):.1f} ms" for share in (50, 99)]
        requests.add_row(name, f"{len(samples):,}", f"{failed(samples):,}", *times)
    processes = Table("process", title="The processes, at the middle and at the end")
    for heading in ("memory", "slope, MiB/min", "descriptors", "threads"):
        processes.add_column(heading, justify="right")
    middle, end = looks[len(looks) // 2], looks[-1]
    for name in sorted(end.uses):
        before, after = middle.uses.get(name, end.uses[name]), end.uses[name]
        counts = [f"{first}, {last}" for first, last in ((before.descriptors, after.descriptors), (before.threads, after.threads))]
        sizes = f"{before.memory / MIB:.0f}, {after.memory / MIB:.0f} MiB"
        processes.add_row(name, sizes, f"{slope(looks, name):+.2f}", *counts)
    grown = [
        f"{kind} {name}: {before.get(name, 0):,} to {count:,}"
        for kind, before, after in (("files in", middle.files, end.files), ("rows of", middle.rows, end.rows))
        for name, count in after.items()
        if count > before.get(name, 0)
    ]
    return render(requests) + render(processes) + "Grown in the second half: " + ("; ".join(grown) or "no files and no rows") + "\n"


def failed(samples: list[Sample]) -> int:
    """Return how many requests had no answer, or one of neither version."""
    return sum(not isinstance(each.answer, int) for each in samples)


def main(minutes: Annotated[float, typer.Option(min=2, help="Length of the measurement.")] = 60) -> None:
    """Start a platform, train, measure, and write `soak.json` and `soak.txt` into the `benchmarks` folder of the usual platform's home."""
    kept, load = load_settings().home, load_before()
    with tempfile.TemporaryDirectory() as home:
        settings = private_settings(Path(home))
        try:
            lifecycle.up(settings, print)
            airflow = Airflow(settings)
            airflow.ensure_pool()
            train(settings, airflow)
            traffic, looks, releases = soak(settings, 60 * minutes)
        finally:
            lifecycle.down(settings)
    text = tabulate(traffic, looks) + f"{releases} releases\n"
    print(text, end="")
    result: dict[str, Any] = {"commit": git_commit(ROOT), "cpu": cpu(), "load_before": load, "releases": releases}
    result["requests"] = {name: {"sent": len(samples), "failed": failed(samples)} for name, samples in traffic.items()}
    result["slopes"] = {name: slope(looks, name) for name in looks[-1].uses}
    keep(kept, "soak", result | {"looks": [asdict(each) for each in looks]}, text)
    errors = [each.answer for samples in traffic.values() for each in samples if not isinstance(each.answer, int)]
    if errors:
        raise WindtunnelError(f"{len(errors)} requests failed, the first: {errors[0] or 'the answer of neither version'}")
    if grown := [f"{name} {rate:.2f}" for name, rate in result["slopes"].items() if rate > MOST]:
        raise WindtunnelError(f"memory grew by more than {MOST:g} MiB a minute: {', '.join(grown)}")


if __name__ == "__main__":
    run_program(main)
