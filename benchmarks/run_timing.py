"""Measure how long the platform takes to start and to run `lenet5`, how long each part of the run takes, and what an idle platform costs.

    python -m benchmarks.run_timing        # starts a platform of its own; others may be running

Times mean something only on a quiet machine; the result includes the load before the measurement. Idle CPU is measured in CPU seconds.
"""

import tempfile
import time
from collections import defaultdict
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from benchmarks.running_servers import private_settings
from windtunnel.cli.params import parse_params
from windtunnel.cli.watch import watch
from windtunnel.measure import keep, load_before
from windtunnel.platform import lifecycle
from windtunnel.platform.airflow import Airflow, DagRun
from windtunnel.platform.processes import GONE, running
from windtunnel.platform.program import run_program
from windtunnel.settings import load_settings
from windtunnel.spans import Activity, divide
from windtunnel.tables import render

ACTIVITIES: dict[str, Activity] = {"framework.train": "training", "measure": "measuring"}


def main(
    param: Annotated[list[str] | None, typer.Option(help="A parameter of the run: NAME=VALUE.")] = None,
    idle: Annotated[float, typer.Option(min=1, help="Seconds for which to measure the idle platform.")] = 60,
) -> None:
    """Start a platform, run `lenet5`, measure the idle platform, then print and save the times."""
    kept = load_settings().home
    load = load_before()
    with tempfile.TemporaryDirectory() as home:
        settings = private_settings(Path(home))
        try:
            started = time.monotonic()
            lifecycle.up(settings, print)
            up = time.monotonic() - started
            airflow = Airflow(settings)
            airflow.ensure_pool()
            started = time.monotonic()
            run_id = airflow.trigger("lenet5", parse_params(param or [], airflow.params("lenet5")))
            *_, run = watch(settings, airflow, "lenet5", run_id, print)
            seconds = time.monotonic() - started
            time.sleep(10)  # let the run's remaining work finish
            before = cpu_seconds(settings.home)
            time.sleep(idle)
            after = cpu_seconds(settings.home)
            memory = {each.name: each.memory for each in lifecycle.status(settings)}
        finally:
            lifecycle.down(settings)
    busy = {name: 100 * (after[name] - before.get(name, 0)) / idle for name in after}
    parts = split(run, seconds)
    text = tabulate(up, run, seconds, parts) + tabulate_idle(busy, memory)
    print(f"{text}{load:.0f} % CPU load before; the run ended in state {run.state}")
    tasks = {task.name: task.seconds for task in run.tasks}
    keep(kept, "run", {"load": load, "up": up, "run": seconds, "parts": parts, "tasks": tasks, "idle": busy, "memory": memory}, text)


def split(run: DagRun, seconds: float) -> dict[str, float]:
    """Split the duration of a run, in seconds, into training, measuring and everything else."""
    tasks = ((task.name.partition("[")[0], task.seconds or 0.0) for task in run.tasks)
    return divide(seconds, ((ACTIVITIES[name], taken) for name, taken in tasks if name in ACTIVITIES))


def cpu_seconds(home: Path) -> dict[str, float]:
    """Return the CPU seconds that each process of a platform has used so far, including its finished children, by name."""
    found: dict[str, float] = defaultdict(float)
    for name, group in running(home).items():
        for process in group:
            with suppress(*GONE):
                found[name] += sum(process.cpu_times()[:4])
    return dict(found)


def tabulate(up: float, run: DagRun, seconds: float, parts: dict[str, float]) -> str:
    """Format the times."""
    table = Table("what", "seconds", "of the run", title="A run of lenet5")
    rows: Iterable[tuple[str, float | None]] = [*parts.items(), *((f"  {task.name}", task.seconds) for task in run.tasks)]
    table.add_row("start of the platform", f"{up:.1f}", "")
    table.add_row("run", f"{seconds:.1f}", "100%")
    for name, took in rows:
        table.add_row(name, f"{took or 0:.1f}", f"{(took or 0) / seconds:.0%}")
    return render(table)


def tabulate_idle(busy: dict[str, float], memory: dict[str, int]) -> str:
    """Format the cost of the idle platform."""
    table = Table("process", "of a core", "memory", title="The idle platform")
    for name in sorted(busy, key=lambda name: -busy[name]):
        table.add_row(name, f"{busy[name]:.2f}%", f"{memory.get(name, 0) / 2**20:,.0f} MiB")
    table.add_row("all", f"{sum(busy.values()):.2f}%", f"{sum(memory.values()) / 2**20:,.0f} MiB")
    return render(table)


if __name__ == "__main__":
    run_program(main)
