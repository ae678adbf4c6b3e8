"""How long the platform takes to start and to run `lenet5`, what each part of the run takes, and what the platform costs while it idles.

    python -m windtunnel.timing        # on a platform of its own, beside any that is up

Times are of no use unless the machine is quiet; how busy it was before is in the result. Idle CPU is counted in seconds of CPU.
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

from windtunnel import platform
from windtunnel.airflow import Airflow, DagRun
from windtunnel.measure import keep, load_before
from windtunnel.params import parse_params
from windtunnel.ports import platform_ports
from windtunnel.processes import GONE, running
from windtunnel.program import run_program
from windtunnel.settings import Settings, load_settings
from windtunnel.spans import Activity, divide
from windtunnel.tables import render
from windtunnel.watch import watch

ACTIVITIES: dict[str, Activity] = {"framework.train": "training", "measure": "measuring"}


def main(
    param: Annotated[list[str] | None, typer.Option(help="A parameter of the run, name=value.")] = None,
    idle: Annotated[float, typer.Option(min=1, help="Seconds of idling to measure.")] = 60,
) -> None:
    """Start a platform, run `lenet5`, let it idle, print what each took, and keep that."""
    kept = load_settings().home
    load = load_before()
    with tempfile.TemporaryDirectory() as home:
        settings = Settings(home=Path(home), schedule=None, **platform_ports())
        try:
            started = time.monotonic()
            platform.up(settings, print)
            up = time.monotonic() - started
            airflow = Airflow(settings)
            airflow.ensure_pool("measured", 1, "Training and benchmarks, one at a time")
            started = time.monotonic()
            run_id = airflow.trigger("lenet5", parse_params(param or [], airflow.params("lenet5")))
            *_, run = watch(settings, airflow, "lenet5", run_id, print)
            seconds = time.monotonic() - started
            time.sleep(10)  # what the run leaves to be done
            before = cpu_seconds(settings.home)
            time.sleep(idle)
            after = cpu_seconds(settings.home)
            memory = {each.name: each.memory for each in platform.status(settings)}
        finally:
            platform.down(settings)
    busy = {name: 100 * (after[name] - before.get(name, 0)) / idle for name in after}
    parts = split(run, seconds)
    text = tabulate(up, run, seconds, parts) + tabulate_idle(busy, memory)
    print(f"{text}{load:.0f} % busy before; the run ended as {run.state}")
    tasks = {task.name: task.seconds for task in run.tasks}
    keep(kept, "run", {"load": load, "up": up, "run": seconds, "parts": parts, "tasks": tasks, "idle": busy, "memory": memory}, text)


def split(run: DagRun, seconds: float) -> dict[str, float]:
    """The seconds of a run that took so many: of those that train, those that measure, and all others."""
    tasks = ((task.name.partition("[")[0], task.seconds or 0.0) for task in run.tasks)
    return divide(seconds, ((ACTIVITIES[name], taken) for name, taken in tasks if name in ACTIVITIES))


def cpu_seconds(home: Path) -> dict[str, float]:
    """What the processes of a platform have computed so far, with those that they started and that have ended, by their name."""
    found: dict[str, float] = defaultdict(float)
    for name, group in running(home).items():
        for process in group:
            with suppress(*GONE):
                found[name] += sum(process.cpu_times()[:4])
    return dict(found)


def tabulate(up: float, run: DagRun, seconds: float, parts: dict[str, float]) -> str:
    """The times, for people."""
    table = Table("what", "seconds", "of the run", title="A run of lenet5")
    rows: Iterable[tuple[str, float | None]] = [*parts.items(), *((f"  {task.name}", task.seconds) for task in run.tasks)]
    table.add_row("start of the platform", f"{up:.1f}", "")
    table.add_row("run", f"{seconds:.1f}", "100%")
    for name, took in rows:
        table.add_row(name, f"{took or 0:.1f}", f"{(took or 0) / seconds:.0%}")
    return render(table)


def tabulate_idle(busy: dict[str, float], memory: dict[str, int]) -> str:
    """What idling costs, for people."""
    table = Table("process", "of a core", "memory", title="The idle platform")
    for name in sorted(busy, key=lambda name: -busy[name]):
        table.add_row(name, f"{busy[name]:.2f}%", f"{memory.get(name, 0) / 2**20:,.0f} MiB")
    table.add_row("all", f"{sum(busy.values()):.2f}%", f"{sum(memory.values()) / 2**20:,.0f} MiB")
    return render(table)


if __name__ == "__main__":
    run_program(main)
